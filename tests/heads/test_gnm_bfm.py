"""GNM Head and the Basel Face Model from synthetic files in their layouts, and refusing what is neither."""

import contextlib
import io
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from vultus.errors import VultusError
from vultus.files import write_npz
from vultus.heads import load_head, read_head, write_head
from vultus.heads.bfm import load_bfm
from vultus.heads.bfm.matlab import read_matlab
from vultus.heads.builtin import load_builtin
from vultus.heads.gnm import load_gnm

JAW = 17


def gnm_content() -> dict[str, np.ndarray]:
    """The built-in head's mesh in the layout of `gnm_head.npz`, with random bases."""
    rng, head = np.random.default_rng(0), load_builtin()
    count, triangles = len(head.template), head.faces.numpy().astype(np.int32)
    neck_and_eyes = head.weights.numpy()[:, [0, 1, 3, 4]].T.copy()
    neck_and_eyes[1] += head.weights.numpy()[:, 2]
    groups = ("hockey_mask", "left_eye", "upper_lip", "lower_lip", "irises")
    masks = np.zeros((len(groups), count), np.float32)
    for row, name in enumerate(("face", "left_eyeball", "lip_upper", "lip_lower", "left_iris")):
        masks[row, head.regions[name]] = 1
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": head.template.numpy() + np.float32([0, 0.25, 0]),
        "template_joint_positions": rng.standard_normal((4, 3)).astype(np.float32),
        "vertex_identity_basis": 0.01 * rng.standard_normal((3, count, 3)).astype(np.float32),
        "joint_identity_basis": 0.01 * rng.standard_normal((3, 4, 3)).astype(np.float32),
        "expression_basis": 0.01 * rng.standard_normal((2, count, 3)).astype(np.float32),
        "identity_names": np.array(["head_000", "head_001", "eyes_000"]),
        "expression_names": np.array(["lower_face_region_000", "tongue_mean"]),
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
        "joint_parent_indices": np.array([0, 0, 1, 1], np.int32),
        "skinning_weights": neck_and_eyes,
        "triangles": triangles,
        "triangle_uvs": rng.random((len(triangles), 3, 2)).astype(np.float32),
        "vertex_groups": masks,
        "vertex_group_names": np.array(groups),
        "something_new": np.zeros(3),
    }


def landmark_lines(order: list[int]) -> str:
    """68 landmarks at vertices of the built-in head's own landmarks, in this order."""
    head = load_builtin()
    marks = head.landmark_sets["ibug68"]
    rows = [(head.faces[marks.faces[i]].tolist(), marks.barycentric[i].tolist()) for i in order]
    return "\n".join(" ".join(f"{v} {w:.6f}" for v, w in zip(*row, strict=True)) for row in rows)


@pytest.fixture
def gnm_folder(tmp_path: Path) -> Path:
    write_npz(tmp_path / "gnm_head.npz", **gnm_content())
    (tmp_path / "head_sparse_68.txt").write_text(landmark_lines(list(range(68))))
    return tmp_path


def test_gnm(gnm_folder: Path) -> None:
    head, content = load_head(gnm_folder), gnm_content()
    assert head.joint_names == ("root", "neck", "head", "left_eye", "right_eye")
    assert head.expression_names == ("lower_face_region_000", "tongue_mean")
    assert load_head(gnm_folder / "gnm_head.npz") is not None
    torch.testing.assert_close(head.pose(head.neutral()).vertices, head.template, atol=1e-6, rtol=0)
    params = replace(head.neutral(), identity=torch.tensor([0.0, 2.0, 0.0]))
    expected = content["template_joint_positions"] + 2 * content["joint_identity_basis"][1]
    np.testing.assert_allclose(head.pose(params).joints[1:], expected, atol=1e-6)
    # Expression leaves the joints where they are.
    smiling = replace(params, expression=torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(head.pose(smiling).joints, head.pose(params).joints)
    builtin = load_builtin()
    assert torch.equal(head.regions["face"], builtin.regions["face"].sort().values)
    assert set(head.regions["left_iris"].tolist()) == set(builtin.regions["left_iris"].tolist())
    torch.testing.assert_close(
        head.landmarks(head.template, "ibug68"),
        builtin.landmarks(builtin.template, "ibug68")[:68] + torch.tensor([0, 0.25, 0]),
        atol=1e-5,
        rtol=0,
    )


def test_gnm_skull_and_own_file(gnm_folder: Path, tmp_path: Path) -> None:
    head = load_gnm(gnm_folder)
    generator = torch.Generator().manual_seed(0)
    params = replace(
        head.neutral(),
        identity=torch.randn(3, generator=generator),
        joints={name: 0.3 * torch.randn(3, generator=generator) for name in head.joint_names},
        translation=torch.randn(3, generator=generator),
    )
    motion, posed = head.head_to_world(params), head.pose(params)
    skull = torch.nonzero(head.weights[:, 2] > 0.9999)[:, 0]
    torch.testing.assert_close(
        posed.vertices[skull], posed.rest[skull] @ motion[:3, :3].T + motion[:3, 3], atol=2e-5, rtol=0
    )
    write_head(tmp_path / "own.npz", head)
    again = read_head(tmp_path / "own.npz")
    assert again.fingerprint == head.fingerprint
    torch.testing.assert_close(again.pose(params).vertices, posed.vertices)


def test_gnm_landmarks_in_the_first_published_order(gnm_folder: Path) -> None:
    right = load_gnm(gnm_folder).landmark_sets["ibug68"]
    wrong = [0, 1, 6, 5, 4, 3, 2, *range(7, 68)]
    (gnm_folder / "head_sparse_68.txt").write_text(landmark_lines(wrong))
    with pytest.warns(UserWarning, match="reverse order"):
        corrected = load_gnm(gnm_folder).landmark_sets["ibug68"]
    assert torch.equal(corrected.faces, right.faces)


def test_landmarks_off_the_triangles_take_the_nearest(gnm_folder: Path) -> None:
    """Three vertices that no triangle joins: two of a triangle and one of its neighbour."""
    head = load_gnm(gnm_folder)
    lines = landmark_lines(list(range(68))).split("\n")
    a, b, c = head.faces[head.landmark_sets["ibug68"].faces[30]].tolist()
    other = next(
        v for face in head.faces[(head.faces == a).any(1)].tolist() if b not in face for v in face if v not in (a, b, c)
    )
    lines[30] = f"{a} 0.9 {b} 0.05 {other} 0.05"
    (gnm_folder / "head_sparse_68.txt").write_text("\n".join(lines))
    point = load_gnm(gnm_folder).landmarks(head.template, "ibug68")[30]
    wanted = 0.9 * head.template[a] + 0.05 * head.template[b] + 0.05 * head.template[other]
    assert (point - wanted).norm() < 1e-3


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("expression_basis", lambda v: v[:, :-1], "does not fit"),
        ("expression_basis", lambda v: v * np.nan, "not finite"),
        ("skinning_weights", lambda v: v * 0.5, "sum to 1"),
        ("triangles", lambda v: v + 10**6, "outside"),
        ("joint_parent_indices", lambda v: np.array([0, 2, 1, 1]), "tree"),
        ("joint_names", lambda v: v[:2], "names"),
        ("triangle_uvs", lambda v: v[:-1], "texture"),
        ("vertex_groups", lambda v: v[:, :-1], "does not fit"),
        ("template_joint_positions", lambda v: v.astype(np.int32), "no proper"),
        ("vertex_group_names", lambda v: v[:-1], "names"),
    ],
)
def test_broken_gnm(tmp_path: Path, key: str, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    content = gnm_content()
    content[key] = change(content[key])
    write_npz(tmp_path / "gnm_head.npz", **content)
    with pytest.raises(VultusError, match=message):
        load_head(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "instead of"),
        ("x", "not a table"),
        ("1 0.5 2 0.5 999999 0\n" * 68, "outside"),
        ("1 1 2 1 3 1\n" * 68, "sum"),
    ],
)
def test_broken_gnm_landmarks(gnm_folder: Path, text: str, message: str) -> None:
    (gnm_folder / "head_sparse_68.txt").write_text(text)
    with pytest.raises(VultusError, match=message):
        load_gnm(gnm_folder)


def bfm_content() -> dict[str, np.ndarray]:
    rng, count = np.random.default_rng(1), 200
    return {
        "meanshape": rng.standard_normal((1, 3 * count)),
        "meantex": rng.random((1, 3 * count)),
        "idBase": rng.standard_normal((3 * count, 80)).astype(np.float32),
        "exBase": rng.standard_normal((3 * count, 64)),
        "tri": np.stack([np.arange(198), np.arange(198) + 1, np.arange(198) + 2], 1) + 1,
        "keypoints": rng.permutation(count)[None, :68].astype(np.uint16) + 1,
        "skinmask": (np.arange(count) % 2)[None].astype(np.uint8),
        "note": np.array(["made by a test"]),
    }


@pytest.mark.parametrize("packed", [False, True])
def test_bfm(tmp_path: Path, packed: bool) -> None:
    content = bfm_content()
    scipy.io.savemat(tmp_path / "BFM09_model_info.mat", content, do_compression=packed)
    head = load_head(tmp_path)
    assert load_head(tmp_path / "BFM09_model_info.mat").fingerprint == head.fingerprint
    assert (len(head.identity_names), len(head.expression_names)) == (80, 64)
    assert "non-commercial" in head.license
    generator = torch.Generator().manual_seed(0)
    params = replace(
        head.neutral(),
        identity=torch.randn(80, generator=generator),
        expression=torch.randn(64, generator=generator),
        joints={"root": torch.tensor([0.0, 0.0, np.pi / 2])},
        translation=torch.tensor([1.0, 2.0, 3.0]),
        scale=torch.tensor(1.5),  # 0.15 in the file's unit
    )
    mean = content["meanshape"].reshape(-1, 3)
    shape = (
        content["meanshape"][0]
        + content["idBase"] @ params.identity.numpy()
        + content["exBase"] @ params.expression.numpy()
    )
    points = 0.15 * (shape.reshape(-1, 3) - mean.mean(0))
    expected = np.stack([-points[:, 1], points[:, 0], points[:, 2]], 1) + np.array([1, 2, 3])
    posed = head.pose(params).vertices
    np.testing.assert_allclose(posed, expected, atol=2e-5)
    np.testing.assert_allclose(head.landmarks(posed, "ibug68"), expected[content["keypoints"][0] - 1], atol=2e-5)
    assert head.regions["skin"].tolist() == list(range(1, 200, 2))
    motion = head.head_to_world(params)
    torch.testing.assert_close(motion[:3, 3], params.translation)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("meanshape", lambda v: v[:, :-1], "three per vertex"),
        ("idBase", lambda v: v[:-3], "does not fit"),
        ("exBase", lambda v: v * np.inf, "not finite"),
        ("tri", lambda v: v - 1, "outside"),
        ("tri", lambda v: v[:, :2], "no triangles"),
        ("keypoints", lambda v: v[:, :60], "60 keypoints"),
    ],
)
def test_broken_bfm(tmp_path: Path, key: str, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    content = bfm_content()
    content[key] = change(content[key])
    scipy.io.savemat(tmp_path / "x.mat", content)
    with pytest.raises(VultusError, match=message):
        load_bfm(tmp_path / "x.mat")


def matlab_bytes(packed: bool = True) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"a": np.arange(12.0).reshape(3, 4), "s": {"x": 1}}, do_compression=packed)
    return stream.getvalue()


def test_matlab_files_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(matlab_bytes(False))
    np.testing.assert_array_equal(read_matlab(path)["a"], np.arange(12.0).reshape(3, 4))
    huge = bytearray(matlab_bytes(False))
    where = huge.index(struct.pack("<ii", 3, 4))
    huge[where : where + 8] = struct.pack("<ii", 2**30, 2**30)
    bombs = {
        "huge": bytes(huge),
        "short": matlab_bytes(False)[:200],
        "packed and cut off": matlab_bytes()[:150],
        "no header": b"hello",
        "version 7.3": b"\x89HDF\r\n\x1a\n" + bytes(118) + b"IM" + bytes(100),
    }
    for content in bombs.values():
        path.write_bytes(content)
        with pytest.raises(VultusError, match=r"x\.mat"):
            read_matlab(path)
    path.write_bytes(matlab_bytes())
    with pytest.raises(VultusError, match="more than"):
        read_matlab(path, max_bytes=len(matlab_bytes()) + 0)


def test_noise_never_breaks_the_matlab_reader(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "x.mat"
    for packed in (False, True):
        whole = np.frombuffer(matlab_bytes(packed), np.uint8)
        for _ in range(150):
            content = whole.copy()
            content[rng.integers(116, len(whole), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(content.tobytes())
            with contextlib.suppress(VultusError):
                read_matlab(path)
