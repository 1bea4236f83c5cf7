"""Golden vectors of the one-shot network: encoder, generators, geometry, splatting, neural renderer, losses."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.avatars.oneshot.encoder import ImageEncoder
from vultus.avatars.oneshot.generators import ConvGSGenerator, LinearGSGenerator, harmonic_embedding
from vultus.avatars.oneshot.geometry import (
    camera_to_transform,
    feature_plane,
    has_native_lens,
    lift,
    metres_to_native,
    transform_to_camera,
)
from vultus.avatars.oneshot.losses import (
    box_crops,
    box_loss,
    expanded_box,
    image_loss,
    lifting_distances,
    lifting_loss,
    pixel_box,
)
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.options import FOCAL, RELEASED, UNITS, Architecture
from vultus.images.metrics import psnr
from vultus.networks import convolution
from vultus.networks.feature_distance import PerceptualDistance, combined_distance, imagenet_normalized
from vultus.networks.modulated import ModulatedConv, StyledConv, ToRgb
from vultus.networks.style_unet import ResBlock, StyleUNet
from vultus.networks.vit import resample_positions
from vultus.splats import Gaussians, rasterize

pytestmark = pytest.mark.golden

PUBLISHED = Path(__file__).parent / "gagavatar" / "state_dict.json"


def golden_array(name, shape, salt):
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) + (salt << 32)))
    return torch.from_numpy(generator.standard_normal(tuple(shape)).astype(np.float32))


def filled(kind, salt, *args, without=(), **options):
    """A module with the deterministic weights of the golden vectors' README, without the children named."""
    with torch.device("meta"):
        module = kind(*args, **options)
    for name in without:
        setattr(module, name, torch.nn.Identity())
    state = {}
    for key, value in module.state_dict().items():
        array = golden_array(key, value.shape, salt)
        if ".noises." in key:
            pass
        elif array.ndim >= 2:
            array = array / np.sqrt(np.prod(array.shape[1:]))
        elif key.endswith("weight"):
            array = 1 + 0.1 * array
        else:
            array = 0.05 * array
        state[key] = array.float()
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


@pytest.fixture
def load(golden):
    def loaded(name):
        return {key: torch.from_numpy(np.asarray(value)) for key, value in golden.load(name).items()}

    return loaded


@pytest.fixture(params=["learning", "looking"])
def way(request, monkeypatch):
    """With gradients networks compute plainly, without in their fast ways; both must give the vectors. The convolution
    with fewer multiplications is used here where it does not pay, too."""
    monkeypatch.setattr(convolution, "_LEAST_CHANNELS", 1)
    monkeypatch.setattr(convolution, "_LEAST_PIXELS", 1)
    with torch.set_grad_enabled(request.param == "learning"):
        yield request.param


def close(actual, expected, atol=0.0, rtol=0.0):
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=atol, rtol=rtol)


# --- encoder ------------------------------------------------------------------------------------------------------


def test_positions(load):
    data = load("pos_embed_interpolation")
    for name, expected in data.items():
        if name.startswith("interp_"):
            height, width = map(int, name.removeprefix("interp_").split("x"))
            actual = resample_positions(data["pos_embed"], height // 14, width // 14)
            close(actual[:, : expected.shape[1]], expected, 1e-4)
            rows = expected.shape[1]
            assert rows < actual.shape[1] if (height, width) == (518, 518) else rows == actual.shape[1]


def test_whole_encoder(load, golden, way):
    data = load("dino_base_full")
    encoder = filled(ImageEncoder, golden.salt, Architecture())
    normalized = imagenet_normalized(data["image"])
    close(encoder.dino_model.prepare(normalized)[:, ::4], data["prepared_tokens"], 2e-3)
    tokens = encoder.dino_model(normalized, encoder.architecture.taps)
    close(tokens[-1][:, 1:], data["tokens_last"], 2e-3)
    close(tokens[0][:, 1:][:, ::4], data["tokens0_s4"], 2e-3)
    local, identity = encoder(data["image"])
    close(identity, data["out_global"], 2e-3)
    check_plane(local, data, 2e-3)


@pytest.mark.parametrize("name", ["dino_fusion_head_square", "dino_fusion_head_rect"])
def test_fusion_head(load, golden, name, way):
    data = load(name)
    encoder = filled(ImageEncoder, golden.salt, Architecture(), without=["dino_model"])
    tokens = [data[f"tokens{index}"] for index in range(4)]
    normalized = imagenet_normalized(data["image"])
    check_plane(encoder.fuse(normalized, tokens), data, 1e-3)
    close(tokens[-1][:, 0], data["out_global"], 1e-3)
    if "output_size" in data:
        resized = encoder.fuse(normalized, tokens, int(data["output_size"]))
        close(resized[:, ::8], data["out_local_resized_c8"], 1e-3)


def check_plane(local, data, atol):
    close(local[:, ::8], data["out_local_c8"], atol)
    close(local[0].flatten(1).mean(-1), data["out_local_mean"], atol)
    close(local[0].flatten(1).std(-1), data["out_local_std"], atol)


# --- generators and geometry --------------------------------------------------------------------------------------


def test_harmonic_embedding(load):
    data = load("harmonic_embedding")
    close(harmonic_embedding(data["x"]), data["embedding"], 1e-5)


def test_expression_branch(load, golden):
    data = load("linear_gs_generator")
    made = filled(LinearGSGenerator, golden.salt, Architecture())(data["features"], data["direnc"])
    for name, key in (
        ("features", "colors"),
        ("opacities", "opacities"),
        ("scales", "scales"),
        ("rotations", "rotations"),
    ):
        close(getattr(made, name), data[key], 1e-4)


@pytest.mark.parametrize("name", ["conv_gs_generator_square", "conv_gs_generator_rect"])
def test_reconstruction_branch(load, golden, name, way):
    data = load(name)
    made = filled(ConvGSGenerator, golden.salt, Architecture())(data["features"], data["direnc"])
    pairs = {
        "features": "colors",
        "opacities": "opacities",
        "scales": "scales",
        "rotations": "rotations",
        "lifts": "positions",
    }
    for attribute, key in pairs.items():
        close(getattr(made, attribute), data[key], 1e-4)


def test_feature_plane(load):
    data = load("points_planes")
    for index, transform in enumerate(data["transform_matrix"]):
        prefix = f"plane_points_cam{index}_size"
        for name in [name for name in data if name.startswith(prefix)]:
            size, *kind = name.removeprefix(prefix).split("_")
            points, direction = feature_plane(transform[None], int(size))
            close(direction[0], data[f"plane_dirs_cam{index}"], 1e-5)
            match kind:
                case []:
                    close(points[0], data[name], 1e-5)
                case ["mean"]:
                    close(points[0].mean(0), data[name], 1e-5)
                case ["std"]:
                    close(points[0].std(0), data[name], 1e-5)
                case [stride]:
                    close(points[0, :: int(stride.removeprefix("stride"))], data[name], 1e-5)


def test_dual_lifting(load):
    data = load("dual_lifting")
    points, direction, distance = data["plane_points"], data["plane_dirs"], data["positions"]
    close(lift(points, direction, distance), data["xyz_l0"], 1e-6)
    close(lift(points, direction, -distance), data["xyz_l1"], 1e-6)


def test_cameras(load):
    data = load("camera_matrices")
    metric = transform_to_camera(data["transform_matrix"], 512)
    assert has_native_lens(metric)
    close(camera_to_transform(metric), data["transform_matrix"], 1e-5)
    camera = metres_to_native(metric)
    close(camera.world_to_camera.transpose(-1, -2), data["view_matrix"], 1e-5)
    # The published pixels are counted from the first pixel's centre.
    close(camera.project(data["points"]) - 0.5, data["pixel_xy"], 2e-3)
    close(camera.to_camera(data["points"])[..., 2], data["view_z"], 1e-5)
    close(metric.project(data["points"] / UNITS) - 0.5, data["pixel_xy"], 2e-3)
    near, far = 0.01, 100.0
    projection = torch.zeros(4, 4)
    projection[0, 0] = projection[1, 1] = FOCAL
    projection[3, 2], projection[2, 2], projection[2, 3] = 1.0, far / (far - near), -far * near / (far - near)
    close(camera.world_to_camera.transpose(-1, -2) @ projection.T, data["full_proj_matrix"], 1e-5)
    close(data["transform_matrix"][..., 3], data["cam_pos"], 1e-5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_splatting(load, backend):
    data = load("render_32ch")
    size = int(data["image_size"])
    assert float(data["focal"]) == FOCAL
    camera = metres_to_native(transform_to_camera(data["transform_matrix"], size))
    gaussians = Gaussians(
        data["xyz"], data["rotations"], data["scales"], data["opacities"][..., 0], features=data["colors"]
    )
    raster = rasterize(gaussians, camera, settings=RELEASED.raster, backend=backend)
    for actual, expected in (
        (raster.color.movedim(-1, 0), data["image"]),
        (1 - raster.alpha[..., 0], data["final_transmittance"]),
    ):
        error = (actual - expected).abs()
        assert (error > 2e-4).float().mean() <= 1e-3
        assert error.max() <= 1e-2
    radii = raster.info.radii.amax(-1)
    drawn = radii > 0  # those off the image have none
    assert drawn.float().mean() > 0.5
    assert torch.equal(radii[drawn].int(), data["radii"][drawn])


# --- neural renderer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kernel", "options"),
    [
        ("modulated_conv_demod_none", 3, {}),
        ("modulated_conv_demod_up", 3, {"upsample": True}),
        ("modulated_conv_nodemod_1x1", 1, {"demodulate": False}),
    ],
)
def test_modulated_convolution(load, golden, name, kernel, options):
    data = load(name)
    sizes = (data["x"].shape[1], data["out"].shape[1], kernel, data["style"].shape[1])
    module = filled(ModulatedConv, golden.salt, *sizes, **options)
    close(module(data["x"], data["style"]), data["out"], 1e-4)


def test_styled_convolution(load, golden):
    data = load("style_conv_up")
    sizes = (data["x"].shape[1], data["out"].shape[1], data["style"].shape[1])
    module = filled(StyledConv, golden.salt, *sizes, upsample=True)
    close(module(data["x"], data["style"], data["noise"]), data["out"], 1e-4)


def test_to_rgb(load, golden):
    data = load("to_rgb_up")
    module = filled(ToRgb, golden.salt, data["x"].shape[1], data["style"].shape[1])
    close(module(data["x"], data["style"], data["skip"]), data["out"], 1e-4)


@pytest.mark.parametrize(("name", "factor"), [("res_block_down", 0.5), ("res_block_up", 2)])
def test_residual_block(load, golden, name, factor):
    data = load(name)
    module = filled(ResBlock, golden.salt, data["x"].shape[1], data["out"].shape[1], factor)
    close(module(data["x"]), data["out"], 1e-4)


@pytest.mark.parametrize(
    ("name", "in_size", "out_size"),
    [("style_unet_32", 32, 32), ("style_unet_32_lowres_input", 32, 32), ("style_unet_64to32", 64, 32)],
)
def test_style_unet(load, golden, name, in_size, out_size, way):
    data = load(name)
    unet = filled(StyleUNet, golden.salt, in_size, out_size, data["x"].shape[1], data["out"].shape[1])
    code, conditions = unet.encode(data["x"])
    close(code, data["style_code"], 1e-3)
    close(unet.stylegan_decoder.style_mlp(code), data["latent"], 1e-3)
    close(conditions[0][0][:, ::32], data["cond0_scale_c32"], 1e-3)
    close(conditions[0][1][:, ::32], data["cond0_shift_c32"], 1e-3)
    close(unet.logits(data["x"]), data["out_logits"], 1e-3)
    close(unet(data["x"]), data["out"], 1e-3)


def test_style_unet_of_the_published_size(load, golden, way):
    data = load("style_unet_512")
    unet = filled(StyleUNet, golden.salt, 512, 512)
    x = golden_array("styleunet.512.x", (1, 32, 512, 512), golden.salt)
    code, conditions = unet.encode(x)
    close(code, data["style_code"], 5e-3)
    close(unet.stylegan_decoder.style_mlp(code), data["latent"], 5e-3)
    flat = [part for pair in conditions for part in pair]
    close(torch.stack([part.mean() for part in flat]), data["cond_means"], 5e-3)
    close(torch.stack([part.std() for part in flat]), data["cond_stds"], 5e-3)
    logits = unet.stylegan_decoder(code, conditions) if way == "learning" else unet.logits(x)
    out = logits.sigmoid()
    close(logits[..., ::8, ::8], data["out_logits_s8"], 5e-3)
    close(out[..., ::8, ::8], data["out_s8"], 1e-3)
    for image, prefix, atol in ((logits, "logits", 5e-3), (out, "out", 1e-3)):
        close(image[0].flatten(1).mean(-1), data[f"{prefix}_mean"], atol)
        close(image[0].flatten(1).std(-1), data[f"{prefix}_std"], atol)


# --- losses -------------------------------------------------------------------------------------------------------


def test_lifting_loss(load):
    data = load("lifting_loss")
    close(lifting_distances(data["vertices"], data["points"]), data["distances"], rtol=1e-4)
    close(lifting_loss(data["vertices"], data["points"]), data["loss"], rtol=1e-4)


def test_box_loss(load):
    data = load("box_loss")
    close(expanded_box(data["bbox"]), data["expanded_bbox"], 1e-6)
    size = data["image"].shape[-1]
    boxes = pixel_box(data["expanded_bbox"], size)
    assert torch.equal(boxes, data[f"pixel_box_{size}"])
    assert torch.equal(pixel_box(data["expanded_bbox"], 512), data["pixel_box_512"])
    for image, expected in ((data["image"], data["crop_pred_s16"]), (data["target"], data["crop_target_s16"])):
        close(torch.cat(box_crops(image, boxes))[..., ::16, ::16], expected, 1e-5)
    close(box_loss(data["image"], data["image"], data["target"], data["bbox"]), data["box_l1"], 1e-5)


def test_training_loss(load):
    data = load("training_loss_no_percep")
    images = (data["gen_image"], data["sr_gen_image"], data["t_image"])
    close(image_loss(*images), data["img_loss"], 1e-5)
    close(box_loss(*images, data["t_bbox"]), data["box_loss"], 1e-5)
    close(lifting_loss(data["t_points"], data["p_points"]), data["point_loss"], 1e-5)
    # The published figure is of all images together.
    fine, target = (image.movedim(1, -1).flatten(0, 1) for image in images[1:])
    close(psnr(fine, target), data["psnr"], 1e-3)


def test_perceptual_combination(load):
    data = load("perceptual_combine")
    nets = {
        net: tuple([data[f"{net}{image}_{level}"] for level in range(5)] for image in range(2))
        for net in ("alex", "vgg")
    }
    close(combined_distance(nets["alex"], nets["vgg"]), data["loss"], rtol=1e-4)


def test_perceptual_networks(load, golden):
    data = load("perceptual_full")
    distance = filled(PerceptualDistance, golden.salt)
    assert distance.vggface is not None
    for net, prefix in ((distance.net, "alex"), (distance.vggface, "vgg")):
        for level, feature in enumerate(net(data["img0"])):
            close(feature.mean(), data[f"{prefix}_feat{level}_mean"], rtol=1e-3)
    close(distance(data["img0"], data["img1"]), data["loss"], rtol=1e-3)


# --- the state dict -----------------------------------------------------------------------------------------------


def test_published_keys_and_shapes():
    """Exactly the published names and shapes, the perceptual networks being a module of their own."""
    published = json.loads(PUBLISHED.read_text())
    with torch.device("meta"):
        model = OneShotModel()
        perceptual = PerceptualDistance()
    ours = dict(model.state_dict()) | {f"percep_loss.{key}": value for key, value in perceptual.state_dict().items()}
    assert {key: list(value.shape) for key, value in ours.items()} == {
        key: shape for key, (shape, _) in published.items()
    }
    assert all(str(value.dtype) == f"torch.{published[key][1]}" for key, value in ours.items())
    trainable = [value for key, value in model.state_dict().items() if "dino_model" not in key and "noises" not in key]
    assert sum(value.numel() for value in trainable) == 82_336_694
