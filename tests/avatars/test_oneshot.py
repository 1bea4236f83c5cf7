"""One-shot networks and avatars: composition, weights from files, drawing through any camera, saving and loading."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from oneshot_samples import TINY, person, tiny_model, transform

from vultus import avatars
from vultus.avatars import SplatAvatar
from vultus.avatars.avatar import Avatar
from vultus.avatars.oneshot.generators import harmonic_embedding
from vultus.avatars.oneshot.geometry import camera_to_transform, feature_plane, lift, transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.options import CLEAN, FOCAL, RELEASED, UNITS, Architecture
from vultus.avatars.oneshot.weights import About, load_dinov2, load_model, perceptual_weights, save_model
from vultus.cameras import Camera, look_at
from vultus.errors import VultusError
from vultus.networks.feature_distance import PerceptualDistance
from vultus.splats import Gaussians, rasterize


@pytest.fixture(autouse=True)
def _own_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def avatar(model, head):
    image = torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(1))
    return model.reconstruct(image, transform(0.1), person(head), head, license="ours")


# --- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirks", [RELEASED, CLEAN], ids=["released", "clean"])
def test_the_model_is_its_modules_one_after_the_other(quirks, head):
    model = tiny_model(quirks)
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(2, 3, TINY.source_size, TINY.source_size, generator=generator)
    sources, targets = (torch.stack([transform(a), transform(b)]) for a, b in ((0.0, 0.3), (-0.2, 0.1)))
    vertices = torch.stack([head_vertices(head, person(head, seed)) for seed in (1, 2)]) * UNITS
    with torch.no_grad():
        drawn, lifted = model(images, sources, vertices, targets)
        plane, identity = model.base_model(images)
        points, direction = feature_plane(sources, plane.shape[-1])
        embedded = harmonic_embedding(direction)
        own = model.head_base.expand(2, -1, -1)
        inputs = torch.cat([own, identity[:, None].expand(-1, own.shape[1], -1)], dim=-1)
        parts = [
            model.gs_generator_g(inputs, embedded),
            model.gs_generator_l0(plane, embedded),
            model.gs_generator_l1(plane, embedded),
        ]
        sheets = [lift(points, direction, parts[1].lifts), lift(points, direction, -parts[2].lifts)]
        assert torch.equal(lifted, torch.cat(sheets, dim=1))
        for index in range(2):
            gaussians = Gaussians(
                torch.cat([vertices[index], sheets[0][index], sheets[1][index]]),
                torch.cat([part.rotations[index] for part in parts]),
                torch.cat([part.scales[index] for part in parts]),
                torch.cat([part.opacities[index, :, 0] for part in parts]),
                features=torch.cat([part.features[index] for part in parts]),
            )
            pose = torch.eye(4)
            pose[:3, :3] = targets[index, :, :3].T * torch.tensor([[-1.0], [-1.0], [1.0]])
            pose[:3, 3] = targets[index, :, 3] * torch.tensor([-1.0, -1.0, 1.0])
            camera = Camera.from_focal(FOCAL * TINY.image_size / 2, TINY.image_size, TINY.image_size, pose)
            raster = rasterize(gaussians, camera, settings=quirks.raster)
            features = raster.color.movedim(-1, 0)[None]
            torch.testing.assert_close(drawn.coarse[index], features[0, :3], atol=1e-5, rtol=0)
            torch.testing.assert_close(drawn.fine[index], model.upsampler(features)[0], atol=1e-5, rtol=0)


def test_quirks_are_what_differs(head):
    """The same weights under both sets of options: only the features named by the quirks change."""
    released, clean = tiny_model(RELEASED), tiny_model(CLEAN)
    image = torch.rand(1, 3, TINY.source_size, TINY.source_size)
    with torch.no_grad():
        a, b = (model.splats(image, transform(0.0)[None]).attributes for model in (released, clean))
    vertices = TINY.vertices
    assert not torch.allclose(a.features[:, :vertices], b.features[:, :vertices])  # another global feature
    assert torch.allclose(a.rotations[:, :vertices].norm(dim=1), torch.ones(1, 4), atol=1e-5)
    assert torch.allclose(b.rotations[:, :vertices].norm(dim=-1), torch.ones(1), atol=1e-5)
    sheets = [x.features[:, vertices:].unflatten(1, (2, TINY.plane_size, -1)) for x in (a, b)]
    assert torch.equal(sheets[0][..., 3:, 3:], sheets[1][..., 3:, 3:])
    torch.testing.assert_close(sheets[0][..., 3:, :3].sigmoid(), sheets[1][..., 3:, :3])
    torch.testing.assert_close(sheets[0][..., :3, 3:], sheets[1][..., :3, 3:].sigmoid())
    for name in ("opacities", "scales", "rotations"):
        assert torch.equal(getattr(a, name)[:, vertices:], getattr(b, name)[:, vertices:])


def test_noise_is_stored_or_drawn(model):
    features = torch.randn(1, TINY.channels, TINY.image_size, TINY.image_size)
    with torch.no_grad():
        for layer in model.upsampler.stylegan_decoder.style_convs:
            layer.weight.fill_(0.5)
        assert torch.equal(model.upsampler(features), model.upsampler(features))
        drawn = [model.upsampler(features, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        for layer in model.upsampler.stylegan_decoder.style_convs:
            layer.weight.zero_()
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])


def test_impossible_sizes_are_refused():
    for wrong in ({"image_size": 100}, {"source_size": 33}, {"taps": (0, 0, 1, 2)}, {"channels": 2}, {"narrow": 0.0}):
        with pytest.raises(VultusError):
            replace(TINY, **wrong)
    assert Architecture().plane_size == 296
    assert Architecture().count == 180_255


# --- weights ------------------------------------------------------------------------------------------------------


def test_weights_come_back(model, tmp_path):
    about = About(TINY, "builtin_v1", "f" * 64, "ours", "not at all")
    save_model(model, tmp_path / "model.safetensors", about)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        again, said = load_model(path)
        assert said == about
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_published_file_is_read_strictly(model, tmp_path, monkeypatch):
    """With sizes of a tiny network, in the layout of the published file."""
    monkeypatch.setattr("vultus.avatars.oneshot.weights.About", lambda **given: About(architecture=TINY, **given))
    weights, path = model.state_dict(), tmp_path / "GAGAvatar.pt"
    extra = {"percep_loss.net.slice1.0.bias": torch.ones(64)}
    torch.save({"model": {**weights, **extra}, "meta_cfg": {"MODEL": {"NAME": "GAGAvatar"}}}, path)
    again, about = load_model(path)
    assert "research" in about.license
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in weights.items())
    assert torch.equal(perceptual_weights(path)["net.slice1.0.bias"], torch.ones(64))
    broken = [
        ({key: value for key, value in weights.items() if key != "head_base"}, "has no tensor head_base"),
        ({**weights, "head_base": torch.zeros(3, 256)}, r"head_base has shape \(3, 256\)"),
        ({**weights, "head_base": torch.full_like(weights["head_base"], torch.nan)}, "not finite"),
        ({**weights, "new.weight": torch.zeros(1)}, "unknown tensor new.weight"),
    ]
    for tensors, message in broken:
        torch.save({"model": tensors}, path)
        with pytest.raises(VultusError, match=message):
            load_model(path)


def test_damaged_weights_are_refused(model, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(VultusError, match="no such file"):
        load_model(path)
    save_model(model, path, About(TINY))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VultusError, match="not a valid safetensors"):
        load_model(path)
    checkpoint = tmp_path / "GAGAvatar.pt"
    checkpoint.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(VultusError, match="not a checkpoint"):
        load_model(checkpoint)
    torch.save({"model": {}}, checkpoint)
    with pytest.raises(VultusError, match="has no tensor"):
        load_model(checkpoint)
    with pytest.raises(VultusError, match="no perceptual"):
        perceptual_weights(checkpoint)


def test_dinov2_goes_into_the_encoder(model, tmp_path):
    other = tiny_model()
    official = {key: torch.randn_like(value) for key, value in model.base_model.dino_model.state_dict().items()}
    torch.save(official, tmp_path / "dinov2_vitb14_pretrain.pth")
    load_dinov2(other, tmp_path / "dinov2_vitb14_pretrain.pth")
    assert all(torch.equal(value, other.base_model.dino_model.state_dict()[key]) for key, value in official.items())
    official.pop("norm.bias")
    torch.save(official, tmp_path / "dinov2_vitb14_pretrain.pth")
    with pytest.raises(VultusError, match=r"norm\.bias"):
        load_dinov2(other, tmp_path / "dinov2_vitb14_pretrain.pth")


def test_identical_pictures_have_no_distance():
    """Also where features vanish: gradients stay finite."""
    net = PerceptualDistance(vggface=False)
    image = torch.zeros(1, 3, 64, 64, requires_grad=True)
    net(image, torch.rand(1, 3, 64, 64)).backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert net(image, image) == 0


# --- avatars ------------------------------------------------------------------------------------------------------


def test_driving_is_the_joint_forward(model, avatar, head):
    """Reconstruct once, draw later: the images of the whole network."""
    assert isinstance(avatar, Avatar)
    assert isinstance(avatar, SplatAvatar)
    image = torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(1))
    params = replace(person(head), expression=0.5 * torch.ones(len(head.expression_names)))
    target = transform(-0.25)
    source = torch.nn.functional.interpolate(
        image.movedim(-1, 0)[None], (TINY.source_size, TINY.source_size), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        vertices = head_vertices(head, params)[None] * UNITS
        drawn, _ = model(source, transform(0.1)[None], vertices, target[None])
        rendering = avatar.render(params, transform_to_camera(target, TINY.image_size))
    torch.testing.assert_close(rendering.color, drawn.fine[0].movedim(0, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(rendering.alpha, drawn.alpha[0].movedim(0, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(rendering.coarse, drawn.coarse[0].movedim(0, -1), atol=1e-5, rtol=0)


def test_the_pose_is_the_cameras(avatar, head):
    """A turned, moved head in front of a camera looks as the head at rest in front of the camera moved the other
    way."""
    rest = person(head)
    posed = replace(
        rest,
        joints={"root": torch.tensor([0.1, 0.3, -0.1]), "neck": torch.tensor([0.1, 0.2, 0.05])},
        translation=torch.tensor([0.02, -0.01, 0.03]),
    )
    camera = transform_to_camera(transform(0.0), TINY.image_size)
    moved = replace(camera, world_to_camera=camera.world_to_camera @ head.head_to_world(posed))
    with torch.no_grad():
        a, b = avatar.render(posed, camera), avatar.render(rest, moved)
    torch.testing.assert_close(a.color, b.color, atol=1e-4, rtol=0)
    torch.testing.assert_close(a.alpha, b.alpha, atol=1e-4, rtol=0)


def test_gaussians_are_where_the_image_shows_them(head):
    model = tiny_model(CLEAN)
    avatar = model.reconstruct(torch.rand(32, 32, 3), transform(0.0), person(head), head)
    posed = replace(
        person(head), joints={"neck": torch.tensor([0.0, 0.3, 0.0])}, translation=torch.tensor([0.01, 0, 0])
    )
    camera = transform_to_camera(transform(0.1), TINY.image_size)
    with torch.no_grad():
        world = avatar.gaussians(posed)
        raster = rasterize(world, camera, settings=replace(CLEAN.raster, near=CLEAN.raster.near / UNITS))
        rendering = avatar.render(posed, camera)
    torch.testing.assert_close(raster.alpha, rendering.alpha, atol=2e-3, rtol=0)
    torch.testing.assert_close(raster.color[..., :3], rendering.coarse, atol=5e-3, rtol=0)


def test_any_camera_draws_the_window_of_the_head(avatar, head):
    """A wide picture of a near camera shows the head where the head model is, at the camera's scale."""
    params = person(head)
    eye = torch.tensor([0.25, 0.05, 0.8])
    pose = look_at(eye, torch.tensor([0.05, 0.0, 0.0]))
    camera = Camera.from_focal(90.0, 120, 70, pose)
    with torch.no_grad():
        rendering = avatar.render(params, camera)
        pixels = camera.project(avatar.vertices(params))
    assert rendering.color.shape == (70, 120, 3)
    inside = torch.zeros(70, 120, dtype=torch.bool)
    inside[pixels[:, 1].long().clamp(0, 69), pixels[:, 0].long().clamp(0, 119)] = True
    assert float(rendering.alpha[..., 0][inside].mean()) > 0.3
    left, right = int(pixels[:, 0].min()), int(pixels[:, 0].max())
    assert (
        float(rendering.alpha[:, : max(0, left - 25)].abs().sum() + rendering.alpha[:, right + 25 :].abs().sum()) == 0
    )
    # Twice the resolution is the same picture.
    with torch.no_grad():
        larger = avatar.render(params, camera.resized(240, 140))
    smaller = torch.nn.functional.avg_pool2d(larger.alpha.movedim(-1, 0), 2).movedim(0, -1)
    assert float((smaller - rendering.alpha).abs().mean()) < 0.02


def test_a_camera_that_cannot_see_the_head_shows_background(avatar, head):
    away = look_at(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 2.0]))
    with torch.no_grad():
        rendering = avatar.render(person(head), Camera.from_focal(50.0, 30, 20, away), background=torch.ones(3))
    assert torch.equal(rendering.color, torch.ones(20, 30, 3))


def test_backgrounds_and_batches(avatar, head):
    params = person(head).map(lambda t: t.expand(2, *t.shape))
    cameras = transform_to_camera(torch.stack([transform(0.0), transform(0.2)]), TINY.image_size)
    white = torch.ones(3)
    with torch.no_grad():
        many = avatar.render(params, cameras, background=white)
        one = avatar.render(params[1], cameras[1], background=white)
        plain = avatar.render(params[1], cameras[1])
        shared = avatar.render(params[0], cameras)
    assert torch.equal(many.color[1], one.color)
    assert torch.equal(shared.alpha, many.alpha)
    torch.testing.assert_close(one.color, plain.color + (1 - plain.alpha))


def test_gradients_reach_everything(avatar, head):
    params = person(head)
    expression = params.expression.clone().requires_grad_()
    K = transform_to_camera(transform(0.0), TINY.image_size).K.clone().requires_grad_()
    camera = replace(transform_to_camera(transform(0.0), TINY.image_size), K=K)
    rendering = avatar.render(replace(params, expression=expression), camera)
    (rendering.color.square().sum() + rendering.alpha.sum()).backward()
    for tensor in (expression, K, avatar.features, avatar.lifted, avatar.renderer.conv_body_first.weight):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("standalone", [False, True])
def test_saved_avatars_draw_the_same_bits(avatar, head, tmp_path, standalone):
    avatar.save(tmp_path / "avatar", standalone=standalone)
    assert (tmp_path / "avatar" / "renderer.safetensors").is_file() == standalone
    assert (tmp_path / "networks").is_dir() != standalone
    again = avatars.load(tmp_path / "avatar")
    params = replace(person(head), expression=0.3 * torch.ones(len(head.expression_names)))
    cameras = [avatar.view, Camera.from_focal(60.0, 50, 40, look_at(torch.tensor([0.1, 0.0, 0.9]), torch.zeros(3)))]
    for camera in cameras:
        with torch.no_grad():
            a, b = avatar.render(params, camera), again.render(params, camera)
        assert torch.equal(a.color, b.color)
        assert torch.equal(a.alpha, b.alpha)
    assert again.labels == avatar.labels
    assert torch.equal(camera_to_transform(again.view), camera_to_transform(avatar.view))
    avatar.save(tmp_path / "avatar")  # replaces its own


def test_a_missing_renderer_is_named(avatar, tmp_path, monkeypatch):
    avatar.save(tmp_path / "avatar")
    (shared,) = (tmp_path / "networks").iterdir()
    fingerprint = shared.stem
    content = shared.read_bytes()
    shared.write_bytes(content[:-4] + b"\0\0\0\0")
    with pytest.raises(VultusError, match="fingerprint"):
        avatars.load(tmp_path / "avatar")
    shared.unlink()
    with pytest.raises(VultusError, match=f"{fingerprint}.*ours.*standalone"):
        avatars.load(tmp_path / "avatar")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source_size: 32", "source_size: 31", "multiple of the patch"),
        ("channels: 8", "channels: 9", "splats"),
        ("narrow", "wide", "unknown setting"),
        ('"sha256": "', '"sha256": "../', "not the fingerprint"),
        ('"format": 1', '"format": 2', "format 2"),
    ],
)
def test_damaged_descriptions_are_refused(avatar, tmp_path, old, new, message):
    avatar.save(tmp_path / "avatar")
    path = tmp_path / "avatar" / "avatar.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(VultusError, match=message):
        avatars.load(tmp_path / "avatar")


def test_the_head_model_has_to_fit(head):
    with torch.device("meta"):
        other = OneShotModel(replace(TINY, vertices=100))
    other = other.to_empty(device="cpu")
    with pytest.raises(VultusError, match="100 vertices"):
        other.reconstruct(torch.rand(32, 32, 3), transform(0.0), person(head), head)
