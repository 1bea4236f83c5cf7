"""Exports of GaussianAvatars and VHAP, made here by hand from the description of their format."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_samples import make_head
from PIL import Image

from vultus.captures import open_capture
from vultus.errors import VultusError
from vultus.rotations import axis_angle_to_matrix

WIDTH, HEIGHT, VERTICES = 20, 30, 7


def pixels(timestep: int, camera: int) -> np.ndarray:
    return np.random.default_rng(10 * timestep + camera).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)


def params(timestep: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(timestep)
    sizes = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": 100}
    return {
        **{key: rng.standard_normal((1, size)).astype(np.float32) for key, size in sizes.items()},
        "shape": np.full(300, timestep + 1, np.float32),
        "static_offset": np.full((1, VERTICES, 3), timestep + 0.5, np.float32),
        "dynamic_offset": np.full((1, VERTICES, 3), 7, np.float32),
    }


def pose_of(camera: int) -> np.ndarray:
    """OpenGL camera-to-world: camera 0 at (0, 0, 1) looking along −z, camera 1 turned about y with it."""
    pose = np.eye(4)
    pose[:3, :3] = axis_angle_to_matrix(torch.tensor([0.0, 0.5 * camera, 0.0]).double()).numpy()
    pose[:3, 3] = pose[:3, :3] @ [0, 0, 1]
    return pose


@pytest.fixture
def export(tmp_path: Path) -> Path:
    for folder in ("images", "flame_param"):
        (tmp_path / folder).mkdir()
    splits = {"train": [(0, 0), (1, 0)], "val": [(0, 1), (1, 1)], "test": [(3, 0), (3, 1)]}
    for split, views in splits.items():
        frames = []
        for timestep, camera in views:
            name = f"images/{timestep:05d}_{camera:02d}"
            Image.fromarray(pixels(timestep, camera)).save(tmp_path / f"{name}.png")
            np.savez(tmp_path / f"flame_param/{timestep:05d}.npz", **params(timestep))
            frames.append(
                {
                    "timestep_index": timestep,
                    "camera_index": camera,
                    "camera_angle_x": 0.6,
                    "transform_matrix": pose_of(camera).tolist(),
                    "file_path": name,
                    "flame_param_path": f"flame_param/{timestep:05d}.npz",
                }
            )
        content = {"w": WIDTH, "h": HEIGHT, "frames": frames}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(content))
    np.savez(tmp_path / "canonical_flame_param.npz", **params(0))
    return tmp_path


def test_views_and_splits(export: Path) -> None:
    capture = open_capture(export)
    assert [(view.timestep, view.camera) for view in capture.views] == [(0, 0), (0, 1), (1, 0), (1, 1), (3, 0), (3, 1)]
    assert [(view.timestep, view.camera) for view in capture.split("val")] == [(0, 1), (1, 1)]
    assert {view.timestep for view in capture.split("test")} == {3}
    assert (capture.head_name, capture.source, capture.landmark_set) == ("flame", None, None)


def test_cameras_without_focal_length_have_square_pixels(export: Path) -> None:
    capture = open_capture(export)
    for view in capture.views[:2]:
        camera = capture.camera(view)
        focal = WIDTH / (2 * math.tan(0.3))
        torch.testing.assert_close(camera.K, torch.tensor([[focal, 0, 10], [0, focal, 15], [0, 0, 1.0]]))
        torch.testing.assert_close(camera.center, torch.from_numpy(pose_of(view.camera)[:3, 3]).float())
        # The origin is one metre in front of each camera; +y in the world is up in the picture.
        torch.testing.assert_close(camera.project(torch.zeros(1, 3)), torch.tensor([[10.0, 15.0]]), atol=1e-4, rtol=0)
        above = camera.project(torch.tensor([[0.0, 0.1, 0.0]]))[0]
        torch.testing.assert_close(above, torch.tensor([10.0, 15.0 - 0.1 * focal]), atol=1e-3, rtol=0)


def test_parameters(export: Path) -> None:
    motion = open_capture(export).motion
    assert len(motion) == 4
    assert motion.valid.tolist() == [True, True, False, True]
    # Shape and static offset are those of timestep 0; the dynamic offset is not applied.
    assert bool((motion.params.identity == 1).all())
    assert motion.params.offset is not None
    assert bool((motion.params.offset == 0.5).all())
    for timestep in (0, 1, 3):
        expected, row = params(timestep), motion.params[timestep]
        np.testing.assert_array_equal(row.expression.numpy(), expected["expr"][0])
        np.testing.assert_array_equal(row.translation.numpy(), expected["translation"][0])
        for joint, values in {
            "root": expected["rotation"][0],
            "neck": expected["neck_pose"][0],
            "jaw": expected["jaw_pose"][0],
            "left_eye": expected["eyes_pose"][0, :3],
            "right_eye": expected["eyes_pose"][0, 3:],
        }.items():
            np.testing.assert_array_equal(row.joints[joint].numpy(), values)


def test_onto_a_flame_model(export: Path) -> None:
    head = make_head("flame-small", identity=10, expression=102, vertices=9)
    capture = open_capture(export, head)
    assert capture.head_fingerprint == head.fingerprint == capture.motion.params.model
    assert capture.motion.params.identity.shape == (10,)
    assert capture.motion.params.expression.shape == (4, 102)
    assert not capture.motion.params.expression[:, 100:].any()
    assert capture.motion.params.offset is not None
    # Teeth come last and do not have an offset of their own.
    assert capture.motion.params.offset.shape == (9, 3)
    assert not capture.motion.params.offset[VERTICES:].any()
    assert head.pose(capture.motion.params).vertices.shape == (4, 9, 3)


def test_transparent_pictures(export: Path) -> None:
    capture = open_capture(export)
    view, rgba = capture.views[0], torch.from_numpy(pixels(0, 0)).float() / 255
    color, alpha = rgba[..., :3], rgba[..., 3:]
    torch.testing.assert_close(capture.image(view), color * alpha + 1 - alpha)
    torch.testing.assert_close(capture.mask(view), alpha)
    background = torch.tensor([0.2, 0.0, 1.0])
    torch.testing.assert_close(capture.image(view, background), color * alpha + background * (1 - alpha))


def test_incomplete_exports(export: Path) -> None:
    (export / "flame_param" / "00003.npz").unlink()
    with pytest.raises(VultusError, match=r"00003\.npz"):
        open_capture(export)
    (export / "transforms_test.json").unlink()
    assert len(open_capture(export).views) == 4
    (export / "images" / "00001_01.png").unlink()
    with pytest.raises(VultusError, match=r"00001_01\.png: is missing"):
        open_capture(export)


def test_a_timestep_out_of_proportion(export: Path) -> None:
    path = export / "transforms_test.json"
    path.write_text(path.read_text().replace('"timestep_index": 3', '"timestep_index": 999999'))
    with pytest.raises(VultusError, match="out of proportion"):
        open_capture(export)


def test_a_static_scene_is_not_a_capture(export: Path) -> None:
    for split in ("train", "val", "test"):
        path = export / f"transforms_{split}.json"
        content = json.loads(path.read_text())
        for frame in content["frames"]:
            del frame["flame_param_path"]
        path.write_text(json.dumps(content))
    with pytest.raises(VultusError, match="flame_param_path"):
        open_capture(export)
