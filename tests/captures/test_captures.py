"""Captures: what is written is what is read, interrupted writing resumes, hostile folders are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from capture_samples import fill, make_camera, make_head, make_motion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vultus.captures import CaptureWriter, Source, open_capture
from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import SkinnedHead


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestRoundTrip:
    def test_everything_comes_back(self, tmp_path: Path, head: SkinnedHead) -> None:
        motion = make_motion(head, 5, has_offset=True)
        source = Source("clip.mp4", "ab" * 32)
        image, mask = torch.rand(10, 12, 3), torch.rand(10, 12, 1)
        special = make_camera(7)
        points, weights = torch.rand(3, 2), torch.tensor([1.0, 0.0, 0.5])
        with CaptureWriter(tmp_path / "c", head=head, fps=30, source=source) as writer:
            fill(writer, motion)
            writer.add_image(2, 1, image, mask)
            writer.set_camera(1, special, timestep=2)
            writer.set_landmarks("dots", 2, 1, points, weights)
        capture = open_capture(tmp_path / "c", head)
        assert [(view.timestep, view.camera) for view in capture.views] == [(t, c) for t in range(5) for c in range(2)]
        assert capture.source == source
        assert (capture.fps, capture.head_name, capture.head_fingerprint) == (30.0, head.name, head.fingerprint)
        assert torch.equal(capture.shots, motion.shots)
        torch.testing.assert_close(capture.motion.params.expression, motion.params.expression)
        view = next(view for view in capture.views if (view.timestep, view.camera) == (2, 1))
        for each, expected in ((view, special), (capture.views[1], make_camera(1))):
            camera = capture.camera(each)
            torch.testing.assert_close(camera.world_to_camera, expected.world_to_camera, atol=1e-6, rtol=0)
            torch.testing.assert_close(camera.K, expected.K, atol=1e-5, rtol=0)
            assert (camera.width, camera.height) == (12, 10)
        torch.testing.assert_close(capture.mask(view), mask, atol=0.5 / 255 + 1e-6, rtol=0)
        torch.testing.assert_close(capture.image(view), image * mask + 1 - mask, atol=2 / 255, rtol=0)
        torch.testing.assert_close(capture.landmarks(view), points)
        torch.testing.assert_close(capture.landmark_weights(view), weights)
        assert capture.landmark_set == "dots"

    def test_change_of_background_is_exact(self, capture_folder: Path) -> None:
        capture = open_capture(capture_folder)
        background = torch.tensor([0.1, 0.9, 0.4])
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(10, 12, 3, generator=generator)
        for view in capture.views[:1]:
            mask = capture.mask(view)
            expected = image * mask + background * (1 - mask)
            # One rounding of the stored picture is all that may differ.
            torch.testing.assert_close(capture.image(view, background), expected, atol=0.5 / 255 + 1e-6, rtol=0)

    def test_reading_and_writing_again_keeps_the_pictures(self, capture_folder: Path, tmp_path: Path) -> None:
        capture, head = open_capture(capture_folder), make_head()
        with CaptureWriter(tmp_path / "again", head=head, fps=capture.fps, source=capture.source) as writer:
            for view in capture.views:
                image, mask = capture.image(view), capture.mask(view)
                writer.add_image(view.timestep, view.camera, image, mask, is_composited=True)
                writer.set_camera(view.camera, capture.camera(view), view.timestep)
            writer.set_motion(capture.motion)
        again = open_capture(tmp_path / "again")
        for view, other in zip(capture.views, again.views, strict=True):
            assert torch.equal(capture.image(view), again.image(other))
            assert torch.equal(capture.mask(view), again.mask(other))
            torch.testing.assert_close(
                capture.camera(view).world_to_camera, again.camera(other).world_to_camera, atol=1e-6, rtol=0
            )
        assert again.landmarks(again.views[0]) is None
        assert again.landmark_set is None

    def test_opengl_pose_and_bottom_up_centre(self, capture_folder: Path) -> None:
        frame = json.loads((capture_folder / "transforms.json").read_text())["frames"][1]
        camera = make_camera(1)
        assert frame["cy"] == pytest.approx(10 - 4.25)
        pose = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(pose[:3, 3], camera.center.numpy(), atol=1e-6)
        # The camera looks along its own -z, with +y upwards.
        forward = np.array([0.01, 0.02, 0.0]) - pose[:3, 3]
        np.testing.assert_allclose(-pose[:3, 2], forward / np.linalg.norm(forward), atol=1e-6)
        assert pose[1, 1] > 0.9


class TestSplits:
    def test_published_rule(self, capture_folder: Path) -> None:
        capture = open_capture(capture_folder)
        assert {view.timestep for view in capture.split("test")} == {4}
        assert {(view.timestep, view.camera) for view in capture.split("val")} == {(t, 1) for t in range(4)}
        assert {(view.timestep, view.camera) for view in capture.split("train")} == {(t, 0) for t in range(4)}

    def test_single_camera_has_no_validation_view(self, tmp_path: Path, head: SkinnedHead) -> None:
        with CaptureWriter(tmp_path / "c", head=head, fps=30) as writer:
            fill(writer, make_motion(head, 10), cameras=1)
        capture = open_capture(tmp_path / "c")
        assert capture.split("val") == ()
        assert [view.timestep for view in capture.split("test")] == [7, 8, 9]

    def test_hold_out(self, capture_folder: Path) -> None:
        capture = open_capture(capture_folder)
        every = capture.hold_out()
        assert every.split("train") == capture.views
        other = capture.hold_out(cameras=[0], timesteps=[1])
        assert {view.camera for view in other.split("train")} == {1}
        assert {view.timestep for view in other.split("test")} == {1}
        splits = [other.split(name) for name in ("train", "val", "test")]
        assert sorted(view for split in splits for view in split) == list(capture.views)
        for wrong in ({"cameras": [3]}, {"timesteps": [5]}, {"cameras": [0, 1]}):
            with pytest.raises(VultusError):
                capture.hold_out(**wrong)
        with pytest.raises(VultusError, match="choose train, val or test"):
            capture.split("everything")  # pyright: ignore[reportArgumentType]


class TestResuming:
    def test_interrupted_pictures_are_kept_for_the_same_settings_only(self, tmp_path: Path, head: SkinnedHead) -> None:
        folder = tmp_path / "c"

        def writer(size: int) -> CaptureWriter:
            return CaptureWriter(folder, head=head, fps=30, source=Source("a", "b"), settings={"size": size})

        with pytest.raises(AssertionError), writer(12) as first:
            assert first.has_image(0, 0)
        with pytest.raises(VultusError, match="unfinished"):
            open_capture(folder)
        with writer(12) as second:
            second.add_image(0, 0, torch.zeros(10, 12, 3), torch.ones(10, 12, 1))
            second.add_image(1, 0, torch.zeros(10, 12, 3), torch.ones(10, 12, 1))
            second.set_camera(0, make_camera(0))
            second.set_motion(make_motion(head, 2))
        with writer(12) as third:
            assert third.has_image(0, 0)
            assert not third.has_image(2, 0)
            third.use_image(0, 0)
            third.set_camera(0, make_camera(0))
            third.set_motion(make_motion(head, 1))
        assert len(open_capture(folder).views) == 1
        assert [path.name for path in (folder / "images").iterdir()] == ["00000_00.png"]
        (folder / "images" / "notes.txt").write_text("mine")
        with pytest.raises(VultusError, match="nothing to keep"), writer(13) as fourth:
            assert not fourth.has_image(0, 0)
        assert [path.name for path in (folder / "images").iterdir()] == ["notes.txt"]

    def test_folders_that_cannot_be(self, tmp_path: Path, head: SkinnedHead) -> None:
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
            with pytest.raises(VultusError, match=folder.name), CaptureWriter(folder, head=head, fps=30):
                pass
        for fps in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(VultusError, match="frame rate"):
                CaptureWriter(tmp_path / "c", head=head, fps=fps)

    def test_foreign_folder_is_left_alone(self, tmp_path: Path, head: SkinnedHead) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "00000_00.png").write_text("mine")
        with pytest.raises(VultusError, match="other files"), CaptureWriter(tmp_path, head=head, fps=30):
            pass
        assert (tmp_path / "images" / "00000_00.png").read_text() == "mine"


class TestFlame:
    def test_export_without_capture_json_reads_the_same(self, tmp_path: Path, flame_like: SkinnedHead) -> None:
        folder = tmp_path / "c"
        motion = make_motion(flame_like, 5, has_offset=True)
        with CaptureWriter(folder, head=flame_like, fps=30) as writer:
            fill(writer, motion)
        native = open_capture(folder, flame_like)
        for name in ("capture.json", "motion.npz", "landmarks.npz"):
            (folder / name).unlink()
        export = open_capture(folder, flame_like)
        assert export.views == native.views
        assert export.val == native.val
        assert export.test == native.test
        for actual, expected in (
            (export.motion.params.identity, motion.params.identity),
            (export.motion.params.expression, motion.params.expression),
            (export.motion.params.offset, motion.params.offset),
            *((export.motion.params.joints[name], motion.params.joints[name]) for name in flame_like.joint_names),
        ):
            torch.testing.assert_close(actual, expected)
        assert export.head_fingerprint == flame_like.fingerprint
        assert open_capture(folder).motion.params.model == ""
        with pytest.raises(VultusError, match="give a FLAME model"):
            open_capture(folder, make_head())

    def test_canonical_parameters_as_published(self, tmp_path: Path, flame_like: SkinnedHead) -> None:
        motion = make_motion(flame_like, 2, has_offset=True)
        with CaptureWriter(tmp_path / "c", head=flame_like, fps=30) as writer:
            fill(writer, motion)
        canonical = read_npz(tmp_path / "c" / "canonical_flame_param.npz")
        np.testing.assert_allclose(canonical["jaw_pose"], [[0.3, 0, 0]])
        np.testing.assert_array_equal(canonical["shape"], motion.params.identity.numpy())
        assert motion.params.offset is not None
        np.testing.assert_array_equal(canonical["static_offset"][0], motion.params.offset.numpy())
        shapes = {key: value.shape for key, value in canonical.items()}
        assert shapes.pop("static_offset") == (1, 9, 3)
        assert shapes == {
            "shape": (300,),
            "expr": (1, 100),
            "rotation": (1, 3),
            "neck_pose": (1, 3),
            "jaw_pose": (1, 3),
            "translation": (1, 3),
            "eyes_pose": (1, 6),
        }
        for key in ("expr", "rotation", "neck_pose", "eyes_pose", "translation"):
            assert not canonical[key].any()

    def test_only_flame_gets_flame_parameters(self, capture_folder: Path) -> None:
        assert not (capture_folder / "flame_param").exists()
        assert not (capture_folder / "canonical_flame_param.npz").exists()

    def test_union_of_sequences(self, tmp_path: Path, flame_like: SkinnedHead) -> None:
        with CaptureWriter(tmp_path / "EMO-1", head=flame_like, fps=30) as writer:
            fill(writer, make_motion(flame_like, 3))
        union = tmp_path / "UNION"
        union.mkdir()
        for split in ("train", "val", "test"):
            content = json.loads((tmp_path / "EMO-1" / f"transforms_{split}.json").read_text())
            for frame in content["frames"]:
                for key in ("file_path", "fg_mask_path", "flame_param_path"):
                    frame[key] = "../EMO-1/" + frame[key]
            (union / f"transforms_{split}.json").write_text(json.dumps(content))
        with pytest.raises(VultusError, match="leads out"):
            open_capture(union)
        (union / "sequences_trainval.txt").write_text("EMO-1\n")
        assert len(open_capture(union).views) == 6
        (tmp_path / "EMO-1" / "canonical_flame_param.npz").unlink()
        with pytest.raises(VultusError, match="leads out"):
            open_capture(union)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("expr", np.zeros((1, 50), np.float32)),
            ("rotation", np.full((1, 3), np.nan, np.float32)),
            ("shape", np.full(300, 1e9)),
            ("static_offset", np.zeros((1, 7), np.float32)),
            ("eyes_pose", None),
            ("translation", np.array([["a", "b", "c"]])),
        ],
    )
    def test_malformed_parameters(self, tmp_path: Path, flame_like: SkinnedHead, key: str, value: Any) -> None:
        folder = tmp_path / "c"
        with CaptureWriter(folder, head=flame_like, fps=30) as writer:
            fill(writer, make_motion(flame_like, 2))
        (folder / "capture.json").unlink()
        path = folder / "flame_param" / "00001.npz"
        arrays = read_npz(path) | {key: value}
        write_npz(path, **{name: array for name, array in arrays.items() if array is not None})
        with pytest.raises(VultusError, match=r"00001\.npz.*" + key):
            open_capture(folder)


class TestHostileFolders:
    @pytest.mark.parametrize(
        ("file", "change", "message"),
        [
            ("transforms_train.json", lambda c: c["frames"][0].update(file_path="../../x.png"), "leads out"),
            ("transforms_train.json", lambda c: c["frames"][0].update(file_path="/etc/passwd"), "absolute"),
            ("transforms_train.json", lambda c: c["frames"][0].update(fg_mask_path=5), "not a file name"),
            ("transforms_train.json", lambda c: c["frames"].append(c["frames"][0]), "occurs twice"),
            ("transforms_val.json", lambda c: c["frames"][0].update(camera_index=0), "occurs twice"),
            ("transforms_train.json", lambda c: c["frames"][0].update(timestep_index=10**30), "timestep_index"),
            ("transforms_train.json", lambda c: c["frames"][0].update(timestep_index=-1), "timestep_index"),
            ("transforms_train.json", lambda c: c["frames"][0].update(timestep_index=77), "no head parameters"),
            ("transforms_train.json", lambda c: c["frames"][0].update(w=10**9), "w = "),
            ("transforms_train.json", lambda c: c["frames"][0].update(fl_x=0), "focal length"),
            ("transforms_train.json", lambda c: c["frames"][0].update(cx="left"), "cx"),
            ("transforms_train.json", lambda c: c["frames"][0].update(transform_matrix=[[1]]), "4x4"),
            ("transforms_train.json", lambda c: c["frames"][0].update(transform_matrix=[[0] * 4] * 4), "rigid"),
            ("transforms_train.json", lambda c: c["frames"][0].update(transform_matrix=["a"]), "matrix"),
            ("transforms_train.json", lambda c: c.update(frames={}), "list of frames"),
            ("transforms_train.json", lambda c: c.update(frames=[3]), "frame 0"),
            ("transforms_train.json", lambda c: c["frames"][0].update(file_path="images/none.png"), "missing"),
            ("capture.json", lambda c: c.update(version=99), "newer version"),
            ("capture.json", lambda c: c.update(format="x"), "description"),
            ("capture.json", lambda c: c.update(fps=0), "frame rate"),
            ("capture.json", lambda c: c.update(head={"name": "x"}), "head model"),
            ("capture.json", lambda c: c["head"].update(fingerprint="0" * 64), "different head models"),
            ("capture.json", lambda c: c.update(source="clip"), "source"),
        ],
    )
    def test_refused(self, capture_folder: Path, file: str, change: Callable[[Any], object], message: str) -> None:
        edit(capture_folder / file, change)
        with pytest.raises(VultusError, match=message):
            open_capture(capture_folder)

    def test_picture_of_another_size(self, capture_folder: Path) -> None:
        edit(capture_folder / "transforms_train.json", lambda c: c["frames"][0].update(w=24))
        capture = open_capture(capture_folder)
        with pytest.raises(VultusError, match="12x10 pixels, but its camera 24x10"):
            capture.image(capture.views[0])

    def test_damaged_picture(self, capture_folder: Path) -> None:
        (capture_folder / "images" / "00000_00.png").write_bytes(b"\x89PNG\r\n")
        capture = open_capture(capture_folder)
        with pytest.raises(VultusError, match=r"00000_00\.png"):
            capture.image(capture.views[0])

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("points", np.full((10, 3, 2), np.nan)),
            ("points", np.zeros((10, 3))),
            ("weights", np.full((10, 3), -1.0)),
            ("timestep", np.zeros(10, np.int64)),
            ("camera", np.zeros(3, np.int64)),
            ("set", np.array(["a", "b"])),
        ],
    )
    def test_malformed_landmarks(self, capture_folder: Path, key: str, value: np.ndarray) -> None:
        path = capture_folder / "landmarks.npz"
        write_npz(path, **(read_npz(path) | {key: value}))
        with pytest.raises(VultusError, match=r"landmarks\.npz"):
            open_capture(capture_folder)

    def test_not_a_capture(self, tmp_path: Path) -> None:
        with pytest.raises(VultusError, match="not a folder"):
            open_capture(tmp_path / "none")
        with pytest.raises(VultusError, match="not a capture"):
            open_capture(tmp_path)

    def test_parameters_of_another_head(self, capture_folder: Path) -> None:
        with pytest.raises(VultusError, match="other"):
            open_capture(capture_folder, make_head("other", vertices=8))

    json_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_value_anywhere(self, capture_folder: Path, data: st.DataObject) -> None:
        file = capture_folder / data.draw(st.sampled_from(["capture.json", "transforms_train.json"]))
        original = file.read_text()
        content = json.loads(original)
        target = content["frames"][0] if "frames" in content and data.draw(st.booleans()) else content
        key = data.draw(st.sampled_from(sorted(target)))
        target[key] = data.draw(self.json_values | st.lists(self.json_values, max_size=3))
        try:
            file.write_text(json.dumps(content))
            try:
                capture = open_capture(capture_folder)
            except VultusError:
                return
            for view in capture.views:
                assert bool(torch.isfinite(capture.camera(view).K).all())
                assert bool(torch.isfinite(capture.camera(view).world_to_camera).all())
        finally:
            file.write_text(original)
