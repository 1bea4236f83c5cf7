"""What other trackers save of a FLAME head: the vertices are where the tracker's own formula puts them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_samples import make_head
from scipy.spatial.transform import Rotation

from vultus.animation import load_driver
from vultus.captures.flame_fits import benchmark_tracking_file, read_benchmark_tracking, read_cap4d_fit
from vultus.captures.flame_tracks import is_track_folder, read_flame_track, read_track_folder
from vultus.captures.tracker_frames import read_tracked_frame, tracked_frame_files
from vultus.errors import VultusError
from vultus.files import read_pickle
from vultus.heads import SkinnedHead
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, rows_6d_to_matrix

COUNT = 3
FLIP = np.diag([1.0, -1.0, -1.0])


@pytest.fixture
def flame() -> SkinnedHead:
    """FLAME's layout with eyelid components, 300 + 20 numbered ones."""
    small = make_head("flame-test", identity=300, expression=22)
    return SkinnedHead(
        name="flame-test", license="Apache-2.0", v_template=small.v_template, faces=small.faces,
        identity_basis=small.identity_basis, expression_basis=small.expression_basis, pose_basis=small.pose_basis,
        joint_regressor=small.joint_regressor, weights=small.weights, parents=small.parents,
        expression_names=(*(f"expression_{i:03d}" for i in range(20)), "eyeBlinkLeft", "eyeBlinkRight"),
    )  # fmt: skip


def turn(rng: np.random.Generator, size: float = 0.3) -> np.ndarray:
    return Rotation.from_rotvec(size * rng.standard_normal(3)).as_matrix()


def six(matrix: np.ndarray) -> np.ndarray:
    return matrix[:2].reshape(1, 6).astype(np.float32)


def still(flame: SkinnedHead, **fields) -> torch.Tensor:
    """Vertices without root rotation and translation."""
    params = replace(flame.neutral(), **{key: value for key, value in fields.items() if key != "joints"})
    return flame.pose(replace(params, joints={**params.joints, **fields.get("joints", {})})).vertices


def metrical(rng: np.random.Generator, number: int) -> dict:
    jaw, left, right = turn(rng), turn(rng), turn(rng)
    return {
        "flame": {
            "exp": (0.3 * rng.standard_normal((1, 100))).astype(np.float32),
            "shape": np.linspace(-1, 1, 300, dtype=np.float32)[None],
            "tex": np.zeros((1, 140), np.float32),
            "sh": np.zeros((1, 9, 3), np.float32),
            "eyes": np.concatenate([six(left), six(right)], axis=1),
            "eyelids": np.array([[0.2, 0.7]], np.float32),
            "jaw": six(jaw),
        },
        "camera": {"R": np.zeros((1, 6), np.float32), "t": np.zeros((1, 3), np.float32)},
        "opencv": {
            "R": (turn(rng) @ FLIP)[None].astype(np.float32),
            "t": np.array([[0.01, 0.02, 0.9]], np.float32),
            "K": np.array([[[700.0, 0, 250], [0, 700, 260], [0, 0, 1]]], np.float32),
        },
        "img_size": np.array([512, 500]),
        "frame_id": f"{number:05d}",
        "global_step": 170,
    }


def pixel3dmm(rng: np.random.Generator, number: int) -> dict:
    frame = metrical(rng, number)
    R = turn(rng)
    flame = frame["flame"] | {
        "neck": six(turn(rng)),
        "R": six(R),
        "R_rotation_matrix": R[None].astype(np.float32),
        "t": np.array([[0.02, -0.01, 0.05]], np.float32),
    }
    camera = {
        "R_base_0": np.eye(3, dtype=np.float32)[None],
        "t_base_0": np.array([[0, 0, -1]], np.float32),
        "fl": np.array([[3.9]], np.float32),
        "pp": np.zeros((1, 2), np.float32),
    }
    del frame["opencv"], flame["tex"], flame["sh"]
    return frame | {"flame": flame, "camera": camera, "frame_id": number, "joint_transforms": np.zeros((1, 5, 4, 4))}


def write(folder: Path, make, numbers: Sequence[int] = range(COUNT)) -> list[dict]:
    (folder / "checkpoint").mkdir(parents=True)
    rng = np.random.default_rng(5)
    frames = [make(rng, number) for number in numbers]
    for number, frame in zip(numbers, frames, strict=True):
        torch.save(frame, folder / "checkpoint" / f"{number:05d}.frame")
    return frames


def posed_as_tracked(flame: SkinnedHead, frame: dict) -> torch.Tensor:
    """Vertices of one frame before the tracker's rigid motion, by the matrices in the file."""
    given = frame["flame"]

    def axis_angle(rows: np.ndarray) -> torch.Tensor:
        one, two = rows.reshape(2, 3).astype(np.float64)
        return torch.from_numpy(Rotation.from_matrix(np.stack([one, two, np.cross(one, two)])).as_rotvec()).float()

    expression = torch.cat([torch.from_numpy(given["exp"][0, :20]), torch.from_numpy(given["eyelids"][0])])
    joints = {
        "jaw": axis_angle(given["jaw"]),
        "left_eye": axis_angle(given["eyes"][0, :6]),
        "right_eye": axis_angle(given["eyes"][0, 6:]),
    }
    if "neck" in given:
        joints["neck"] = axis_angle(given["neck"])
    return still(flame, identity=torch.from_numpy(given["shape"][0]), expression=expression, joints=joints)


class TestFrames:
    def test_the_metrical_tracker(self, flame: SkinnedHead, tmp_path: Path) -> None:
        frames = write(tmp_path / "out", metrical, (2, 3, 5))
        assert is_track_folder(tmp_path / "out")
        track = read_track_folder(tmp_path / "out", flame)
        assert track.numbers is not None
        assert track.numbers.tolist() == [2, 3, 5]
        assert track.eye is not None
        assert track.eye.tolist() == [0, 0, 0]
        for row, frame in enumerate(frames):
            R, t, K = (torch.from_numpy(frame["opencv"][key][0]) for key in ("R", "t", "K"))
            seen = posed_as_tracked(flame, frame) @ R.T + t
            # In the camera's axes with y up and z towards the viewer.
            expected = seen * torch.tensor([1.0, -1.0, -1.0])
            torch.testing.assert_close(flame.pose(track.params[row]).vertices, expected, atol=2e-6, rtol=1e-5)
            read = read_tracked_frame(tmp_path / "out" / "checkpoint" / f"{(2, 3, 5)[row]:05d}.frame")
            assert read.K is not None
            assert torch.equal(read.K.float(), K)
            assert read.size == (500, 512)

    def test_pixel3dmm(self, flame: SkinnedHead, tmp_path: Path) -> None:
        frames = write(tmp_path / "out", pixel3dmm)
        track = read_track_folder(tmp_path / "out" / "checkpoint", flame)
        for row, frame in enumerate(frames):
            R = torch.from_numpy(frame["flame"]["R_rotation_matrix"][0])
            t = torch.from_numpy(frame["flame"]["t"][0])
            base = torch.from_numpy(frame["camera"]["t_base_0"][0])
            expected = posed_as_tracked(flame, frame) @ R.T + t + base
            torch.testing.assert_close(flame.pose(track.params[row]).vertices, expected, atol=2e-6, rtol=1e-5)

    def test_as_drivers(self, flame: SkinnedHead, tmp_path: Path) -> None:
        write(tmp_path / "out", metrical, (2, 3, 5))
        driver = load_driver(tmp_path / "out", flame, fps=10.0)
        np.testing.assert_allclose(driver.motion.times, [0, 0.1, 0.3], atol=1e-6)
        assert driver.sight is not None
        assert driver.sight.axis.tolist() == [0, 0, -1]
        assert len(load_driver(tmp_path / "out" / "checkpoint" / "00003.frame", flame).motion) == 1

    def test_heads_without_eyelids_or_with_fewer_coefficients(self, tmp_path: Path) -> None:
        head = make_head("flame-test", identity=40, expression=7)
        frames = write(tmp_path / "out", metrical)
        params = read_track_folder(tmp_path / "out", head).params
        np.testing.assert_array_equal(params.expression[1], frames[1]["flame"]["exp"][0, :7])
        np.testing.assert_allclose(params.identity, frames[1]["flame"]["shape"][0, :40], atol=1e-6)
        builtin = make_head("other")
        with pytest.raises(VultusError, match="does not fit the head model other"):
            read_track_folder(tmp_path / "out", builtin)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda f: f.pop("flame"), "no frame"),
            (lambda f: f.pop("opencv"), "where the head is"),
            (lambda f: f["flame"].update(exp=np.full((1, 100), np.nan)), "exp holds values"),
            (lambda f: f["flame"].update(exp=np.zeros((1, 10**5))), "exp does not hold"),
            (lambda f: f["flame"].update(jaw=np.zeros((1, 6))), "the rotation of jaw"),
            (lambda f: f["flame"].update(eyes=np.ones((1, 12))), "the rotation of left_eye"),
            (lambda f: f["flame"].update(eyes="x" * 12), "eyes"),
            (lambda f: f["flame"].update(shape=np.full((1, 300), 1e30)), "shape holds values"),
            (lambda f: f["opencv"].update(R=np.zeros((1, 3, 3))), "not a rotation"),
            (lambda f: f["opencv"].update(R=np.diag([1.0, 1, -1])[None]), "mirrored"),
            (lambda f: f["opencv"].update(t=np.array([np.inf, 0, 0])), "t holds values"),
            (lambda f: f["opencv"].update(K=np.zeros((1, 3, 3))), "focal"),
            (lambda f: f.update(img_size=np.array([10**9, 5])), "img_size"),
            (lambda f: f.update(img_size=None), "img_size"),
        ],
    )
    def test_hostile(self, flame: SkinnedHead, tmp_path: Path, change, message: str) -> None:
        frame = metrical(np.random.default_rng(0), 0)
        change(frame)
        torch.save(frame, tmp_path / "00000.frame")
        with pytest.raises(VultusError, match=rf"00000\.frame.*{message}"):
            read_flame_track(tmp_path / "00000.frame", flame)

    def test_hostile_archives(self, flame: SkinnedHead, tmp_path: Path) -> None:
        file = tmp_path / "00000.frame"
        torch.save(metrical(np.random.default_rng(0), 0), file)
        good = file.read_bytes()
        rng = np.random.default_rng(1)
        for cut in rng.integers(0, len(good), 12):
            file.write_bytes(good[:cut])
            with pytest.raises(VultusError, match=r"00000\.frame"):
                read_flame_track(file, flame)
        for _ in range(40):
            damaged = bytearray(good)
            for place in rng.integers(0, len(good), 6):
                damaged[place] = rng.integers(0, 256)
            file.write_bytes(bytes(damaged))
            try:
                read_flame_track(file, flame)
            except VultusError as error:
                assert "00000.frame" in str(error)  # noqa: PT017
        torch.save({"flame": {"exp": torch.zeros(100)}, "camera": {}}, file)
        with pytest.raises(VultusError, match=r"00000\.frame"):
            read_flame_track(file, flame)
        file.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
        with pytest.raises(VultusError, match=r"os\.system"):
            read_flame_track(file, flame)

    def test_bombs(self, tmp_path: Path) -> None:
        for names, method, message in (
            (["a/data.pkl"], zipfile.ZIP_DEFLATED, "compressed"),
            (["a/data.pkl", "b/data.pkl"], zipfile.ZIP_STORED, "2 data.pkl"),
            (["a/code.py"], zipfile.ZIP_STORED, "0 data.pkl"),
        ):
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", method) as archive:
                for name in names:
                    archive.writestr(name, bytes(10**6))
            (tmp_path / "x.frame").write_bytes(stream.getvalue())
            with pytest.raises(VultusError, match=message):
                read_pickle(tmp_path / "x.frame")

    def test_one_number_twice(self, flame: SkinnedHead, tmp_path: Path) -> None:
        write(tmp_path / "out", metrical)
        file = tmp_path / "out" / "checkpoint" / "00001.frame"
        file.with_name("1.frame").write_bytes(file.read_bytes())
        assert len(tracked_frame_files(tmp_path / "out")) == COUNT + 1
        with pytest.raises(VultusError, match="a second time"):
            read_track_folder(tmp_path / "out", flame)


def cap4d(rng: np.random.Generator, camera: bool = True) -> dict[str, np.ndarray]:
    sizes = {"rot": 3, "tra": 3, "eye_rot": 3, "neck_rot": 3, "expr": 21}
    arrays = {key: (0.2 * rng.standard_normal((COUNT, size))).astype(np.float32) for key, size in sizes.items()}
    arrays["shape"] = rng.standard_normal(150).astype(np.float32)
    if camera:
        pose = np.eye(4, dtype=np.float32)
        pose[:3, :3], pose[:3, 3] = turn(rng), [0.1, 0.0, 1.2]
        arrays |= {"extr": pose[None], "fx": np.ones((1, 1)), "camera_order": np.array(["cam0"])}
    return arrays


class TestFits:
    @pytest.mark.parametrize("neck", [False, True])
    def test_cap4d(self, flame: SkinnedHead, tmp_path: Path, neck: bool) -> None:
        given = cap4d(np.random.default_rng(2))
        if not neck:
            del given["neck_rot"]
        np.savez(tmp_path / "fit.npz", **given)
        params = read_cap4d_fit(tmp_path / "fit.npz", flame)
        for row in range(COUNT):
            eye = torch.from_numpy(given["eye_rot"][row])
            lids = given["expr"][row, [-1, -1]]
            expression = torch.from_numpy(np.concatenate([given["expr"][row, :20], lids]))
            identity = torch.nn.functional.pad(torch.from_numpy(given["shape"]), (0, 150))
            fields = {"identity": identity, "expression": expression}
            local = still(flame, **fields, joints={"left_eye": eye, "right_eye": eye})
            R = Rotation.from_rotvec(given["rot"][row]).as_matrix()
            head = local.double().numpy() @ R.T + given["tra"][row]
            seen = (head @ FLIP) @ given["extr"][0, :3, :3].T.astype(float) + given["extr"][0, :3, 3]
            expected = torch.from_numpy(seen @ FLIP).float()
            found = flame.pose(params[row])
            if not neck:
                torch.testing.assert_close(found.vertices, expected, atol=2e-6, rtol=1e-5)
            # The skull is where it would be without the neck's rotation, whatever the bust does.
            skull = flame.head_to_world(params[row])
            at_rest = flame.rest_vertices(replace(flame.neutral(), **fields))
            moved = at_rest @ skull[:3, :3].T + skull[:3, 3]
            rigid = torch.from_numpy(
                (at_rest.double().numpy() @ R.T + given["tra"][row]) @ FLIP @ given["extr"][0, :3, :3].T.astype(float)
                + given["extr"][0, :3, 3]
            ).float() * torch.tensor([1.0, -1.0, -1.0])
            torch.testing.assert_close(moved, rigid, atol=3e-6, rtol=1e-4)
            if neck:
                root = axis_angle_to_matrix(params[row].joint("root"))
                N = torch.from_numpy(Rotation.from_rotvec(given["neck_rot"][row]).as_matrix()).float()
                torch.testing.assert_close(root, skull[:3, :3] @ N, atol=1e-5, rtol=0)

    def test_the_benchmark(self, flame: SkinnedHead, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        angles = 0.4 * rng.standard_normal((COUNT, 3))
        sizes = {"expression": 100, "translation": 3, "jaw": 3, "neck": 3, "eyes": 6}
        given = {key: (0.2 * rng.standard_normal((COUNT, size))).astype(np.float32) for key, size in sizes.items()}
        given |= {"shape": rng.standard_normal((1, 300)), "scale": np.array([[1.1]]), "rotation": angles}
        given["frames"] = np.arange(0, 3 * COUNT, 3)
        matrices = Rotation.from_euler("XYZ", angles).as_matrix()
        folder = tmp_path / "seq"
        (folder / "tracking").mkdir(parents=True)
        np.savez(folder / "tracking" / "flame2023_tracking.npz", **given)
        np.savez(folder / "tracking" / "flame2023_tracking_v2.npz", **given, rotation_matrices=matrices)
        newest = benchmark_tracking_file(folder)
        assert newest is not None
        assert newest.name == "flame2023_tracking_v2.npz"
        for name in ("flame2023_tracking.npz", "flame2023_tracking_v2.npz"):
            params = read_benchmark_tracking(folder / "tracking" / name, flame)
            for row in range(COUNT):
                joints = {key: torch.from_numpy(given[key][row]) for key in ("jaw", "neck")}
                joints |= {
                    "left_eye": torch.from_numpy(given["eyes"][row, :3]),
                    "right_eye": torch.from_numpy(given["eyes"][row, 3:]),
                }
                expression = torch.nn.functional.pad(torch.from_numpy(given["expression"][row, :20]), (0, 2))
                local = still(
                    flame, identity=torch.from_numpy(given["shape"][0]).float(), expression=expression, joints=joints
                )
                expected = 1.1 * local @ torch.from_numpy(matrices[row]).float().T + torch.from_numpy(
                    given["translation"][row]
                )
                torch.testing.assert_close(flame.pose(params[row]).vertices, expected, atol=3e-6, rtol=1e-5)
        assert len(load_driver(folder, flame).motion) == COUNT

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"expr": np.zeros((0, 65))}, "one row per frame"),
            ({"expr": np.full((COUNT, 21), np.nan)}, "expr holds values"),
            ({"rot": np.zeros((COUNT, 4))}, "rot has 4"),
            ({"tra": np.zeros((2, 3))}, "tra holds"),
            ({"tra": np.array(["a"] * COUNT)}, "tra holds"),
            ({"shape": np.zeros(10**4)}, "shape has 10000"),
            ({"shape": np.zeros(0)}, "shape has 0"),
            ({"extr": np.zeros((1, 4, 4))}, "extr"),
            ({"extr": np.zeros(3)}, "extr holds no poses"),
            ({"eye_rot": np.full((COUNT, 3), 1e20)}, "eye_rot holds values"),
        ],
    )
    def test_hostile(self, flame: SkinnedHead, tmp_path: Path, change: dict, message: str) -> None:
        np.savez(tmp_path / "fit.npz", **(cap4d(np.random.default_rng(0)) | change))
        with pytest.raises(VultusError, match=rf"fit\.npz.*{message}"):
            read_flame_track(tmp_path / "fit.npz", flame)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scale": np.array([[0.0]])}, "scale"),
            ({"scale": np.array([[np.nan]])}, "scale"),
            ({"eyes": np.zeros((COUNT, 3))}, "eyes has 3"),
            ({"rotation_matrices": np.zeros((COUNT, 3, 3))}, "not rotations"),
            ({"rotation_matrices": np.array(5.0)}, "rotation_matrices"),
        ],
    )
    def test_hostile_benchmark(self, flame: SkinnedHead, tmp_path: Path, change: dict, message: str) -> None:
        arrays = {key: np.zeros((COUNT, 3)) for key in ("translation", "jaw", "neck", "rotation")}
        arrays |= {"shape": np.zeros((1, 300)), "eyes": np.zeros((COUNT, 6)), "expression": np.zeros((COUNT, 100))}
        np.savez(tmp_path / "x.npz", **(arrays | change))
        with pytest.raises(VultusError, match=rf"x\.npz.*{message}"):
            read_flame_track(tmp_path / "x.npz", flame)


def test_rows_of_a_rotation() -> None:
    matrices = torch.from_numpy(Rotation.from_rotvec(np.random.default_rng(0).standard_normal((20, 3))).as_matrix())
    rows = matrices[:, :2].reshape(20, 6)
    torch.testing.assert_close(rows_6d_to_matrix(rows), matrices)
    # Any two independent rows make a rotation.
    free = rows_6d_to_matrix(torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    eye = torch.eye(3, dtype=torch.float64).expand(20, 3, 3)
    torch.testing.assert_close(free @ free.transpose(-1, -2), eye)
    torch.testing.assert_close(torch.linalg.det(free), torch.ones(20, dtype=torch.float64))


def test_parameters_are_of_the_model(flame: SkinnedHead, tmp_path: Path) -> None:
    write(tmp_path / "out", metrical)
    params: HeadParams = read_track_folder(tmp_path / "out", flame).params
    assert params.model == flame.fingerprint
    assert params.batch_shape == (COUNT,)
