"""Trained avatars of GaussianAvatars: read, rendered, written, trained further; and what is refused.

FLAME itself is not at hand: the head is an egg in FLAME's layout, with the teeth that the published program adds.
"""

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import write_egg
from synthetic_avatar import synthetic_avatar

from vultus import avatars
from vultus.avatars.rigged import Labels, LocalSplats, RiggedAvatar, preset, train
from vultus.avatars.rigged.published import is_published, load_published, save_published
from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter, open_capture
from vultus.cli import run
from vultus.errors import VultusError
from vultus.heads import load_head
from vultus.images import psnr
from vultus.motion import Motion
from vultus.splats import INRIA, read_ply, read_splats
from vultus.splats.reference import covariance

GOLDEN = Path(__file__).parents[1] / "golden" / "gaussian-avatars" / "ply_layout.npz"
INSTANTS = 3


@pytest.fixture(scope="session")
def egg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_egg(tmp_path_factory.mktemp("flame") / "egg")


@pytest.fixture(scope="session")
def flame(egg: Path):
    head = load_head(egg)
    assert head.template.shape[0] == 5143
    return head


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {"expr": 100, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    made = {name: 0.1 * rng.standard_normal((INSTANTS, size)) for name, size in sizes.items()}
    made["shape"] = rng.standard_normal(300)
    made["static_offset"] = 0.001 * rng.standard_normal((1, 5143, 3))
    made["dynamic_offset"] = np.zeros((INSTANTS, 5143, 3))
    return {name: value.astype(np.float32) for name, value in made.items()}


def write_checkpoint(folder: Path, *, iteration: int = 600_000) -> Path:
    """A model folder as the published program leaves it, its PLY the golden one."""
    place = folder / "point_cloud" / f"iteration_{iteration}"
    place.mkdir(parents=True)
    (place / "point_cloud.ply").write_bytes(np.load(GOLDEN)["out_ply_bytes"].tobytes())
    np.savez(place / "flame_param.npz", **parameters())
    (folder / "cfg_args").write_text(
        "Namespace(sh_degree=3, source_path='/data/306/UNION10_306', target_path='', model_path='output/x', "
        "images='images', resolution=-1, white_background=True, data_device='cuda', eval=True, bind_to_mesh=True, "
        "disable_flame_static_offset=False, not_finetune_flame_params=False, select_camera_id=-1)"
    )
    return folder


def camera_json(yaw: float) -> dict[str, object]:
    eye = torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
    pose = torch.linalg.inv(look_at(eye, torch.zeros(3)))
    return {
        "id": 0, "img_name": "00000_08", "width": 550, "height": 802, "position": pose[:3, 3].tolist(),
        "rotation": pose[:3, :3].tolist(), "fx": 2000.0, "fy": 2010.0,
    }  # fmt: skip


def test_gaussians_of_a_published_avatar(flame, tmp_path: Path) -> None:
    """Against the paper's formulas, written out in NumPy, on the golden PLY's values."""
    avatar = load_published(write_checkpoint(tmp_path), flame)
    golden, given = np.load(GOLDEN), parameters()
    assert avatar.motion is not None
    assert avatar.count == len(golden["xyz"])
    assert avatar.raster == INRIA
    assert avatar.labels.provenance == {
        "method": "GaussianAvatars checkpoint", "steps": 600_000, "source": "UNION10_306", "background": "white",
    }  # fmt: skip
    params = avatar.motion.params[2]
    np.testing.assert_array_equal(params.expression, given["expr"][2])
    np.testing.assert_array_equal(params.joint("right_eye"), given["eyes_pose"][2, 3:])
    np.testing.assert_array_equal(params.joint("root"), given["rotation"][2])
    vertices = flame.pose(params).vertices.double().numpy()
    binding = golden["binding"].astype(int)
    with torch.no_grad():
        gaussians = avatar.gaussians(params)
    covariances = covariance(gaussians.rotations, gaussians.scales).numpy()
    for i, face in enumerate(flame.faces.numpy()[binding]):
        a, b, c = vertices[face]
        x = (b - a) / np.linalg.norm(b - a)
        y = np.cross(x, c - a)
        y /= np.linalg.norm(y)
        z = np.cross(x, y)
        R, k = np.stack([x, y, z], 1), (np.linalg.norm(b - a) + abs(z @ (c - a))) / 2
        mean = k * R @ golden["xyz"][i] + (a + b + c) / 3
        np.testing.assert_allclose(gaussians.means[i].numpy(), mean, atol=2e-6)
        w, qx, qy, qz = golden["rotation"][i] / np.linalg.norm(golden["rotation"][i])
        local = np.array([
            [1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy - w * qz), 2 * (qx * qz + w * qy)],
            [2 * (qx * qy + w * qz), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz - w * qx)],
            [2 * (qx * qz - w * qy), 2 * (qy * qz + w * qx), 1 - 2 * (qx * qx + qy * qy)],
        ])  # fmt: skip
        half = R @ local @ np.diag(k * np.exp(golden["scaling"][i]))
        np.testing.assert_allclose(covariances[i], half @ half.T, rtol=1e-3, atol=1e-5 * np.abs(half @ half.T).max())
    opacity = golden["opacity"].reshape(-1)
    np.testing.assert_allclose(gaussians.opacities.numpy(), 1 / (1 + np.exp(-opacity)), atol=1e-6)
    assert gaussians.sh is not None
    assert gaussians.sh.shape[1:] == (16, 3)


def test_which_iteration_and_which_view(flame, tmp_path: Path) -> None:
    import json

    write_checkpoint(tmp_path, iteration=60_000)
    folder = write_checkpoint(tmp_path / "more", iteration=120_000) / "point_cloud"
    (folder / "iteration_120000").rename(tmp_path / "point_cloud" / "iteration_120000")
    (tmp_path / "point_cloud" / "iteration_x").mkdir()
    assert load_published(tmp_path, flame).labels.provenance["steps"] == 120_000
    assert load_published(tmp_path, flame, iteration=60_000).labels.provenance["steps"] == 60_000
    with pytest.raises(VultusError, match="has no iteration 7; it has 60000, 120000"):
        load_published(tmp_path, flame, iteration=7)
    # Without cameras.json the demonstration's view: 550x802, one metre before the head, through 20 degrees.
    view = load_published(tmp_path, flame).view
    assert (view.width, view.height) == (550, 802)
    assert float(view.K[1, 1]) == pytest.approx(401 / math.tan(math.radians(10)), rel=1e-5)
    (tmp_path / "cameras.json").write_text(json.dumps([camera_json(yaw) for yaw in (1.2, 0.1, -0.9, 0.1)]))
    view = load_published(tmp_path, flame).view
    expected = torch.tensor([math.sin(0.1), 0.0, math.cos(0.1)])
    torch.testing.assert_close(view.center, expected, atol=1e-5, rtol=0)
    assert (float(view.K[0, 0]), float(view.K[1, 1]), float(view.K[0, 2])) == (2000.0, 2010.0, 275.0)
    # The distributed demonstration is just the two files in one folder.
    place = tmp_path / "point_cloud" / "iteration_60000"
    assert is_published(place)
    assert load_published(place / "point_cloud.ply", flame).count == 20


def egg_avatar(flame, *, largest: float | None = None) -> RiggedAvatar:
    """One coloured Gaussian per triangle of the egg, and a motion."""
    generator = torch.Generator().manual_seed(0)
    count = flame.faces.shape[0]
    splats = LocalSplats(
        means=0.1 * torch.randn(count, 3, generator=generator),
        log_scales=torch.tensor([[-0.6, -2.5, -0.6]]).repeat(count, 1),
        rotations=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        opacities=torch.full((count,), 3.0),
        sh0=torch.randn(count, 1, 3, generator=generator),
        sh_rest=0.1 * torch.randn(count, 3, 3, generator=generator),
        binding=torch.arange(count),
    )
    rest = replace(flame.neutral(), offset=torch.zeros_like(flame.template))
    params = rest.map(lambda tensor: tensor.expand(INSTANTS, *tensor.shape).clone())
    params = replace(params, identity=rest.identity, scale=rest.scale, offset=rest.offset)
    params.joints["jaw"][:, 0] = torch.tensor([0.0, 0.1, 0.2])
    params.expression[:, 3] = torch.tensor([0.0, 0.5, -0.5])
    motion = Motion(params, torch.arange(INSTANTS) / 25, rest)
    view = Camera.from_focal(150.0, 48, 48, look_at(torch.tensor([0.0, 0.0, 0.8]), torch.zeros(3)))
    return RiggedAvatar(
        flame, rest, view, splats, motion=motion, largest=largest, labels=Labels(provenance={"steps": 30})
    )


def test_ours_is_saved_as_theirs_and_comes_back(flame, egg: Path, tmp_path: Path) -> None:
    avatar = egg_avatar(flame)
    notes = save_published(avatar, tmp_path / "theirs")
    assert all("rasteriser" in note for note in notes)
    place = tmp_path / "theirs" / "point_cloud" / "iteration_30"
    assert {path.name for path in place.iterdir()} == {"point_cloud.ply", "flame_param.npz"}
    golden_header = np.load(GOLDEN)["out_ply_bytes"].tobytes().split(b"end_header")[0]
    header = (place / "point_cloud.ply").read_bytes().split(b"end_header")[0]
    properties = [line for line in golden_header.splitlines() if line.startswith(b"property")]
    assert [line for line in header.splitlines() if line.startswith(b"property")] == properties
    with np.load(place / "flame_param.npz") as stored:
        shapes = {name: stored[name].shape for name in stored.files}
        assert all(stored[name].dtype == np.float32 for name in stored.files)
    assert shapes == {name: value.shape for name, value in parameters().items()}
    back = load_published(tmp_path / "theirs", flame)
    for name in ("means", "log_scales", "rotations", "opacities", "sh0"):
        assert torch.equal(getattr(back, name), getattr(avatar, name)), name
    assert torch.equal(back.sh_rest[:, :3], avatar.sh_rest)
    assert not back.sh_rest[:, 3:].any()
    assert back.motion is not None
    assert avatar.motion is not None
    back.raster = avatar.raster
    for instant in range(INSTANTS):
        with torch.no_grad():
            first = avatar.render(avatar.motion.params[instant], avatar.view).color
            second = back.render(back.motion.params[instant], avatar.view).color
        torch.testing.assert_close(second, first, atol=2e-6, rtol=0)
    torch.testing.assert_close(back.view.world_to_camera, avatar.view.world_to_camera, atol=1e-5, rtol=0)
    with pytest.raises(VultusError, match="has files in it"):
        save_published(avatar, tmp_path / "theirs")


def test_sizes_are_bounded_when_written(flame, tmp_path: Path) -> None:
    largest = 0.002
    avatar = egg_avatar(flame, largest=largest)
    with torch.no_grad():
        assert float(avatar.frames(avatar.rest).scale.max()) * math.exp(-0.6) > 2 * largest
    notes = save_published(avatar, tmp_path / "out")
    assert any("bound of sizes" in note for note in notes)
    back = load_published(tmp_path / "out", flame)
    with torch.no_grad():
        expected, found = avatar.gaussians(avatar.rest).scales, back.gaussians(avatar.rest).scales
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


def test_colours_that_turn_with_triangles_are_written_as_at_rest(flame, tmp_path: Path) -> None:
    plain = egg_avatar(flame)
    avatar = RiggedAvatar(flame, plain.rest, plain.view, plain.splats(), sh_frame="triangle")
    notes = save_published(avatar, tmp_path / "out")
    assert any("do not turn with the head" in note for note in notes)
    back = load_published(tmp_path / "out", flame)
    with torch.no_grad():
        expected, found, world = (each.gaussians(avatar.rest).sh for each in (avatar, back, plain))
    assert expected is not None
    assert found is not None
    assert world is not None
    torch.testing.assert_close(found[:, : expected.shape[1]], expected, atol=1e-6, rtol=0)
    assert float((world - expected).abs().max()) > 1e-3


def test_commands_take_published_avatars(egg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "theirs")
    head = ["--head", str(egg)]
    assert run(["export", str(tmp_path / "theirs"), "-o", str(tmp_path / "posed.ply"), *head]) == 0
    assert read_splats(tmp_path / "posed.ply").count == 20
    assert read_ply(tmp_path / "posed.ply").binding is None
    assert run(["export", str(tmp_path / "theirs"), "-o", str(tmp_path / "ours"), "--layout", "vultus", *head]) == 0
    ours, theirs = (avatars.load(tmp_path / name, head=load_head(egg)) for name in ("ours", "theirs"))
    with torch.no_grad():
        first, second = (avatar.render(avatar.rest, theirs.view).color for avatar in (ours, theirs))
    assert torch.equal(first, second)
    back = ["export", str(tmp_path / "ours"), "-o", str(tmp_path / "again"), "--layout", "gaussian-avatars", *head]
    assert run(back) == 0
    name = "point_cloud/iteration_600000/point_cloud.ply"
    bodies = [(tmp_path / folder / name).read_bytes().split(b"end_header\n", 1)[1] for folder in ("theirs", "again")]
    assert bodies[0] == bodies[1]
    # As the published program leaves it; a plain capture has a file of this name too.
    (tmp_path / "theirs" / "cameras.json").write_text(json.dumps([camera_json(0.2)]))
    assert run(["inspect", str(tmp_path / "theirs")]) == 0
    assert "a trained avatar of GaussianAvatars" in capsys.readouterr().out
    assert run(["export", str(tmp_path / "theirs"), "-o", str(tmp_path / "x.ply")]) == 2
    assert "--head PATH" in capsys.readouterr().err


def test_an_avatar_of_another_head_is_not_written_as_theirs(tmp_path: Path) -> None:
    with pytest.raises(VultusError, match="holds avatars on FLAME"):
        save_published(synthetic_avatar(32), tmp_path / "out")


def test_training_goes_on(flame, tmp_path: Path) -> None:
    truth = egg_avatar(flame)
    assert truth.motion is not None
    tracked = replace(truth.motion, params=replace(truth.motion.params, expression=truth.motion.params.expression * 0))
    with CaptureWriter(tmp_path / "capture", head=flame, fps=25, val_cameras=(), test_timesteps=(2,)) as writer:
        for camera, x in enumerate((0.0, 0.3)):
            view = replace(truth.view, world_to_camera=look_at(torch.tensor([x, 0.0, 0.8]), torch.zeros(3)))
            writer.set_camera(camera, view)
            for instant in range(INSTANTS):
                with torch.no_grad():
                    seen = truth.render(truth.motion.params[instant], view, background=torch.ones(3))
                writer.add_image(instant, camera, seen.color.clamp(0, 1), seen.alpha, is_composited=True)
        writer.set_motion(tracked)
    capture = open_capture(tmp_path / "capture", flame)
    with torch.no_grad():
        truth.sh0.mul_(0.7)  # pale: what further training has to put right
    save_published(truth, tmp_path / "theirs")
    start = load_published(tmp_path / "theirs", flame)
    start.raster = truth.raster

    def quality(avatar: RiggedAvatar) -> float:
        assert avatar.motion is not None
        found = []
        for view in capture.split("train"):
            with torch.no_grad():
                seen = avatar.render(
                    avatar.motion.params[view.timestep], capture.camera(view), background=torch.ones(3)
                )
            found.append(float(psnr(seen.color.clamp(0, 1), capture.image(view))))
        return sum(found) / len(found)

    settings = replace(preset("paper", steps=24), tensorboard=False)
    result = train(capture, tmp_path / "run", settings, head=flame, start_from=start)
    before, after = quality(start), quality(result)
    assert after > before + 2
    assert result.motion is not None
    # What was fitted is gone on from, not what was tracked; and what was held out stays.
    moved = result.motion.params.expression - truth.motion.params.expression
    assert float(moved.abs().max()) < 0.1
    torch.testing.assert_close(result.motion.params.expression[2], truth.motion.params.expression[2])
    assert result.sh_rest.shape[1] == 15
    assert result.count == start.count
    assert result.labels.provenance["continues"] == {
        "method": "GaussianAvatars checkpoint",
        "steps": 30,
        "background": "white",
    }
    with pytest.raises(VultusError, match=r"another|start"):
        train(capture, tmp_path / "run", settings, head=flame, start_from=egg_avatar(flame))


# --- hostile and broken files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch pwned')",
        "Namespace(a=__import__('os').system('touch pwned'))",
        "Namespace(**{'a': 1})",
        "Namespace('x')",
        "Namespace(a=" + "(" * 5000,
        "Namespace(a=" + "-" * 30000 + "1)",
        "Namespace(a=1",
        "x" * 70000,
        "\x00",
        "",
    ],
)
def test_settings_are_never_run(text: str, flame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "model")
    (tmp_path / "model" / "cfg_args").write_text(text)
    with pytest.raises(VultusError, match="cfg_args"):
        load_published(tmp_path / "model", flame)
    assert not (tmp_path / "pwned").exists()


def test_broken_parameters(flame, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    path = folder / "point_cloud" / "iteration_600000" / "flame_param.npz"
    good = parameters()

    def refused(change: dict[str, object], match: str) -> None:
        arrays = {name: value for name, value in {**good, **change}.items() if value is not None}
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(VultusError, match=match):
            load_published(folder, flame)

    refused({"expr": None}, "'expr'")
    refused({"expr": good["expr"][:, :50]}, r"expr has the shape \(3, 50\)")
    refused({"jaw_pose": good["jaw_pose"][:2]}, "rows do not belong together")
    refused({"rotation": good["rotation"] * np.nan}, "not finite")
    refused({"translation": good["translation"] * 1e9}, "absurdly large")
    refused({"shape": good["shape"][:299]}, "shape has the shape")
    refused({"static_offset": np.zeros((7, 2), np.float32)}, "static_offset")
    refused({name: value[:0] for name, value in good.items() if len(value) == INSTANTS}, "rows")
    refused({"expr": np.array([{"a": 1}], dtype=object)}, r"\.npz|plain numbers")
    path.write_bytes(pickle.dumps(good))
    with pytest.raises(VultusError, match="not a readable"):
        load_published(folder, flame)
    path.unlink()
    assert not is_published(folder)
    with pytest.raises(VultusError, match=r"flame_param\.npz"):
        load_published(folder, flame)


def test_broken_point_clouds_and_cameras(flame, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    cloud = folder / "point_cloud" / "iteration_600000" / "point_cloud.ply"
    good = cloud.read_bytes()
    cloud.write_bytes(good[:-10])
    with pytest.raises(VultusError, match="cut off"):
        load_published(folder, flame)
    header, body = good.split(b"end_header\n", 1)
    table = np.frombuffer(body, "<f4").reshape(20, 63).copy()
    table[4, 62] = 10144
    cloud.write_bytes(header + b"end_header\n" + table.tobytes())
    with pytest.raises(VultusError, match="triangle 10144, but the head model has 10144"):
        load_published(folder, flame)
    unbound = header.replace(b"property float binding_0\n", b"")
    cloud.write_bytes(unbound + b"end_header\n" + np.ascontiguousarray(table[:, :62]).tobytes())
    with pytest.raises(VultusError, match="not bound"):
        load_published(folder, flame)
    cloud.write_bytes(good)
    with pytest.raises(VultusError, match="needs a FLAME model"):
        load_published(folder, load_head())
    for text, match in (
        ("{}", "not a list"),
        ('[{"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]], "position": [0, 0, 1]}]', "mirrored"),
        ('[{"rotation": [1, 2, 3], "position": [0, 0, 1]}]', "not a finite|not a matrix"),
        ('[{"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "position": [0, 0, 1], "width": 1e9}]', "width"),
        ('[{"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "position": "far"}]', "position"),
    ):
        (folder / "cameras.json").write_text(text)
        with pytest.raises(VultusError, match=match):
            load_published(folder, flame)
