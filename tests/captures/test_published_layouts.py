"""INSTA's folders and the NeRSemble benchmark: written as published, read back, and read when they are hostile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_samples import fill, make_head, make_motion
from PIL import Image
from rig import HEIGHT, WIDTH, write_rig
from scipy.spatial.transform import Rotation
from test_tracker_files import metrical

from vultus.captures import CaptureWriter, layout_of, open_capture, read_contents
from vultus.captures.mistakes import find_mistakes
from vultus.captures.nersemble_colors import polynomial_terms
from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.heads import SkinnedHead
from vultus.heads.load import load_head
from vultus.workflows.convert import convert
from vultus.workflows.inspect import inspect


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    write_rig(tmp_path / "rig", count=3, angles=(-30.0, 0.0))
    return tmp_path / "rig"


@pytest.fixture
def flame() -> SkinnedHead:
    return make_head("flame-test", identity=300, expression=100)


def make_insta(folder: Path, *, transforms: bool = True, checkpoint: bool = True, numbers=(1, 2, 4)) -> list[dict]:
    """A folder as INSTA's scripts make it; returns the tracker's frames."""
    rng = np.random.default_rng(4)
    frames = [metrical(rng, number) | {"img_size": np.array([48, 40])} for number in numbers]
    (folder / "images").mkdir(parents=True)
    entries = []
    for number, frame in zip(numbers, frames, strict=True):
        frame["opencv"]["K"] = np.array([[[60.0, 0, 19], [0, 60, 25], [0, 0, 1]]], np.float32)
        alpha = np.zeros((48, 40), np.uint8)
        alpha[10:40, 8:30] = 255
        color = np.full((48, 40, 3), 20 * number, np.uint8)
        Image.fromarray(np.dstack([color, alpha])).save(folder / "images" / f"{number:05d}.png")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = frame["opencv"]["R"][0], frame["opencv"]["t"][0]
        # What float32 rotations are off by would not pass for a rotation after an inversion.
        pose[:3, :3] = Rotation.from_matrix(pose[:3, :3]).as_matrix()
        entries.append(
            {
                "transform_matrix": np.linalg.inv(pose).tolist(),
                "file_path": f"images/{number:05d}.png",
                "mesh_path": f"meshes/{number:05d}.obj",
                "exp_path": f"flame/exp/{number:05d}.txt",
                "seg_mask_path": f"seg_mask/{number:05d}.png",
            }
        )
        if checkpoint:
            (folder / "checkpoint").mkdir(exist_ok=True)
            torch.save(frame, folder / "checkpoint" / f"{number:05d}.frame")
    if transforms:
        (folder / "flame" / "exp").mkdir(parents=True)
        shared = {"w": 40.0, "h": 48.0, "cx": 19.0, "cy": 25.0, "fl_x": 60.0, "fl_y": 60.0, "integer_depth_scale": 1e-3}
        # The scripts write frames in any order, and the last ones of all once more as val.
        for split, some in (("train", entries[1::-1]), ("test", entries[2:]), ("val", entries[1:])):
            (folder / f"transforms_{split}.json").write_text(json.dumps({**shared, "frames": some}))
    return frames


class TestInsta:
    def test_without_a_model_the_camera_moves(self, tmp_path: Path) -> None:
        frames = make_insta(tmp_path / "duda")
        capture = open_capture(tmp_path / "duda", needs_motion=False)
        assert [view.timestep for view in capture.views] == [0, 1, 2]
        assert [[v.timestep for v in capture.split(name)] for name in ("train", "val", "test")] == [[0, 1], [], [2]]
        for view, frame in zip(capture.views, frames, strict=True):
            points = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.05, 0.02], [-0.05, 0.1, 0.08]])
            R, t, K = (torch.from_numpy(frame["opencv"][key][0]) for key in ("R", "t", "K"))
            seen = (points @ R.T + t) @ K.T
            projected = capture.camera(view).project(points)
            torch.testing.assert_close(projected, seen[:, :2] / seen[:, 2:], atol=1e-3, rtol=0)
        view = capture.views[1]
        image, mask = capture.image(view), capture.mask(view)
        assert float(mask.mean()) == pytest.approx(30 * 22 / (48 * 40))
        assert image[0, 0].tolist() == [1, 1, 1]
        torch.testing.assert_close(image[20, 20], torch.full((3,), 40 / 255))
        with pytest.raises(VultusError, match="--head"):
            open_capture(tmp_path / "duda")

    def test_with_the_tracker_the_head_moves(self, tmp_path: Path, flame: SkinnedHead) -> None:
        make_insta(tmp_path / "duda")
        still, moving = open_capture(tmp_path / "duda", needs_motion=False), open_capture(tmp_path / "duda", flame)
        assert moving.has_motion
        poses = torch.stack([moving.camera(view).world_to_camera for view in moving.views])
        assert torch.equal(poses, poses[:1].expand(3, -1, -1))
        for view, other in zip(still.views, moving.views, strict=True):
            params = moving.motion.params[view.timestep]
            # The same picture: the model's vertices, before its rigid motion, through the moving camera.
            skull = flame.head_to_world(params)
            local = (flame.pose(params).vertices - skull[:3, 3]) @ skull[:3, :3]
            before = still.camera(view).project(local)
            after = moving.camera(other).project(flame.pose(params).vertices)
            torch.testing.assert_close(after, before, atol=2e-2, rtol=0)

    def test_frames_without_transforms_or_the_other_way_round(self, tmp_path: Path, flame: SkinnedHead) -> None:
        make_insta(tmp_path / "a", transforms=False)
        make_insta(tmp_path / "b")
        one, two = (open_capture(tmp_path / name, flame) for name in ("a", "b"))
        for view, other in zip(one.views, two.views, strict=True):
            vertices = flame.pose(one.motion.params[view.timestep]).vertices
            torch.testing.assert_close(
                one.camera(view).project(vertices), two.camera(other).project(vertices), atol=1e-3, rtol=0
            )
        (tmp_path / "b" / "checkpoint" / "00002.frame").unlink()
        part = open_capture(tmp_path / "b", flame)
        assert part.motion.valid.tolist() == [True, False, True]
        torch.testing.assert_close(part.motion.params.translation[2], two.motion.params.translation[2])
        make_insta(tmp_path / "c", checkpoint=False)
        with pytest.raises(VultusError, match="no checkpoint"):
            open_capture(tmp_path / "c", flame)

    def test_round_trip(self, rig: Path, tmp_path: Path) -> None:
        with pytest.raises(VultusError, match="--cameras"):
            convert(rig, tmp_path / "out", "insta")
        assert convert(rig, tmp_path / "out", "insta", cameras=[1]) == 3
        names = {path.relative_to(tmp_path / "out").parts[0] for path in (tmp_path / "out").rglob("*")}
        splits = {f"transforms{kind}.json" for kind in ("", "_train", "_val", "_test")}
        assert names == splits | {"images", "meshes", "flame", "canonical.obj"}
        before, after = open_capture(rig), open_capture(tmp_path / "out", needs_motion=False)
        assert layout_of(tmp_path / "out") is not None
        head = load_head()
        views = [view for view in before.views if view.camera == 1]
        for view, again in zip(views, after.views, strict=True):
            params = before.motion.params[view.timestep]
            lines = (tmp_path / "out" / "meshes" / f"{view.timestep:05d}.obj").read_text().splitlines()
            mesh = torch.tensor([[float(x) for x in line.split()[1:]] for line in lines if line.startswith("v ")])
            torch.testing.assert_close(
                after.camera(again).project(mesh),
                before.camera(view).project(head.pose(params).vertices),
                atol=1e-2,
                rtol=0,
            )
            torch.testing.assert_close(after.image(again), before.image(view), atol=1.01 / 255, rtol=0)
            assert torch.equal(after.mask(again), before.mask(view))
        # The published programs want one head that is still: the skull's mesh hardly moves.
        assert [str(v) for v in after.split("test")] == [str(replace(v, camera=0)) for v in before.split("test")[1::2]]
        with pytest.raises(VultusError, match="has no head parameters"):
            convert(tmp_path / "out", tmp_path / "again", "insta")

    def test_inspection(self, tmp_path: Path) -> None:
        make_insta(tmp_path / "duda")
        result = inspect(tmp_path / "duda")
        assert "INSTA" in result.what
        assert "insta" in result.what
        assert result.figures["split"] == "2 train, 0 val, 1 test"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.update(frames={}), "no list of frames"),
            (lambda c: c["frames"].append(5), "not an object"),
            (lambda c: c["frames"].append(c["frames"][0]), "occurs twice"),
            (lambda c: c["frames"][0].update(file_path="../../x/00001.png"), "leads out"),
            (lambda c: c["frames"][0].update(file_path="/etc/00001.png"), "absolute"),
            (lambda c: c["frames"][0].update(file_path=["x"]), "not a file name"),
            (lambda c: c["frames"][0].update(file_path="images/first.png"), "no number"),
            (lambda c: c["frames"][0].update(file_path="images/" + "9" * 30 + ".png"), "no number"),
            (lambda c: c["frames"][0].update(file_path="images/00009.png"), "missing"),
            (lambda c: c["frames"][0].update(transform_matrix=[[1e300] * 4] * 4), "transform_matrix"),
            (lambda c: c["frames"][0].update(transform_matrix="x"), "transform_matrix"),
            (lambda c: c.update(w=10**12), "w ="),
            (lambda c: c.update(h=47.5), "h ="),
            (lambda c: c.update(fl_x=0), "focal"),
            (lambda c: c.update(cx="x"), "cx"),
        ],
    )
    def test_hostile(self, tmp_path: Path, change: Callable, message: str) -> None:
        make_insta(tmp_path / "duda", checkpoint=False)
        file = tmp_path / "duda" / "transforms_train.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        with pytest.raises(VultusError, match=message) as error:
            open_capture(tmp_path / "duda", needs_motion=False)
        assert "duda" in str(error.value)

    def test_pictures_that_are_wrong(self, tmp_path: Path) -> None:
        make_insta(tmp_path / "duda", checkpoint=False)
        (tmp_path / "duda" / "images" / "00001.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(tmp_path / "duda" / "images" / "00002.png")
        (tmp_path / "duda" / "images" / "00004.png").unlink()
        found = {finding.name for finding in find_mistakes(read_contents(tmp_path / "duda")).findings}
        assert {"unreadable-image", "wrong-size", "missing-frames"} <= found


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """One person of the benchmark, written by our own writer from a small FLAME capture."""
    head = make_head("flame-test", identity=300, expression=100)
    motion = make_motion(head, 4)
    motion = replace(motion, valid=torch.ones(4, dtype=torch.bool))
    with CaptureWriter(tmp_path / "flame", head=head, fps=25, test_timesteps=[], val_cameras=[]) as writer:
        fill(writer, motion, height=20, width=24)
        writer.name_camera(0, "222200037")
        writer.name_camera(1, "222200046")
        for camera, x in ((0, 0.0), (1, 0.3)):
            writer.set_camera(camera, replace(_camera(x), width=24, height=20))
    convert(tmp_path / "flame", tmp_path / "388", "nersemble-benchmark", head=head)
    return tmp_path / "388"


def _camera(x: float):
    from vultus.cameras import Camera, look_at

    pose = look_at(torch.tensor([x, 0.1, 1.0]), torch.zeros(3))
    K = torch.tensor([[40.0 + 10 * x, 0.0, 11.0], [0.0, 41.0, 9.5], [0.0, 0.0, 1.0]])
    return Camera(pose, K, 24, 20)


class TestNersembleBenchmark:
    def test_round_trip(self, benchmark: Path, tmp_path: Path, flame: SkinnedHead) -> None:
        sequence = benchmark / "sequences" / "SEQUENCE"
        assert sorted(path.name for path in (sequence / "images").iterdir()) == [
            "cam_222200037.mp4",
            "cam_222200046.mp4",
        ]
        before = open_capture(tmp_path / "flame", flame)
        for root in (benchmark, sequence):
            assert read_contents(root).layout == "nersemble-benchmark"
            after = open_capture(root, flame)
            assert after.fps == pytest.approx(25)
            assert [after.camera_name(camera) for camera in (0, 1)] == ["222200037", "222200046"]
            for view, again in zip(before.views, after.views, strict=True):
                assert (view.timestep, view.camera) == (again.timestep, again.camera)
                vertices = [flame.pose(each.motion.params[view.timestep]).vertices for each in (before, after)]
                torch.testing.assert_close(vertices[1], vertices[0], atol=3e-6, rtol=1e-5)
                torch.testing.assert_close(after.camera(again).K, before.camera(view).K)
                torch.testing.assert_close(after.camera(again).world_to_camera, before.camera(view).world_to_camera)
                # Noise suffers most from the video's coarser colours.
                for kind in ("image", "mask"):
                    one, two = (getattr(c, kind)(v) for c, v in ((before, view), (after, again)))
                    assert float((one.mean() - two.mean()).abs()) < 0.05
        assert inspect(sequence).what.endswith("(nersemble-benchmark)")
        assert "a folder with 2 captures in it" in inspect(tmp_path).what  # flame and 388, not also its sequence

    def test_angles_are_those_of_the_toolkit(self, benchmark: Path) -> None:
        arrays = read_npz(benchmark / "sequences" / "SEQUENCE" / "tracking" / "flame2023_tracking.npz")
        matrices = Rotation.from_euler("XYZ", arrays["rotation"]).as_matrix()
        np.testing.assert_allclose(matrices, arrays["rotation_matrices"], atol=1e-6)
        shapes = {"shape": (1, 300), "expression": (4, 100), "eyes": (4, 6), "scale": (1, 1), "frames": (4,)}
        assert {key: arrays[key].shape for key in shapes} == shapes

    def test_without_flame_it_is_footage(self, benchmark: Path) -> None:
        with pytest.raises(VultusError, match=r"FLAME 2023 \(--head\)"):
            open_capture(benchmark)
        assert len(open_capture(benchmark, needs_motion=False).views) == 8

    def test_what_makes_no_video(self, rig: Path, tmp_path: Path) -> None:
        (rig / "images" / "00001_01.png").unlink()
        content = json.loads((rig / "transforms_train.json").read_text())
        content["frames"] = [f for f in content["frames"] if f["file_path"] != "images/00001_01.png"]
        (rig / "transforms_train.json").write_text(json.dumps(content))
        for split in ("val", "test"):
            other = json.loads((rig / f"transforms_{split}.json").read_text())
            other["frames"] = [f for f in other["frames"] if f["file_path"] != "images/00001_01.png"]
            (rig / f"transforms_{split}.json").write_text(json.dumps(other))
        with pytest.raises(VultusError, match="lacks some of the instants"):
            convert(rig, tmp_path / "out", "nersemble-benchmark")
        assert not (tmp_path / "out").exists()

    def test_hostile(self, benchmark: Path, flame: SkinnedHead) -> None:
        file = benchmark / "calibration" / "camera_params.json"
        good = json.loads(file.read_text())
        poses, lenses = good["world_2_cam"], good["intrinsics"]
        one = {"222200037": lenses["222200037"]}
        for change, message in (
            ({"intrinsics": one}, "no camera 222200046"),
            ({"world_2_cam": {}}, "no camera 222200037"),
            ({"world_2_cam": []}, "world_2_cam"),
            ({"world_2_cam": poses | {"222200046": [[1e300] * 4] * 4}}, "world_2_cam"),
            ({"intrinsics": lenses | {"222200037": [[1]]}}, "intrinsics"),
            ({"intrinsics": lenses | {"222200037": [[40, 0, 500], [0, 40, 9], [0, 0, 1]]}}, "principal point"),
        ):
            file.write_text(json.dumps({**good, **change}))
            with pytest.raises(VultusError, match=message):
                read_contents(benchmark)
        file.write_text(json.dumps(good))
        video = benchmark / "sequences" / "SEQUENCE" / "images" / "cam_222200046.mp4"
        content = video.read_bytes()
        video.write_bytes(content[: len(content) // 8])
        with pytest.raises(VultusError, match=r"cam_222200046\.mp4"):
            read_contents(benchmark)
        video.write_bytes(content)
        tracking = benchmark / "sequences" / "SEQUENCE" / "tracking" / "flame2023_tracking.npz"
        arrays = read_npz(tracking)
        np.savez(tracking, **{key: value[:2] if len(value) == 4 else value for key, value in arrays.items()})
        with pytest.raises(VultusError, match="no head parameters"):
            open_capture(benchmark, flame)
        file.write_text("{" * 9)
        with pytest.raises(VultusError, match=r"not a capture|not valid JSON"):
            read_contents(benchmark)

    def test_missing_masks_and_frames_are_named(self, benchmark: Path) -> None:
        sequence = benchmark / "sequences" / "SEQUENCE"
        for folder in ("alpha_maps", "images"):
            short = sequence / folder / "cam_222200046.mp4"
            short.write_bytes(b"")
            with pytest.raises(VultusError, match=r"cam_222200046\.mp4"):
                read_contents(sequence)
            short.unlink()
        contents = read_contents(sequence)
        assert {contents.camera_names[shot.camera] for shot in contents.shots} == {"222200037"}
        assert all(shot.mask is not None for shot in contents.shots)
        assert (WIDTH, HEIGHT) != (24, 20)


# What the library "colour" 0.4.7 (BSD-3-Clause) gives for R, G, B = 0.2, 0.3, 0.7.
_FIRST = [0.2, 0.3, 0.7]
_PAIRS = [0.06, 0.14, 0.21]
_SECOND = [*_FIRST, *_PAIRS, 0.04, 0.09, 0.49]
_THIRD = [*_SECOND, 0.042, 0.012, 0.063, 0.098, 0.028, 0.018, 0.147, 0.008, 0.027, 0.343]
CHEUNG = {
    3: _FIRST,
    4: [*_FIRST, 1],
    5: [*_FIRST, 0.042, 1],
    7: [*_FIRST, *_PAIRS, 1],
    8: [*_FIRST, *_PAIRS, 0.042, 1],
    10: [*_SECOND, 1],
    11: [*_SECOND, 0.042, 1],
    14: [*_SECOND, 0.042, 0.008, 0.027, 0.343, 1],
    16: [*_SECOND, 0.042, 0.012, 0.063, 0.098, 0.008, 0.027, 0.343],
    17: [*_SECOND, 0.042, 0.012, 0.063, 0.098, 0.008, 0.027, 0.343, 1],
    19: _THIRD,
    20: [*_THIRD, 1],
    22: [*_THIRD, 0.0084, 0.0126, 0.0294],
    35: [
        *_THIRD, 0.0024, 0.0056, 0.0054, 0.0189, 0.0686, 0.1029, 0.0084, 0.0126, 0.0294, 0.0036, 0.0196, 0.0441,
        0.0016, 0.0081, 0.2401, 1,
    ],
}  # fmt: skip


@pytest.mark.parametrize("terms", CHEUNG)
def test_polynomials_of_colour_calibrations(terms: int) -> None:
    found = polynomial_terms(torch.tensor([0.2, 0.3, 0.7], dtype=torch.float64), terms)
    torch.testing.assert_close(found, torch.tensor(CHEUNG[terms], dtype=torch.float64), atol=1e-12, rtol=0)
