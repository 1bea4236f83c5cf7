"""ICT-FaceKit Light: the rig built on its shapes, its regions, and refusing what is not that model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ict_files import ict_asset

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import SkinnedHead, load_head, read_head, write_head
from vultus.heads.arkit import arkit_to_params, unsupported
from vultus.heads.ict import load_ict
from vultus.heads.ict.layout import EXPRESSIONS, PARTS, shape_name


@pytest.fixture(scope="module")
def head() -> SkinnedHead:
    return load_head(ict_asset("ict_facekit_light.npz"))


def moved(head: SkinnedHead, region: str, **weights: float) -> torch.Tensor:
    change = head.pose(arkit_to_params(head, weights)).vertices - head.template
    return change[head.regions[region]].mean(0)


def test_it_is_a_head_of_human_size(head: SkinnedHead) -> None:
    height, width = (head.template.max(0).values - head.template.min(0).values)[[1, 0]].tolist()
    assert 0.3 < height < 0.4
    assert 0.2 < width < 0.3
    marks = head.landmarks(head.template, "ibug68")
    assert marks[45, 0] > 0 > marks[36, 0]  # the subject's left is +x
    assert marks[45, 0] - marks[36, 0] == pytest.approx(0.0892, abs=2e-4)
    assert marks[27, 1] > marks[8, 1]  # the right way up
    assert marks[30, 2] > marks[[36, 45], 2].max()  # the nose points along +z
    assert head.expression_names[:53] == tuple(map(shape_name, EXPRESSIONS))
    assert head.license.startswith("MIT")


def test_surface_points_outwards(head: SkinnedHead) -> None:
    a, b, c = head.template[head.faces].unbind(1)
    scalp = torch.isin(head.faces, head.regions["scalp"]).all(1)
    normal, place = torch.linalg.cross(b - a, c - a)[scalp], a[scalp] - head.template[head.regions["face"]].mean(0)
    assert ((normal * place).sum(1) > 0).float().mean() > 0.9  # not behind the ears


def test_texture_coordinates_do_not_share_places(head: SkinnedHead) -> None:
    assert head.uvs.min() >= 0
    assert head.uvs.max() <= 1
    first, second = (
        head.uvs[head.uv_faces[(head.faces >= start).all(1) & (head.faces < end).all(1)]].flatten(0, 1)
        for start, end in ((0, 6706), PARTS["eyeball_left"][:2])
    )
    assert (first[:, 0] <= 0.5).float().mean() > 0.99  # seams with the back of the head have a few others
    assert second[:, 0].min() >= 0.5


def test_eyes_turn_about_their_centres(head: SkinnedHead) -> None:
    archive = read_npz(ict_asset("ict_facekit_light.npz"))
    identity = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    joints = head.pose(replace(head.neutral(8), identity=identity)).joints[:, 2:]
    basis = torch.from_numpy(archive["eye_centre_identity_basis"])
    expected = torch.from_numpy(archive["eye_centres"]) + torch.einsum("bi,iec->bec", identity, basis)
    assert (joints - expected).norm(dim=-1).max() < 2.5e-4
    assert moved(head, "left_iris", eyeLookOutLeft=1.0)[0] > 0.004
    assert moved(head, "right_iris", eyeLookOutRight=1.0)[0] < -0.004
    assert moved(head, "left_iris", eyeLookUpLeft=1.0)[1] > 0.003
    assert moved(head, "right_iris", eyeLookUpLeft=1.0).abs().max() < 1e-6
    # A sphere that turns about its centre stays where it is.
    sclera = torch.arange(*PARTS["eyeball_left"][:2])
    turned = head.pose(arkit_to_params(head, {"eyeLookOutLeft": 1.0})).vertices[sclera]
    radius = [
        (v - joints.new_tensor([0.0311, 0.03605, 0.0789])).norm(dim=-1).max() for v in (turned, head.template[sclera])
    ]
    assert radius[0] == pytest.approx(float(radius[1]), abs=5e-4)


def test_the_neck_bends_and_the_skull_stays_rigid(head: SkinnedHead) -> None:
    params = head.neutral()
    params.joints["neck"][1] = 0.5
    posed, motion = head.pose(params), head.head_to_world(params)
    rigid = posed.rest @ motion[:3, :3].T + motion[:3, 3]
    for name in ("face", "teeth", "mouth_bag", "scalp", "lips"):
        assert (posed.vertices - rigid)[head.regions[name]].norm(dim=-1).median() < 1e-5, name
    border = head.regions["boundary"]
    assert (posed.vertices - posed.rest)[border].norm(dim=-1).mean() < 0.02
    torch.testing.assert_close(head.weights.sum(1), torch.ones(len(head.template)))


def test_names_move_what_they_say(head: SkinnedHead) -> None:
    assert unsupported(head) == ("tongueOut",)
    assert moved(head, "teeth_lower", jawOpen=1.0)[1] < -0.01
    assert moved(head, "teeth_upper", jawOpen=1.0).abs().max() < 1e-6
    assert (
        moved(head, "left_eyelid", eyeBlinkLeft=1.0).norm() > 10 * moved(head, "right_eyelid", eyeBlinkLeft=1.0).norm()
    )
    assert moved(head, "lip_lower", jawOpen=1.0)[1] < moved(head, "lip_upper", jawOpen=1.0)[1] - 0.01


def test_regions_are_where_they_should_be(head: SkinnedHead) -> None:
    middle = {name: head.template[indices].mean(0) for name, indices in head.regions.items()}
    assert all(len(indices) > 20 for indices in head.regions.values())
    assert middle["left_eyeball"][0] > 0 > middle["right_eyeball"][0]
    assert middle["left_ear"][0] > 0.06
    assert middle["lip_upper"][1] > middle["lip_lower"][1]
    assert middle["scalp"][1] > middle["face"][1] > middle["neck"][1] > middle["boundary"][1]
    front = head.template[head.regions["left_iris"], 2].min()
    assert front > head.template[head.regions["left_eyeball"], 2].mean()


def test_own_file_keeps_everything(head: SkinnedHead, tmp_path: Path) -> None:
    write_head(tmp_path / "ict.npz", head)
    again = read_head(tmp_path / "ict.npz")
    assert again.fingerprint == head.fingerprint
    assert again.joint_names == ("root", "neck", "left_eye", "right_eye")


def test_a_folder_with_few_shapes_says_what_is_missing() -> None:
    folder = ict_asset("ict_facekit_sample")
    with pytest.warns(UserWarning, match="151 shapes"):
        head = load_ict(folder)
    assert head.expression_names == ("jawOpen",)
    assert head.identity_names == ("identity_000",)
    with pytest.warns(UserWarning, match="151 shapes"):
        assert load_head(folder / "FaceXModel").fingerprint == head.fingerprint


def small_archive() -> dict[str, np.ndarray]:
    """An archive in the right layout whose shapes are empty."""
    return {
        "format": np.array("ict-facekit-light-compact/1"),
        "vertices": np.zeros((26719, 3), np.float32),
        "quads": np.zeros((26384, 4), np.int32),
        "quads_uv": np.zeros((26384, 4), np.int32),
        "uv": np.zeros((28911, 2), np.float32),
        "expression_names": np.array(["jawOpen"]),
        "expression_q": np.zeros((1, 26719, 3), np.int16),
        "expression_scale": np.ones(1, np.float32),
        "identity_names": np.array(["identity000"]),
        "identity_q": np.zeros((1, 26719, 3), np.int16),
        "identity_scale": np.ones(1, np.float32),
    }


def changed(key: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key] = value(arrays[key])

    return change


@pytest.mark.filterwarnings("ignore:.*shapes of ICT-FaceKit are missing")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("quads"), "quads"),
        (changed("vertices", lambda v: v[:-1]), "vertices"),
        (changed("vertices", lambda v: v * np.nan), "not finite"),
        (changed("quads", lambda v: v + 99999), "corners"),
        (changed("quads_uv", lambda v: v - 2), "corners"),
        (changed("expression_q", lambda v: v.astype(np.float32)), "expression_q"),
        (changed("identity_scale", lambda v: v * np.inf), "not finite"),
        (changed("format", lambda v: np.array("other/1")), "not an archive"),
        (lambda arrays: None, "neck"),  # everything at one point
    ],
)
def test_broken_archives(tmp_path: Path, change: Callable[[dict[str, np.ndarray]], None], message: str) -> None:
    arrays = small_archive()
    change(arrays)
    write_npz(tmp_path / "ict.npz", **arrays)
    with pytest.raises(VultusError, match=message):
        load_ict(tmp_path / "ict.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "0 lines 'v'"),
        (b"v 1 2 3\n" * 26719, "lines 'vt'"),
        (b"v 1 2 x\n" * 26719, "no number|do not hold"),
        (b"v 1 2\n" * 26719, "do not hold"),
        (b"v 1 2 1e999\n" * 26719, "not finite"),
        (b"v 1 2 3\n" * 26719 + b"vt 0 0\n" * 28911 + b"f 1/1 2/2\n" * 26384, "polygons"),
        (b"v 1 2 3\n" * 26719 + b"vt 0 0\n" * 28911 + b"f 1 2 3\n" * 26384, "without vertex"),
        (b"v 1 2 3\n" * 26719 + b"vt 0 0\n" * 28911 + b"f 1/1 2/2 30000/3\n" * 26384, "outside"),
    ],
)
def test_broken_folders(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "generic_neutral_mesh.obj").write_bytes(text)
    with pytest.raises(VultusError, match=message):
        load_ict(tmp_path)
