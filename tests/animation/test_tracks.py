"""Drivers that other programs tracked: VHAP, GaussianAvatars, DECA, EMOCA, LAM, MediaPipe; and broken ones."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import write_egg

from vultus.animation import load_driver
from vultus.animation.arkit_tracks import MEDIAPIPE_NAMES
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads import load_head
from vultus.heads.arkit import ARKIT_NAMES, arkit_to_params
from vultus.heads.builtin import load_builtin
from vultus.rotations import axis_angle_to_matrix
from vultus.tracking.landmark_fit import embedding_of
from vultus.tracking.rig import camera_pose

COUNT = 5


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory):
    return load_head(write_egg(tmp_path_factory.mktemp("flame") / "egg"))


def vhap() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"expr": 100, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    arrays = {name: 0.1 * rng.standard_normal((COUNT, size)) for name, size in sizes.items()}
    arrays |= {
        "shape": rng.standard_normal(300),
        "n_processed_frames": np.array(COUNT),
        "focal_length": np.array([1.5]),
    }
    arrays["timestep_id"] = np.array([3, 4, 6, 7, 8])
    arrays["image_size"] = np.array([720, 1280])
    return {name: value if value.dtype.kind == "i" else value.astype(np.float32) for name, value in arrays.items()}


def test_a_track_of_vhap(flame, tmp_path: Path) -> None:
    given = vhap()
    np.savez(tmp_path / "tracked_flame_params_30.npz", **given)
    driver = load_driver(tmp_path / "tracked_flame_params_30.npz", flame, fps=30.0)
    motion = driver.motion
    assert motion.params.model == flame.fingerprint
    np.testing.assert_array_equal(motion.params.expression, given["expr"])
    np.testing.assert_array_equal(motion.params.identity, given["shape"])
    np.testing.assert_array_equal(motion.params.joint("left_eye"), given["eyes_pose"][:, :3])
    np.testing.assert_array_equal(motion.params.translation, given["translation"])
    np.testing.assert_allclose(motion.times, np.array([0, 1, 3, 4, 5]) / 30, atol=1e-6)
    # Footage of unknown focal length is seen from one metre before the origin.
    assert driver.sight is not None
    assert driver.sight.eye.tolist() == [0, 0, 1]
    assert driver.sight.axis.tolist() == [0, 0, -1]
    assert len(driver.sha256 or "") == 64
    # The neutral is one of the calm frames, with the tracked person's shape.
    assert torch.equal(motion.neutral.identity, motion.params.identity)
    energy = (given["expr"] ** 2).sum(1) + 4 * (given["jaw_pose"] ** 2).sum(1)
    np.testing.assert_array_equal(motion.neutral.expression, given["expr"][energy.argmin()])
    calibrated = {name: value for name, value in given.items() if name != "focal_length"}
    np.savez(tmp_path / "calibrated.npz", **calibrated)
    assert load_driver(tmp_path / "calibrated.npz", flame).sight is None


def test_timesteps_one_by_one_are_the_same(flame, tmp_path: Path) -> None:
    given = vhap()
    (tmp_path / "flame_param").mkdir()
    rows = {"expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation"}
    for row, number in enumerate(given["timestep_id"]):
        frame = {name: value[row : row + 1] if name in rows else value for name, value in given.items()}
        np.savez(tmp_path / "flame_param" / f"{number:05d}.npz", **frame)
    np.savez(tmp_path / "all.npz", **given)
    first, second = (load_driver(tmp_path / name, flame).motion for name in ("flame_param", "all.npz"))
    for mine, other in ((first.params, second.params), (first.neutral, second.neutral)):
        assert torch.equal(mine.expression, other.expression)
        assert torch.equal(mine.translation, other.translation)
        assert all(torch.equal(mine.joint(name), other.joint(name)) for name in flame.joint_names)
    assert torch.equal(first.times, second.times)


def codes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {"shape": 100, "exp": 50, "pose": 6, "tex": 50, "cam": 3, "light": 27, "detail": 128}
    return {name: (0.2 * rng.standard_normal((COUNT, size))).astype(np.float32) for name, size in sizes.items()}


def test_codes_of_deca_and_emoca(flame, tmp_path: Path) -> None:
    given = codes()
    np.savez(tmp_path / "deca.npz", **given)
    emoca = {name: given[key] for name, key in (("shapecode", "shape"), ("expcode", "exp"), ("posecode", "pose"))}
    (tmp_path / "emoca.pkl").write_bytes(pickle.dumps(emoca))
    for row in range(COUNT):
        folder = tmp_path / "faces" / f"frame_{row:03d}_00"
        folder.mkdir(parents=True)
        for key in ("shape", "exp", "pose", "detail"):
            np.save(folder / f"{key}.npy", given[key][row])
    for source in ("deca.npz", "emoca.pkl", "faces"):
        motion = load_driver(tmp_path / source, flame).motion
        assert len(motion) == COUNT
        np.testing.assert_array_equal(motion.params.expression[:, :50], given["exp"])
        assert not motion.params.expression[:, 50:].any()
        np.testing.assert_allclose(motion.params.identity[:100], given["shape"].mean(0), atol=1e-6)
        assert not motion.params.identity[100:].any()
        np.testing.assert_array_equal(motion.params.joint("root"), given["pose"][:, :3])
        np.testing.assert_array_equal(motion.params.joint("jaw"), given["pose"][:, 3:])
        for name in ("neck", "left_eye", "right_eye"):
            assert not motion.params.joint(name).any()
        assert not motion.params.translation.any()


def test_flame_tracks_need_flame(flame, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **vhap())
    builtin = load_builtin()
    with pytest.raises(VultusError, match="--driver-head"):
        load_driver(tmp_path / "a.npz", builtin)


def test_driving_files_of_lam(tmp_path: Path) -> None:
    head = load_builtin()
    names = [*MEDIAPIPE_NAMES[1:], "tongueOut"]
    rng = np.random.default_rng(2)
    weights = rng.uniform(0, 1, (COUNT, 52))
    frames = [{"weights": row.tolist(), "time": 2 + i / 30, "rotation": []} for i, row in enumerate(weights)]
    (tmp_path / "take.json").write_text(
        json.dumps({"names": names, "frames": frames, "head_pose": [[1, 2, 3]] * COUNT})
    )
    motion = load_driver(tmp_path / "take.json", head).motion
    named = {name: torch.from_numpy(weights[:, i]).float() for i, name in enumerate(names)}
    expected = arkit_to_params(head, named)
    torch.testing.assert_close(motion.params.expression, expected.expression)
    torch.testing.assert_close(motion.params.joint("jaw"), expected.joint("jaw"))
    np.testing.assert_allclose(motion.times, np.arange(COUNT) / 30, atol=1e-6)
    assert not motion.params.joint("neck").any()


def test_scores_of_mediapipe(tmp_path: Path) -> None:
    head = load_builtin()
    scores = np.random.default_rng(3).uniform(0, 1, (COUNT, 52)).astype(np.float32)
    np.save(tmp_path / "scores.npy", scores)
    motion = load_driver(tmp_path / "scores.npy", head, fps=25.0).motion
    named = {name: torch.from_numpy(scores[:, i]) for i, name in enumerate(MEDIAPIPE_NAMES) if name != "_neutral"}
    assert set(named) == set(ARKIT_NAMES) - {"tongueOut"}
    torch.testing.assert_close(motion.params.expression, arkit_to_params(head, named).expression)
    assert motion.fps == pytest.approx(25)


def test_face_points_without_footage(tmp_path: Path) -> None:
    """Points of the built-in head's own landmarks, seen by a known camera: the motion they came from is found."""
    head = load_builtin()
    count = 10
    time = torch.arange(count) / 25
    params = replace(head.neutral(count), translation=torch.stack([0.02 * torch.sin(4 * time), 0 * time, 0 * time], -1))
    params.joints["root"] = torch.stack([0 * time, 0.4 * torch.sin(6 * time), 0 * time], -1)
    params.joints["jaw"] = torch.stack([0.15 * (1 - torch.cos(8 * time)), 0 * time, 0 * time], -1)
    embedding = embedding_of(head, "mediapipe")
    corners = head.pose(params).vertices[:, head.faces[embedding.faces]]
    camera = Camera.from_focal(1100.0, 640, 480, camera_pose(1.0))
    points = np.full((count, 478, 2), np.nan, np.float32)
    points[:, embedding.ids] = camera.project((corners * embedding.barycentric[..., None]).sum(-2)).numpy()
    points[4] = np.nan
    arrays = {"points": points, "set": np.array("mp478"), "image_size": np.array([640, 480]), "fps": np.array(25)}
    np.savez(tmp_path / "points.npz", **arrays)
    driver = load_driver(tmp_path / "points.npz", head)
    motion = driver.motion
    assert motion.valid.tolist() == [row != 4 for row in range(count)]
    skulls = []
    for given in (params, motion.params):
        turned = axis_angle_to_matrix(given.joint("root")) @ axis_angle_to_matrix(given.joint("neck"))
        skulls.append(turned[0].T @ turned)
    angle = ((skulls[0].transpose(-1, -2) @ skulls[1]).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    assert float(torch.rad2deg(torch.acos(angle.clamp(-1, 1)))[motion.valid].max()) < 4
    jaw = torch.stack([params.joint("jaw")[:, 0], motion.params.joint("jaw")[:, 0]])[:, motion.valid]
    assert float(torch.corrcoef(jaw)[0, 1]) > 0.95
    assert driver.sight is not None
    del arrays["image_size"]
    np.savez(tmp_path / "unsized.npz", **arrays)
    with pytest.raises(VultusError, match="image_size"):
        load_driver(tmp_path / "unsized.npz", head)


def test_broken_tracks(flame, tmp_path: Path) -> None:
    head, good = load_builtin(), vhap()

    def refused(name: str, match: str, model=flame) -> None:
        with pytest.raises(VultusError, match=match):
            load_driver(tmp_path / name, model)

    np.savez(tmp_path / "a.npz", **{**good, "jaw_pose": good["jaw_pose"][:3]})
    refused("a.npz", "do not belong together")
    np.savez(tmp_path / "b.npz", **{**good, "timestep_id": np.array([3, 2, 1, 0, 5])})
    refused("b.npz", "frame numbers do not increase")
    np.savez(tmp_path / "c.npz", **{**codes(), "exp": np.full((COUNT, 50), np.inf)})
    refused("c.npz", "not finite")
    np.savez(tmp_path / "d.npz", **{**codes(), "pose": np.zeros((COUNT, 9))})
    refused("d.npz", "pose has 9 numbers")
    np.savez(tmp_path / "e.npz", **{**codes(), "pose": np.zeros((2, 6))})
    refused("e.npz", "do not belong together")
    (tmp_path / "f.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    refused("f.pkl", r"f\.pkl")
    (tmp_path / "g.pkl").write_bytes(pickle.dumps({"shape": 1, "exp": "x", "pose": None}))
    refused("g.pkl", "not an array of numbers")
    (tmp_path / "faces" / "one").mkdir(parents=True)
    for key, value in (("shape", np.zeros(100)), ("exp", np.array(["a"])), ("pose", np.zeros(6))):
        np.save(tmp_path / "faces" / "one" / f"{key}.npy", value)
    refused("faces", "not numbers")
    for index, (content, match) in enumerate(
        (
            ([], "names"),
            ({"names": ["a"] * 52, "frames": [1]}, "0 of its 52"),
            ({"names": list(ARKIT_NAMES), "frames": [{"weights": [0] * 51, "time": 0}]}, "frame 0 has not one weight"),
            (
                {"names": list(ARKIT_NAMES), "frames": [{"weights": ["1"] * 52, "time": 0}]},
                "frame 0 has not one weight",
            ),
            ({"names": list(ARKIT_NAMES), "frames": [{"weights": [0] * 52}]}, "no time"),
            ({"names": list(ARKIT_NAMES), "frames": [{"weights": [0] * 52, "time": 1}] * 2}, "do not increase"),
        )
    ):
        (tmp_path / f"{index}.json").write_text(json.dumps(content))
        refused(f"{index}.json", match, head)
    np.save(tmp_path / "h.npy", np.zeros((4, 51)))
    refused("h.npy", r"\[T, 52\]", head)
    np.save(tmp_path / "i.npy", np.full((4, 52), np.nan))
    refused("i.npy", "not finite", head)
    points = {"points": np.zeros((3, 478, 2), np.float32), "set": np.array("mp478"), "image_size": np.array([64, -1])}
    np.savez(tmp_path / "j.npz", **points)
    refused("j.npz", "image_size", head)
    np.savez(tmp_path / "k.npz", **{**points, "image_size": np.array([64, 64]), "frame_index": np.array([2, 1, 0])})
    refused("k.npz", "does not increase", head)
    np.savez(tmp_path / "l.npz", **{**points, "points": points["points"] * np.nan, "image_size": np.array([64, 64])})
    refused("l.npz", "no face", head)
