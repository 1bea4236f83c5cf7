"""Every layout that is written is read back: the same pictures, masks, cameras, splits and, if it has them, heads."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_samples import fill, make_camera, make_head, make_motion
from PIL import Image
from rig import HEIGHT, WIDTH, cameras, write_rig

from vultus.captures import CaptureWriter, layout_of, open_capture, read_contents
from vultus.captures.colmap_files import read_colmap_model
from vultus.captures.lens import Lens
from vultus.captures.nersemble_colors import decode_srgb, encode_srgb, polynomial_terms
from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import SkinnedHead
from vultus.rotations import axis_angle_to_matrix
from vultus.workflows.convert import convert


def projections(capture, view) -> torch.Tensor:
    points = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.05, 0.0], [-0.05, 0.1, 0.08]])
    return capture.camera(view).project(points)


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    write_rig(tmp_path / "rig", count=2, angles=(-30.0, 0.0, 40.0))
    return tmp_path / "rig"


def assert_same_pictures(one, other, tolerance: float = 0.0) -> None:
    assert len(one.views) == len(other.views)
    for view, again in zip(one.views, other.views, strict=True):
        assert (view.timestep, view.camera) == (again.timestep, again.camera)
        torch.testing.assert_close(other.image(again), one.image(view), atol=tolerance, rtol=0)
        torch.testing.assert_close(other.mask(again), one.mask(view), atol=tolerance, rtol=0)
        torch.testing.assert_close(projections(other, again), projections(one, view), atol=1e-2, rtol=0)


class TestPlain:
    def test_round_trip(self, rig: Path, tmp_path: Path) -> None:
        assert convert(rig, tmp_path / "plain", "plain") == 6
        before, after = open_capture(rig), open_capture(tmp_path / "plain", needs_motion=False)
        assert_same_pictures(before, after)
        assert after.fps == 25
        assert not after.has_motion
        assert not bool(after.motion.valid.any())
        for split in ("train", "val", "test"):
            assert [str(v) for v in before.split(split)] == [str(v) for v in after.split(split)]
        with pytest.raises(VultusError, match="no head parameters"):
            open_capture(tmp_path / "plain")

    def test_a_moving_camera(self, tmp_path: Path, head: SkinnedHead) -> None:
        with CaptureWriter(tmp_path / "c", head=head, fps=30) as writer:
            fill(writer, make_motion(head, 3), cameras=1)
            writer.set_camera(0, make_camera(2), timestep=1)
        convert(tmp_path / "c", tmp_path / "plain", "plain")
        assert_same_pictures(open_capture(tmp_path / "c"), open_capture(tmp_path / "plain", needs_motion=False))

    def test_pictures_over_any_background_are_masked_when_read(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "plain", "plain")
        file = tmp_path / "plain" / "cameras.json"
        content = json.loads(file.read_text()) | {"over_white": False}
        file.write_text(json.dumps(content))
        capture = open_capture(rig)
        view = capture.views[0]
        picture = tmp_path / "plain" / "images" / "00000_00.png"
        mask = capture.mask(view)
        green = capture.image(view, torch.tensor([0.0, 1.0, 0.0]))
        Image.fromarray((green * 255).round().byte().numpy()).save(picture)
        again = open_capture(tmp_path / "plain", needs_motion=False)
        torch.testing.assert_close(again.image(again.views[0]), green * mask + 1 - mask, atol=1e-6, rtol=0)

    def test_distortion_is_taken_out(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "plain", "plain")
        file = tmp_path / "plain" / "cameras.json"
        content = json.loads(file.read_text())
        for camera in content["cameras"].values():
            camera["distortion"] = [0.8, 0.1]
        file.write_text(json.dumps(content))
        straight, bent = open_capture(rig), open_capture(tmp_path / "plain", needs_motion=False)
        before, after = straight.mask(straight.views[1]).sum(), bent.mask(bent.views[1]).sum()
        # This lens pushes everything outwards; without it the head is smaller.
        assert 0.5 * before < after < 0.97 * before

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.update(format="x"), "not a list of cameras"),
            (lambda c: c.update(version=2), "newer"),
            (lambda c: c.update(frames=None), "no list"),
            (lambda c: c.update(fps=-1), "frame rate"),
            (lambda c: c["frames"].append(c["frames"][0]), "occurs twice"),
            (lambda c: c["frames"][0].update(image="../x.png"), "leads out"),
            (lambda c: c["frames"][0].update(image="/etc/passwd"), "absolute"),
            (lambda c: c["frames"][0].update(mask="masks/none.png"), "missing"),
            (lambda c: c["frames"][0].update(camera="nobody"), "nobody"),
            (lambda c: c["frames"][0].update(camera=["x"]), "not one of"),
            (lambda c: c["frames"][0].update(timestep=10**40), "timestep"),
            (lambda c: c["frames"][0].update(split="exam"), "split"),
            (lambda c: c["cameras"]["0"].update(K=[[1e300] * 3] * 3), "K"),
            (lambda c: c["cameras"]["0"].update(K=[[0, 0, 1], [0, 1, 1], [0, 0, 1]]), "focal"),
            (lambda c: c["cameras"]["0"].update(width=0), "width"),
            (lambda c: c["cameras"]["0"].update(distortion=[1e99]), "distortion"),
            (lambda c: c["cameras"]["0"].update(distortion=[0.1] * 9), "distortion"),
            (lambda c: c["cameras"]["0"].update(world_to_camera=[[2.0] * 4] * 4), "rigid"),
            (
                lambda c: c["cameras"]["0"].update(
                    world_to_camera=np.array(c["cameras"]["0"]["world_to_camera"]).T.tolist()
                ),
                "transposed",
            ),
            (
                lambda c: c["cameras"]["0"].update(
                    world_to_camera=(np.diag([1, 1, -1, 1]) @ c["cameras"]["0"]["world_to_camera"]).tolist()
                ),
                "mirrored",
            ),
        ],
    )
    def test_hostile(self, rig: Path, tmp_path: Path, change, message: str) -> None:
        convert(rig, tmp_path / "plain", "plain", timesteps=[0])
        file = tmp_path / "plain" / "cameras.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        with pytest.raises(VultusError, match=message) as error:
            open_capture(tmp_path / "plain", needs_motion=False)
        assert "plain" in str(error.value)

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, '{"fps": NaN}', '{"fps": 1e999}', "\x00", '{"a": 1' + "0" * 5000 + "}"]
    )
    def test_hostile_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "cameras.json").write_text(text)
        with pytest.raises(VultusError, match=r"cameras\.json"):
            open_capture(tmp_path)


class TestGaussianAvatars:
    @pytest.fixture
    def flame(self, tmp_path: Path, flame_like: SkinnedHead) -> Path:
        with CaptureWriter(tmp_path / "flame", head=flame_like, fps=30) as writer:
            fill(writer, make_motion(flame_like, 4, has_offset=True))
            writer.name_camera(0, "222200036")
        return tmp_path / "flame"

    def test_round_trip(self, flame: Path, tmp_path: Path, flame_like: SkinnedHead) -> None:
        convert(flame, tmp_path / "ga", "gaussian-avatars", head=flame_like)
        names = {path.name for path in (tmp_path / "ga").iterdir()}
        splits = {f"transforms{kind}.json" for kind in ("", "_train", "_val", "_test")}
        assert names == splits | {"images", "fg_masks", "flame_param", "canonical_flame_param.npz"}
        before, after = open_capture(flame, flame_like), open_capture(tmp_path / "ga", flame_like)
        assert after.camera_name(0) == "222200036"
        for view, again in zip(before.views, after.views, strict=True):
            assert torch.equal(before.image(view), after.image(again))
            assert torch.equal(before.mask(view), after.mask(again))
            # Head and cameras were moved together: every vertex is where it was in every picture.
            points = [
                capture.camera(each).project(flame_like.pose(capture.motion.params[each.timestep]).vertices)
                for capture, each in ((before, view), (after, again))
            ]
            torch.testing.assert_close(points[1], points[0], atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(after.motion.params.translation.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
        for split in ("train", "val", "test"):
            assert [str(v) for v in before.split(split)] == [str(v) for v in after.split(split)]

    def test_timesteps_become_contiguous(self, flame: Path, tmp_path: Path, flame_like: SkinnedHead) -> None:
        convert(flame, tmp_path / "ga", "gaussian-avatars", head=flame_like, timesteps=[1, 3])
        content = json.loads((tmp_path / "ga" / "transforms.json").read_text())
        assert content["timestep_indices"] == [0, 1]
        assert {frame["timestep_index_original"] for frame in content["frames"]} == {1, 3}
        assert sorted(path.name for path in (tmp_path / "ga" / "flame_param").iterdir()) == ["00000.npz", "00001.npz"]

    def test_and_back_to_ours(self, flame: Path, tmp_path: Path, flame_like: SkinnedHead) -> None:
        convert(flame, tmp_path / "ga", "gaussian-avatars", head=flame_like)
        convert(tmp_path / "ga", tmp_path / "ours", "vultus", head=flame_like)
        one, two = open_capture(tmp_path / "ga", flame_like), open_capture(tmp_path / "ours", flame_like)
        assert_same_pictures(one, two)
        torch.testing.assert_close(one.motion.params.expression, two.motion.params.expression)
        assert two.camera_name(0) == "222200036"

    def test_other_heads_have_no_place(self, rig: Path, tmp_path: Path) -> None:
        with pytest.raises(VultusError, match="FLAME parameters"):
            convert(rig, tmp_path / "ga", "gaussian-avatars")
        assert not (tmp_path / "ga").exists()


class TestColmap:
    def test_round_trip(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "colmap", "colmap", timesteps=[1])
        before, after = open_capture(rig), open_capture(tmp_path / "colmap", needs_motion=False)
        assert after.camera_names == {0: "00001_00.png", 1: "00001_01.png", 2: "00001_02.png"}
        for view, again in zip([v for v in before.views if v.timestep == 1], after.views, strict=True):
            assert torch.equal(before.image(view), after.image(again))
            torch.testing.assert_close(projections(after, again), projections(before, view), atol=1e-3, rtol=0)

    def test_several_timesteps_are_refused(self, rig: Path, tmp_path: Path) -> None:
        with pytest.raises(VultusError, match="--timesteps"):
            convert(rig, tmp_path / "colmap", "colmap")

    def text_model(self, folder: Path, model: str, values: str) -> Path:
        sparse = folder / "sparse" / "0"
        sparse.mkdir(parents=True)
        (folder / "images").mkdir()
        Image.fromarray(np.full((30, 40, 3), 99, np.uint8)).save(folder / "images" / "a photo.png")
        (sparse / "cameras.txt").write_text(f"# cameras\n7 {model} 40 30 {values}\n")
        (sparse / "images.txt").write_text("# images\n3 0.5 0.5 0.5 0.5 0.1 0.2 3 7 a photo.png\n\n")
        (sparse / "points3D.txt").write_text("# points\n1 0.1 0.2 0.3 255 0 9 0.4 3 0\n")
        return folder

    def test_text(self, tmp_path: Path) -> None:
        folder = self.text_model(tmp_path / "c", "SIMPLE_RADIAL", "50 20 15 0.1")
        capture = open_capture(folder, needs_motion=False)
        camera = capture.camera(capture.views[0])
        # The quaternion (1, 1, 1, 1) / 2 turns x to y, y to z and z to x.
        torch.testing.assert_close(
            camera.to_camera(torch.eye(3)) - torch.tensor([0.1, 0.2, 3.0]), torch.eye(3)[[1, 2, 0]]
        )
        torch.testing.assert_close(camera.K, torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]))
        assert capture.image(capture.views[0]).shape == (30, 40, 3)
        model = read_colmap_model(folder / "sparse" / "0")
        assert model.images[0].lens.coefficients == (0.1,)
        np.testing.assert_array_equal(model.points, [[0.1, 0.2, 0.3]])
        np.testing.assert_array_equal(model.colors, [[255, 0, 9]])

    @pytest.mark.parametrize(
        ("model", "values", "message"),
        [
            ("OPENCV_FISHEYE", "50 50 20 15 0 0 0 0", "image_undistorter"),
            ("PINHOLE", "50 50 20", "4 parameters"),
            ("PINHOLE", "50 nan 20 15", "parameters"),
            ("PINHOLE", "50 x 20 15", "text where numbers"),
            ("PINHOLE", "0 50 20 15", "focal"),
        ],
    )
    def test_cameras_that_cannot_be(self, tmp_path: Path, model: str, values: str, message: str) -> None:
        with pytest.raises(VultusError, match=rf"cameras\.txt.*{message}"):
            read_contents(self.text_model(tmp_path / "c", model, values))

    def test_names_do_not_lead_out(self, tmp_path: Path) -> None:
        folder = self.text_model(tmp_path / "c", "PINHOLE", "50 50 20 15")
        (folder / "sparse/0/images.txt").write_text("3 1 0 0 0 0 0 3 7 ../../secret.png\n\n")
        with pytest.raises(VultusError, match="leads out"):
            read_contents(folder)
        (folder / "sparse/0/images.txt").write_text("3 1 0 0 0 0 0 3 8 a.png\n\n")
        with pytest.raises(VultusError, match="camera 8"):
            read_contents(folder)

    def test_damaged_binaries(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "colmap", "colmap", timesteps=[0])
        file = tmp_path / "colmap" / "sparse" / "0" / "images.bin"
        content = file.read_bytes()
        rng = np.random.default_rng(0)
        for cut in rng.integers(0, len(content), 12):
            file.write_bytes(content[:cut])
            with pytest.raises(VultusError, match=r"images\.bin"):
                read_contents(tmp_path / "colmap")
        file.write_bytes(struct.pack("<Q", 2**62) + content[8:])
        with pytest.raises(VultusError, match="ends too early"):
            read_contents(tmp_path / "colmap")


class TestGaussianHeadAvatar:
    def test_round_trip(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "gha", "gaussian-head-avatar", size=256)
        for name in ("image_0", "image_lowres_0", "mask_0", "mask_lowres_0", "visible_0", "visible_lowres_0"):
            with Image.open(tmp_path / "gha" / "images" / "0001" / f"{name}.jpg") as image:
                assert (image.size, image.mode) == ((256, 256), "RGB")
        arrays = read_npz(tmp_path / "gha" / "cameras" / "0001" / "camera_2.npz")
        assert (arrays["extrinsic"].shape, arrays["intrinsic"].shape) == ((3, 4), (3, 3))
        assert arrays["extrinsic"].dtype == arrays["intrinsic"].dtype == np.float64
        before, after = open_capture(rig), open_capture(tmp_path / "gha", needs_motion=False)
        assert [str(view) for view in before.views] == [str(view) for view in after.views]
        for view, again in zip(before.views, after.views, strict=True):
            factor = 256 / max(WIDTH, HEIGHT)
            shift = torch.tensor([(HEIGHT - WIDTH) / 2, 0.0])
            expected = (projections(before, view) + shift) * factor
            torch.testing.assert_close(projections(after, again), expected, atol=1e-2, rtol=0)
            # Where the mask says the head is, there is no white.
            image, mask = after.image(again), after.mask(again)[..., 0]
            assert float(image[mask > 0.98].mean()) < 0.75
            assert float(image[mask < 0.02].mean()) > 0.99

    def test_visible_area_is_the_picture(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "gha", "gaussian-head-avatar", size=480, timesteps=[0])
        visible = np.asarray(Image.open(tmp_path / "gha" / "images" / "0000" / "visible_0.jpg"))[..., 0]
        assert visible[:, 44:436].min() > 240
        assert visible[:, :36].max() < 15
        assert visible[:, 444:].max() < 15

    def test_flame_fits(self, rig: Path, tmp_path: Path) -> None:
        head = make_head("flame-test", identity=300, expression=100)
        convert(rig, tmp_path / "gha", "gaussian-head-avatar", size=256)
        generator = np.random.default_rng(1)
        fit = {
            "id_coeff": generator.standard_normal((1, 100)).astype(np.float32),
            "exp_coeff": 0.3 * generator.standard_normal((1, 59)).astype(np.float32),
            "scale": np.array([[0.7]], np.float32),
            "pose": generator.standard_normal((1, 6)).astype(np.float32),
        }
        for frame in ("0000", "0001"):
            write_npz(tmp_path / "gha" / "FLAME_params" / frame / "params.npz", **fit)
        with pytest.raises(VultusError, match="--head"):
            open_capture(tmp_path / "gha")
        capture = open_capture(tmp_path / "gha", head)
        posed = head.pose(capture.motion.params[1]).vertices
        # The fit poses the model at the origin, then scales and turns it about the origin, then moves it.
        still = capture.motion.params[1]
        at_rest = head.pose(
            type(still)(
                still.model, still.identity, still.expression,
                {**still.joints, "root": torch.zeros(3)}, torch.zeros(3), torch.ones(()),
            )
        ).vertices  # fmt: skip
        pose = torch.from_numpy(fit["pose"][0])
        expected = 0.7 * at_rest @ axis_angle_to_matrix(pose[:3]).T + pose[3:]
        torch.testing.assert_close(posed, expected, atol=1e-5, rtol=1e-5)
        write_npz(tmp_path / "gha" / "FLAME_params" / "0001" / "params.npz", **{**fit, "pose": fit["pose"] * np.nan})
        with pytest.raises(VultusError, match=r"params\.npz: pose"):
            open_capture(tmp_path / "gha", head)

    def test_hostile(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "gha", "gaussian-head-avatar", size=256)
        camera = tmp_path / "gha" / "cameras" / "0001" / "camera_1.npz"
        for change, message in (
            ({"extrinsic": np.full((3, 4), np.nan)}, "extrinsic"),
            ({"extrinsic": np.zeros((3, 4))}, "rigid"),
            ({"intrinsic": np.zeros((2, 2))}, "intrinsic"),
            ({"intrinsic": np.array(["a"])}, "intrinsic"),
        ):
            arrays = read_npz(tmp_path / "gha" / "cameras" / "0001" / "camera_0.npz")
            write_npz(camera, **{**arrays, **change})
            with pytest.raises(VultusError, match=rf"camera_1\.npz.*{message}"):
                read_contents(tmp_path / "gha")
        camera.unlink()
        with pytest.raises(VultusError, match=r"camera_1\.npz"):
            read_contents(tmp_path / "gha")


class TestNersemble:
    SERIALS = ("220700191", "222200036")

    def make(self, root: Path, version: int) -> Path:
        rig = cameras((0.0, 30.0))
        poses = {serial: camera.world_to_camera.tolist() for serial, camera in zip(self.SERIALS, rig, strict=True)}
        K = [[220.0, 0, 40.0], [0, 220.0, 48.0], [0, 0, 1]]
        about = {"world_2_cam": poses, "intrinsics": K, "width": 80, "height": 96}
        if version == 1:
            calibration, sequence = root / "camera_params" / "030", root / "030" / "EMO-1"
        else:
            calibration, sequence = root / "030" / "calibration", root / "030" / "sequences" / "EMO-1"
        calibration.mkdir(parents=True)
        (calibration / "camera_params.json").write_text(json.dumps(about))
        (sequence / "images").mkdir(parents=True)
        (sequence / "alpha_maps").mkdir()
        for serial in self.SERIALS:
            for frame in (0, 3, 6):
                name = f"cam_{serial}_{frame:06d}"
                Image.fromarray(np.full((48, 40, 3), 51 * (1 + frame // 3), np.uint8)).save(
                    sequence / "images" / f"{name}.png"
                )
                Image.fromarray(np.full((48, 40), 255, np.uint8)).save(sequence / "alpha_maps" / f"{name}.png")
        return sequence

    @pytest.mark.parametrize("version", [1, 2])
    def test_stills(self, tmp_path: Path, version: int) -> None:
        capture = open_capture(self.make(tmp_path, version), needs_motion=False)
        assert [(v.timestep, v.camera) for v in capture.views] == [(t, c) for t in range(3) for c in range(2)]
        assert [capture.camera_name(camera) for camera in range(2)] == list(self.SERIALS)
        assert capture.fps == 73
        # Pictures at half the calibrated size have cameras of half the focal length.
        camera = capture.camera(capture.views[0])
        torch.testing.assert_close(camera.K, torch.tensor([[110.0, 0, 20], [0, 110, 24], [0, 0, 1]]))
        torch.testing.assert_close(capture.image(capture.views[2]), torch.full((48, 40, 3), 0.4))
        assert bool((capture.mask(capture.views[0]) == 1).all())

    def test_colours_of_version_1(self, tmp_path: Path) -> None:
        sequence = self.make(tmp_path, 1)
        A = np.array([[0.5, 0.25, 0, 0.1], [0, 1, 0, 0], [0, 0, 0.5, 0]])
        (tmp_path / "color_correction" / "030").mkdir(parents=True)
        np.save(tmp_path / "color_correction" / "030" / f"{self.SERIALS[0]}.npy", A)
        capture = open_capture(sequence, needs_motion=False)
        # Row vectors: (0.2, 0.2, 0.2) times the 3x3 part, plus the last column.
        expected = torch.tensor([0.2 * 0.5 + 0.1, 0.2 * 1.25, 0.2 * 0.5])
        torch.testing.assert_close(capture.image(capture.views[0])[0, 0], expected, atol=0.5 / 255, rtol=0)
        torch.testing.assert_close(capture.image(capture.views[1])[0, 0], torch.full((3,), 0.2))

    def test_colours_of_version_2(self, tmp_path: Path) -> None:
        sequence = self.make(tmp_path, 2)
        A = [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0.1], [0, 0, 0, 2, 0]]
        file = tmp_path / "030" / "calibration" / "color_calibration.json"
        file.write_text(json.dumps({self.SERIALS[0]: A}))
        capture = open_capture(sequence, needs_motion=False)
        light = float(decode_srgb(torch.tensor(0.2)))
        expected = encode_srgb(torch.tensor([light, light + 0.1, 2 * light**3]))
        torch.testing.assert_close(capture.image(capture.views[0])[0, 0], expected, atol=0.5 / 255, rtol=0)
        file.write_text(json.dumps({self.SERIALS[0]: [[1] * 6] * 3}))
        with pytest.raises(VultusError, match="6 terms"):
            open_capture(sequence, needs_motion=False)

    def test_polynomial_terms(self) -> None:
        # The example in the documentation of the library "colour" for five terms.
        terms = polynomial_terms(torch.tensor([0.17224810, 0.09170660, 0.06416938]), 5)
        torch.testing.assert_close(
            terms, torch.tensor([0.1722481, 0.0917066, 0.0641693, 0.0010136, 1.0]), atol=1e-6, rtol=0
        )

    def test_srgb(self) -> None:
        values = torch.linspace(0, 1, 33)
        torch.testing.assert_close(encode_srgb(decode_srgb(values)), values, atol=1e-6, rtol=0)
        torch.testing.assert_close(decode_srgb(torch.tensor(0.5)), torch.tensor(0.21404114), atol=1e-6, rtol=0)

    def test_videos(self, tmp_path: Path) -> None:
        from vultus.images import write_video

        sequence = self.make(tmp_path, 2)
        for folder in ("images", "alpha_maps"):
            for path in (sequence / folder).iterdir():
                path.unlink()
        for serial in self.SERIALS:
            frames = [torch.full((48, 40, 3), 0.2 * (index + 1)) for index in range(4)]
            write_video(sequence / "images" / f"cam_{serial}.mp4", frames, fps=25)
        capture = open_capture(sequence, needs_motion=False)
        assert len(capture.views) == 8
        for index in (0, 6, 2, 7, 1):
            view = capture.views[index]
            mean = float(capture.image(view).mean())
            assert mean == pytest.approx(0.2 * (view.timestep + 1), abs=0.03)

    def test_hostile(self, tmp_path: Path) -> None:
        sequence = self.make(tmp_path, 2)
        file = tmp_path / "030" / "calibration" / "camera_params.json"
        good = json.loads(file.read_text())
        for change, message in (
            ({"world_2_cam": {self.SERIALS[0]: good["world_2_cam"][self.SERIALS[0]]}}, self.SERIALS[1]),
            ({"world_2_cam": {self.SERIALS[0]: "x"}}, "world_2_cam"),
            ({"world_2_cam": []}, "world_2_cam"),
            ({"intrinsics": [[1]]}, "intrinsics"),
            ({"width": 200}, "scaled copy"),
            ({"height": 10**12}, "height"),
        ):
            file.write_text(json.dumps({**good, **change}))
            with pytest.raises(VultusError, match=message):
                read_contents(sequence)

    def test_round_trip(self, rig: Path, tmp_path: Path) -> None:
        convert(rig, tmp_path / "030", "nersemble")
        sequence = tmp_path / "030" / "sequences" / "SEQUENCE"
        assert (sequence / "images" / "cam_2_000001.png").is_file()
        before = open_capture(rig)
        for root in (tmp_path / "030", sequence):
            assert_same_pictures(before, open_capture(root, needs_motion=False), tolerance=1.01 / 255)

    @pytest.mark.parametrize("layout", ["nersemble", "nersemble-benchmark"])
    def test_names_of_cameras_lead_nowhere(self, rig: Path, tmp_path: Path, layout: str) -> None:
        convert(rig, tmp_path / "plain", "plain")
        file = tmp_path / "plain" / "cameras.json"
        content = json.loads(file.read_text())
        content["cameras"]["../../../evil/1"] = content["cameras"].pop("1")
        for frame in content["frames"]:
            frame["camera"] = frame["camera"].replace("1", "../../../evil/1")
        file.write_text(json.dumps(content))
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        convert(tmp_path / "plain", tmp_path / "out", layout)
        after = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        assert all(tmp_path / "out" in path.parents for path in after)
        capture = open_capture(tmp_path / "out", needs_motion=False)
        assert "_________evil_1" in {capture.camera_name(camera) for camera in capture.camera_indices}

    def test_one_camera_matrix_for_all(self, tmp_path: Path, head: SkinnedHead) -> None:
        with CaptureWriter(tmp_path / "c", head=head, fps=30) as writer:
            fill(writer, make_motion(head, 3))
            writer.set_camera(1, make_camera(1, width=12), timestep=1)
            writer.set_camera(1, replace(make_camera(1), K=2 * make_camera(1).K / 2 + torch.eye(3)), timestep=2)
        with pytest.raises(VultusError, match="one camera matrix"):
            convert(tmp_path / "c", tmp_path / "030", "nersemble")
        with CaptureWriter(tmp_path / "d", head=head, fps=30) as writer:
            fill(writer, make_motion(head, 3))
            writer.set_camera(1, make_camera(2), timestep=1)
        with pytest.raises(VultusError, match="camera 1 moves"):
            convert(tmp_path / "d", tmp_path / "030", "nersemble")


class TestLens:
    @pytest.mark.parametrize(
        "coefficients", [(0.2,), (-0.3, 0.1), (0.1, -0.05, 0.01, -0.02), (0.3, 0.1, 0.01, 0.02, 0.1, 0.2, 0.05, 0.01)]
    )
    def test_agrees_with_opencv(self, coefficients: tuple[float, ...]) -> None:
        cv2 = pytest.importorskip("cv2")
        K = np.array([[60.0, 0, 33.0], [0, 62.0, 21.0], [0, 0, 1]])
        points = np.random.default_rng(0).uniform([0, 0], [64, 48], (50, 2))
        rays = np.concatenate([(points - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((50, 1))], axis=1)
        padded = np.zeros(8)
        padded[: len(coefficients)] = coefficients
        expected, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, padded)
        bent = Lens(tuple(K.flatten()), coefficients)
        torch.testing.assert_close(bent.distort(torch.from_numpy(points)), torch.from_numpy(expected[:, 0]))

    def test_a_straight_lens_changes_nothing(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
        assert Lens((5.0, 0, 3, 0, 5, 4, 0, 0, 1), (0.0, 0.0)).undistort(image) is image
        nearly = Lens((5.0, 0, 3, 0, 5, 4, 0, 0, 1), (1e-9,)).undistort(image)
        np.testing.assert_array_equal(nearly, image)


class TestConverting:
    def test_every_layout_is_recognised(self, rig: Path, tmp_path: Path) -> None:
        for layout in ("plain", "gaussian-head-avatar", "colmap", "vultus"):
            convert(rig, tmp_path / layout, layout, timesteps=[0], size=256)
            assert read_contents(tmp_path / layout).layout == layout
        assert layout_of(tmp_path) is None

    def test_nothing_is_overwritten_or_left_half_done(self, rig: Path, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "notes.txt").write_text("mine")
        for output, message in (
            (tmp_path / "full", "has files"),
            (rig / "inside", "lies in"),
            (tmp_path, "lies in"),
            (rig, "lies in"),
        ):
            with pytest.raises(VultusError, match=message):
                convert(rig, output, "plain")
        assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["notes.txt"]
        (rig / "images" / "00001_02.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
        with pytest.raises(VultusError, match=r"00001_02\.png"):
            convert(rig, tmp_path / "new", "plain")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "rig"]

    def test_layouts_that_cannot_be_written(self, rig: Path, tmp_path: Path) -> None:
        with pytest.raises(VultusError, match="not known"):
            convert(rig, tmp_path / "out", "obj")
        with pytest.raises(VultusError, match="timestep 9"):
            convert(rig, tmp_path / "out", "plain", timesteps=[9])
        convert(rig, tmp_path / "plain", "plain", timesteps=[0])
        with pytest.raises(VultusError, match="no head parameters"):
            convert(tmp_path / "plain", tmp_path / "out", "vultus")


def test_a_held_out_camera_taken_alone_is_trained_on(tmp_path: Path) -> None:
    write_rig(tmp_path / "rig", count=4, angles=(-30.0, 40.0))
    assert len(open_capture(tmp_path / "rig").split("val")) == 3
    convert(tmp_path / "rig", tmp_path / "one", "plain", cameras=[1])
    one = open_capture(tmp_path / "one", needs_motion=False)
    assert [len(one.split(name)) for name in ("train", "val", "test")] == [3, 0, 1]
    convert(tmp_path / "rig", tmp_path / "last", "plain", timesteps=[3])
    last = open_capture(tmp_path / "last", needs_motion=False)
    assert [len(last.split(name)) for name in ("train", "val", "test")] == [2, 0, 0]
