"""Loading FLAME from synthetic files in its layout, converting it once, and refusing what is not FLAME."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import SkinnedHead, load_head, read_head, write_head
from vultus.heads.contour import contour_rows, pose_yaw_degrees, yaw_degrees
from vultus.heads.flame import load_flame
from vultus.heads.flame.companions import read_landmark_embedding
from vultus.rotations import axis_angle_to_matrix

VERTICES, FACES = 5023, 9976
EYELID_VERTICES = slice(100, 140)


def flame_content() -> dict[str, Any]:
    """A dictionary in the layout of FLAME's pickle with smooth random numbers."""
    rng = np.random.default_rng(3)
    shapes = np.zeros((VERTICES, 3, 400), np.float32)
    for columns in (slice(0, 3), slice(299, 302), slice(398, 400)):
        shapes[..., columns] = 0.01 * rng.standard_normal((VERTICES, 3, columns.stop - columns.start))
    weights = rng.random((VERTICES, 5))
    regressor = np.zeros((5, VERTICES))
    regressor[:, :50] = rng.random((5, 50))
    faces = np.stack([np.arange(FACES) % VERTICES, (np.arange(FACES) + 1) % VERTICES, np.arange(FACES) * 7 % VERTICES])
    return {
        "v_template": 0.1 * rng.standard_normal((VERTICES, 3)),
        "shapedirs": shapes,
        "posedirs": np.asfortranarray(0.001 * rng.standard_normal((VERTICES, 3, 36))),
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": faces.T.astype(np.uint32),
        "bs_style": "lbs",
    }


@pytest.fixture(scope="module")
def flame_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with all its companion files."""
    folder, rng, content = tmp_path_factory.mktemp("flame"), np.random.default_rng(4), flame_content()
    (folder / "flame2023.pkl").write_bytes(pickle.dumps(content, 2))
    uvs = rng.random((5118, 2))
    lines = [f"v {x} 0 0" for x in range(3)] + [f"vt {u:.6f} {v:.6f}" for u, v in uvs]
    lines += ["f " + " ".join(f"{v + 1}/{v + 3}" for v in face) for face in content["f"]]
    (folder / "head_template_mesh.obj").write_text("\n".join(lines))
    masks = {name: rng.permutation(VERTICES)[:200] for name in ("face", "neck", "scalp", "boundary", "lips")}
    masks |= {
        f"{side}_{part}": rng.permutation(VERTICES)[:300]
        for side in ("left", "right")
        for part in ("ear", "eyeball", "eye_region")
    }
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(masks, 2))

    def weights(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(3), shape)

    embedding = {
        "full_lmk_faces_idx": rng.integers(0, FACES, (1, 70)),
        "full_lmk_bary_coords": weights(1, 70),
        "dynamic_lmk_faces_idx": torch.from_numpy(rng.integers(0, FACES, (79, 17))),
        "dynamic_lmk_bary_coords": torch.from_numpy(weights(79, 17)).float(),
    }
    np.save(folder / "landmark_embedding_with_eyes.npy", np.array(embedding, dtype=object))
    write_npz(
        folder / "mediapipe_landmark_embedding.npz",
        lmk_face_idx=rng.integers(0, FACES, 105).astype(np.uint32),
        lmk_b_coords=weights(105),
        landmark_indices=rng.permutation(468)[:105],
    )
    lid = np.zeros((VERTICES, 3))
    lid[EYELID_VERTICES, 1] = -0.009
    np.save(folder / "l_eyelid.npy", lid)
    np.save(folder / "r_eyelid.npy", lid[::-1])
    return folder


@pytest.fixture(scope="module")
def flame(flame_folder: Path) -> SkinnedHead:
    return load_flame(flame_folder)


def test_layout(flame: SkinnedHead) -> None:
    content = flame_content()
    assert flame.template.shape == (5143, 3)
    assert flame.faces.shape == (10144, 3)
    assert flame.uvs.shape == (5238, 2)
    assert len(flame.identity_names) == 300
    assert flame.expression_names[99:] == ("expression_099", "eyeBlinkLeft", "eyeBlinkRight")
    assert flame.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
    np.testing.assert_allclose(flame.template[:VERTICES].numpy(), content["v_template"], atol=1e-7)
    np.testing.assert_array_equal(flame.identity_basis[:VERTICES].numpy(), content["shapedirs"][..., :300])
    np.testing.assert_array_equal(flame.expression_basis[:VERTICES, :, :100].numpy(), content["shapedirs"][..., 300:])
    np.testing.assert_allclose(flame.joint_regressor[:, :VERTICES].numpy(), content["J_regressor"].toarray(), atol=1e-7)
    torch.testing.assert_close(flame.weights.sum(1), torch.ones(5143))
    assert "CC-BY" in flame.license


def test_closing_an_eye_moves_its_lid(flame: SkinnedHead) -> None:
    params = flame.neutral()
    params.expression[flame.expression_names.index("eyeBlinkLeft")] = 1.0
    moved = flame.rest_vertices(params) - flame.template
    assert torch.nonzero(moved.norm(dim=-1) > 1e-3)[:, 0].tolist() == list(range(100, 140))


def test_regions(flame: SkinnedHead) -> None:
    regions = {name: set(indices.tolist()) for name, indices in flame.regions.items()}
    assert regions["eyeballs"] == regions["left_eyeball"] | regions["right_eyeball"]
    assert regions["hair"] == regions["scalp"] - regions["face"] - regions["neck"]
    assert regions["sclerae"] == regions["eyeballs"] - regions["irises"]
    assert not regions["skin"] & (regions["lips"] | regions["boundary"] | regions["eyeballs"])
    assert len(flame.regions["left_iris"]) == 97
    front = flame.template[flame.regions["left_iris"], 2].min()
    assert int((flame.template[flame.regions["left_eyeball"], 2] > front).sum()) == 96
    assert regions["left_half"] | regions["right_half"] == set(range(VERTICES))
    assert regions["teeth"] == set(range(5023, 5143))
    assert regions["teeth_upper"] | regions["teeth_lower"] == regions["teeth"]
    # Upper teeth hang on the neck joint, lower ones on the jaw.
    assert bool((flame.weights[flame.regions["teeth_upper"], 1] == 1).all())
    assert bool((flame.weights[flame.regions["teeth_lower"], 2] == 1).all())
    assert {name: len(flame.regions[name]) for name in ("neck_left_point", "front_bottom_point", "bottomline")} == {
        "neck_left_point": 1,
        "front_bottom_point": 1,
        "bottomline": 30,
    }


def test_landmarks(flame: SkinnedHead) -> None:
    posed = flame.pose(flame.neutral())
    points = flame.landmarks(posed.vertices, "mediapipe")
    assert points.shape == (115, 3)
    torch.testing.assert_close(points[105], posed.vertices[4597])
    assert flame.landmark_sets["mediapipe"].ids[105:].tolist() == list(range(468, 478))
    assert flame.landmarks(posed.vertices.expand(2, -1, -1), "ibug68").shape == (2, 70, 3)
    assert flame.contour is not None
    jaw = flame.contour.landmarks(posed.vertices.expand(2, -1, -1), flame.faces, torch.tensor([0, 78]))
    face, weight = flame.contour.faces[78, 3], flame.contour.barycentric[78, 3]
    torch.testing.assert_close(jaw[1, 3], weight @ posed.vertices[flame.faces[face]])


def test_yaw_rows_are_those_of_a_turned_head() -> None:
    degrees = torch.tensor([-60.0, -39.4, -1.4, 0.2, 0.8, 20.3, 39.6, 80.0], dtype=torch.float64)
    assert contour_rows(degrees).tolist() == [78, 78, 40, 0, 1, 20, 39, 39]
    turn = torch.deg2rad(degrees)[:, None] * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(yaw_degrees(axis_angle_to_matrix(turn)), degrees)
    torch.testing.assert_close(pose_yaw_degrees(turn / 3, 2 * turn / 3), degrees, atol=1e-4, rtol=0)


def test_fewer_components_and_no_teeth(flame_folder: Path, flame: SkinnedHead) -> None:
    small = load_flame(flame_folder, n_identity=3, n_expression=2, with_teeth=False, name="flame-small")
    assert small.template.shape == (VERTICES, 3)
    assert small.fingerprint != flame.fingerprint
    params, full = small.neutral(), flame.neutral()
    for each in (params, full):
        each.identity[:3] = torch.tensor([1.0, -2.0, 0.5])
        each.expression[:2] = torch.tensor([0.3, 0.7])
        each.joints["jaw"][0] = 0.2
    torch.testing.assert_close(small.pose(params).vertices, flame.pose(full).vertices[:VERTICES], atol=1e-6, rtol=0)


def test_converted_once_it_is_the_same_model(flame: SkinnedHead, tmp_path: Path) -> None:
    write_head(tmp_path / "flame.npz", flame, source={"file": "flame2023.pkl", "sha256": "ab"})
    back = load_head(tmp_path / "flame.npz")
    assert back.fingerprint == flame.fingerprint
    assert (back.name, back.license, back.expression_names) == (flame.name, flame.license, flame.expression_names)
    for name, indices in flame.regions.items():
        assert torch.equal(back.regions[name], indices)
    for name, landmarks in flame.landmark_sets.items():
        assert torch.equal(back.landmark_sets[name].faces, landmarks.faces)
        assert torch.equal(back.landmark_sets[name].barycentric, landmarks.barycentric)
    assert flame.contour is not None
    assert back.contour is not None
    assert torch.equal(back.contour.barycentric, flame.contour.barycentric)
    assert load_head(tmp_path / "flame.npz") is back


@pytest.mark.parametrize(
    "file", ["head_template_mesh.obj", "FLAME_masks.pkl", "landmark_embedding_with_eyes.npy", "l_eyelid.npy"]
)
def test_companions_are_optional(flame_folder: Path, tmp_path: Path, file: str) -> None:
    for source in flame_folder.iterdir():
        if source.name != file:
            (tmp_path / source.name).symlink_to(source)
    assert load_head(tmp_path).template.shape == (5143, 3)


def change(content: dict[str, Any], key: str, function: Callable[[Any], Any]) -> dict[str, Any]:
    return content | {key: function(content[key])}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: {k: v for k, v in c.items() if k != "weights"}, "weights"),
        (lambda c: change(c, "v_template", lambda v: v[:100]), "v_template has the shape"),
        (lambda c: change(c, "shapedirs", lambda v: v[..., :20]), "shapedirs has the shape"),
        (lambda c: change(c, "v_template", lambda v: v * np.nan), "not finite"),
        (lambda c: change(c, "weights", lambda v: 2 * v), "do not sum to 1"),
        (lambda c: change(c, "f", lambda v: v + 5000), "triangles"),
        (lambda c: change(c, "f", lambda v: v.astype(float)), "indices 'f'"),
        (lambda c: change(c, "kintree_table", lambda v: v[:, ::-1]), "joints"),
        (lambda c: [c], "not a FLAME model"),
    ],
)
def test_not_flame(tmp_path: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(edit(flame_content()), 2))
    with pytest.raises(VultusError, match=rf"x\.pkl.*{message}"):
        load_flame(tmp_path / "x.pkl")


def test_folders_and_names(flame_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VultusError, match="holds no FLAME model"):
        load_head(tmp_path)
    with pytest.raises(VultusError, match=r"there is no such head model; give 'builtin'"):
        load_head(tmp_path / "none.pkl")
    (tmp_path / "head.txt").write_text("")
    with pytest.raises(VultusError, match="not a head model"):
        load_head(tmp_path / "head.txt")
    for name in ("flame2023.pkl", "generic_model.pkl"):
        (tmp_path / name).symlink_to(flame_folder / "flame2023.pkl")
    with pytest.raises(VultusError, match="several FLAME models"):
        load_head(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("head_template_mesh.obj", "v 0 0 0\nvt 0 0\nf 1/1 1/1 1/1\n", "not those of the model"),
        ("head_template_mesh.obj", "vt 0 0\nf 1/1 1/1 1/9\n", "out of range"),
        ("head_template_mesh.obj", "vt 0 0\nf 1/1 1/1 1/1 1/1\n", "no triangle"),
        ("head_template_mesh.obj", "vt 0 zero\n", "template OBJ"),
        ("head_template_mesh.obj", f"vt 0 0\nf {10**30}/1 1/1 1/1\n", "template OBJ|not those"),
        ("FLAME_masks.pkl", pickle.dumps({"face": np.array([5023])}, 2), "another mesh"),
        ("FLAME_masks.pkl", pickle.dumps({"face": [1, 2]}, 2), "list of indices"),
        ("landmark_embedding_with_eyes.npy", b"\x93NUMPY", "readable"),
        ("l_eyelid.npy", b"", "readable"),
    ],
)
def test_damaged_companions(flame_folder: Path, tmp_path: Path, file: str, content: str | bytes, message: str) -> None:
    for source in flame_folder.iterdir():
        if source.name != file:
            (tmp_path / source.name).symlink_to(source)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VultusError, match=message):
        load_flame(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("full_lmk_faces_idx", np.full((1, 70), FACES)),
        ("full_lmk_faces_idx", np.zeros(70, np.int64)),
        ("full_lmk_faces_idx", np.zeros((1, 70))),
        ("full_lmk_bary_coords", np.full((1, 70, 3), 0.5)),
        ("full_lmk_bary_coords", np.full((1, 70, 3), np.nan)),
        ("full_lmk_bary_coords", np.zeros((1, 4))),
        ("dynamic_lmk_faces_idx", np.zeros((78, 17), np.int64)),
        ("dynamic_lmk_bary_coords", "text"),
        ("full_lmk_bary_coords", None),
    ],
)
def test_malformed_embeddings(flame_folder: Path, tmp_path: Path, key: str, value: Any) -> None:
    good = np.load(flame_folder / "landmark_embedding_with_eyes.npy", allow_pickle=True)[()]
    np.save(tmp_path / "e.npy", np.array(good | {key: value}, dtype=object))
    with pytest.raises(VultusError, match=r"e\.npy"):
        read_landmark_embedding(tmp_path / "e.npy", FACES)


def test_older_embedding_files(flame_folder: Path, tmp_path: Path) -> None:
    good = np.load(flame_folder / "landmark_embedding_with_eyes.npy", allow_pickle=True)[()]
    rows = {
        "lmk_face_idx": [row.numpy().astype(np.uint32) for row in good["dynamic_lmk_faces_idx"]],
        "lmk_b_coords": [row.double().numpy() for row in good["dynamic_lmk_bary_coords"]],
    }
    np.save(tmp_path / "flame_dynamic_embedding.npy", np.array(rows, dtype=object))
    static = {
        "lmk_face_idx": good["full_lmk_faces_idx"][0, 17:68].astype(np.uint32),
        "lmk_b_coords": good["full_lmk_bary_coords"][0, 17:68],
    }
    (tmp_path / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static, 2))
    (tmp_path / "generic_model.pkl").symlink_to(flame_folder / "flame2023.pkl")
    old, new = load_flame(tmp_path), load_flame(flame_folder)
    assert old.landmark_sets["ibug68"].ids.tolist() == list(range(17, 68))
    torch.testing.assert_close(
        old.landmarks(old.template, "ibug68"), new.landmarks(new.template, "ibug68")[17:68], atol=1e-6, rtol=0
    )
    assert old.contour is not None
    assert new.contour is not None
    assert torch.equal(old.contour.faces, new.contour.faces)


class TestNativeFile:
    @pytest.fixture(scope="class")
    def file(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("native") / "head.npz"
        write_head(path, load_head())
        return path

    def test_builtin_round_trip(self, file: Path) -> None:
        head, back = load_head(), read_head(file)
        assert back.fingerprint == head.fingerprint
        params = head.neutral()
        params.expression[8] = 0.5
        params.joints["jaw"][0] = 0.2
        torch.testing.assert_close(back.pose(params).vertices, head.pose(params).vertices)
        assert back.attributes.keys() == head.attributes.keys()

    @pytest.mark.parametrize(
        ("key", "edit", "message"),
        [
            ("format", lambda v: np.array("x"), "not a head model"),
            ("version", lambda v: np.array(99), "newer"),
            ("v_template", lambda v: v * 1.01, "fingerprint"),
            ("v_template", lambda v: v * np.nan, "not finite"),
            ("v_template", lambda v: v[:-1], "does not fit"),
            ("faces", lambda v: v + 10, "outside"),
            ("faces", lambda v: v[:, :2], "triangles"),
            ("parents", lambda v: v[::-1], "no tree"),
            ("parents", lambda v: v * 0 + 1, "no tree"),
            ("weights", lambda v: v * 0.5, "sum to 1"),
            ("joint_names", lambda v: v[:3], "does not fit"),
            ("region/face", lambda v: v - 9999, "outside"),
            ("landmarks/ibug68/faces", lambda v: v[:3], "do not fit together"),
            ("identity_names", lambda v: None, "no proper"),
        ],
    )
    def test_damaged(
        self, file: Path, tmp_path: Path, key: str, edit: Callable[[np.ndarray], Any], message: str
    ) -> None:
        arrays = read_npz(file)
        arrays[key] = edit(arrays[key])
        target = tmp_path / "head.npz"
        np.savez(target, **{name: value for name, value in arrays.items() if value is not None})
        with pytest.raises(VultusError, match=rf"head\.npz.*{message}"):
            read_head(target)

    def test_a_changed_file_is_read_again(self, file: Path, tmp_path: Path) -> None:
        target = tmp_path / "head.npz"
        shutil.copy(file, target)
        first = load_head(target)
        write_head(target, load_head())
        assert load_head(target) is not first
