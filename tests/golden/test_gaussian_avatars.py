"""Rigged Gaussians on a FLAME-layout mesh, compared with the vectors of specs' golden folder `gaussian-avatars`."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vultus.avatars.rigged import losses
from vultus.avatars.rigged.densify import (
    DensifySettings,
    Statistics,
    plan_densification,
    removable,
    replace_parameter,
    reset_opacity,
)
from vultus.avatars.rigged.frames import TriangleFrames, local_to_world, triangle_frames
from vultus.avatars.rigged.schedule import position_rate
from vultus.avatars.rigged.start import camera_extent
from vultus.cameras import Camera
from vultus.captures.transforms import transforms_camera
from vultus.heads import LandmarkSet, SkinnedHead
from vultus.heads.flame import FlameArrays, add_teeth, centred_at_root, texture_grid
from vultus.images import to_uint8
from vultus.images.masks import composite
from vultus.images.metrics import psnr, ssim
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, quaternion_to_matrix
from vultus.splats import sh_to_rgb
from vultus.splats.formats.ply import StoredSplats, read_ply, write_ply
from vultus.splats.reference import covariance

pytestmark = pytest.mark.golden


def tensors(arrays, dtype=None):
    made = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.array(array))
        made[name] = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
    return made


def same_rotation(quaternion, expected, atol):
    sign = torch.sign((quaternion * expected).sum(-1, keepdim=True))
    torch.testing.assert_close(quaternion * sign, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 5e-6), (torch.float64, 1e-10)])
def test_triangle_frames(golden, dtype, atol):
    data = tensors(golden.load("triangle_frames"), dtype)
    frames = triangle_frames(data["vertices"], data["faces"])
    torch.testing.assert_close(frames.center, data["out_center"], rtol=0, atol=atol)
    torch.testing.assert_close(frames.rotation, data["out_rotation"], rtol=0, atol=atol)
    torch.testing.assert_close(frames.scale, data["out_scale"], rtol=0, atol=atol)
    same_rotation(frames.quaternion, data["out_quaternion_wxyz"], atol)


def test_degenerate_triangle_frames(golden):
    data = tensors(golden.load("triangle_frames"), torch.float64)
    corners = data["degenerate_triangles"]
    frames = triangle_frames(corners.reshape(-1, 3), torch.arange(corners.shape[0] * 3).reshape(-1, 3))
    torch.testing.assert_close(frames.rotation, data["out_degenerate_rotation"], rtol=0, atol=1e-10)
    torch.testing.assert_close(frames.scale, data["out_degenerate_scale"], rtol=0, atol=1e-10)
    assert frames.quaternion.isfinite().all()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-6), (torch.float64, 1e-10)])
def test_local_to_world(golden, dtype, atol):
    data = tensors(golden.load("local_to_global"), dtype)
    from vultus.rotations import matrix_to_quaternion

    frames = TriangleFrames(
        data["face_center"], data["face_rotation"], matrix_to_quaternion(data["face_rotation"]), data["face_scale"]
    )
    means, scales, rotations = local_to_world(
        data["local_xyz"], data["local_log_scale"].exp(), data["local_rotation_wxyz"], data["binding"], frames
    )
    torch.testing.assert_close(means, data["out_means"], rtol=0, atol=atol)
    torch.testing.assert_close(scales, data["out_scales"], rtol=0, atol=atol)
    same_rotation(rotations, data["out_rotations_wxyz"], atol)
    found, expected = covariance(rotations, scales), data["out_covariances"]
    size = expected.flatten(1).norm(dim=1)
    assert ((found - expected).flatten(1).norm(dim=1) <= 1e-5 * size).all()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
@pytest.mark.parametrize("variant", ["default", "nothreshold"])
def test_regularisers(golden, dtype, rtol, variant):
    data = tensors(golden.load("regularisers"), dtype)
    far, large = (1.0, 0.6) if variant == "default" else (0.0, 0.0)
    means = data["local_xyz"].clone().requires_grad_()
    log_scales = data["local_log_scale"].clone().requires_grad_()
    visible, size = data["visible"], data["face_scale"][data["binding"]]
    position = 0.01 * losses.position_loss(means, visible, far)
    scale = losses.scale_loss(log_scales.exp(), visible, large)
    torch.testing.assert_close(position.detach(), data[f"out_position_{variant}"], rtol=rtol, atol=0)
    torch.testing.assert_close(scale.detach(), data[f"out_scale_{variant}"], rtol=rtol, atol=0)
    (position + scale).backward()
    for found, name in ((means.grad, "xyz"), (log_scales.grad, "log_scale")):
        expected = data[f"out_grad_{name}_{variant}"]
        torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))
    far, large = (0.004, 0.003) if variant == "default" else (0.0, 0.0)
    metric_position = 0.01 * losses.metric_position_loss(means, size, visible, far)
    metric_scale = losses.metric_scale_loss(log_scales.exp(), size, visible, large)
    torch.testing.assert_close(metric_position.detach(), data[f"out_position_metric_{variant}"], rtol=rtol, atol=0)
    torch.testing.assert_close(metric_scale.detach(), data[f"out_scale_metric_{variant}"], rtol=rtol, atol=0)


def test_offset_regularisers(golden):
    data = tensors(golden.load("regularisers"), torch.float64)
    offsets = data["dynamic_offset"]
    torch.testing.assert_close(losses.offset_loss(offsets[2]), data["out_dynamic_offset_t2"], rtol=1e-6, atol=0)
    torch.testing.assert_close(losses.offset_variation_loss(offsets), data["out_dynamic_offset_std"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("dtype", "suffix"), [(torch.float32, ""), (torch.float64, "_f64")])
def test_image_metrics(golden, dtype, suffix):
    data = tensors(golden.load("image_metrics"), dtype)
    image = data["image"].permute(0, 2, 3, 1).clone().requires_grad_()
    target = data["target"].permute(0, 2, 3, 1)
    difference = (image - target).abs().mean((1, 2, 3))
    similarity = ssim(image, target, padding="same")
    loss = losses.image_loss(image, target)

    def check(found, name, atol=2e-6):
        torch.testing.assert_close(found.detach(), data[name + suffix], rtol=0, atol=atol)

    check(difference, "out_l1")
    check(similarity, "out_ssim")
    check(similarity, "out_ssim_batched")
    check(0.2 * (1 - similarity), "out_dssim_loss")
    check(loss, "out_rgb_loss")
    loss.sum().backward()
    expected = data["out_grad_rgb_loss" + suffix].permute(0, 2, 3, 1)
    torch.testing.assert_close(image.grad, expected, rtol=1e-4, atol=1e-7)
    shown = image.detach().clamp(0, 1)
    check(psnr(shown, target), "out_psnr_whole", 1e-3)
    channels = torch.stack([psnr(shown[..., c : c + 1], target[..., c : c + 1]) for c in range(3)], dim=-1)
    check(channels, "out_psnr_per_channel", 1e-3)
    check(channels.mean(-1), "out_psnr_channel_mean", 1e-3)


@pytest.mark.parametrize("background", ["white", "black"])
def test_compositing(golden, background):
    data = golden.load("image_metrics")
    rgba = torch.from_numpy(data["rgba"].astype(np.float64) / 255)
    shown = composite(rgba[..., :3], rgba[..., 3:], 1.0 if background == "white" else 0.0)
    expected = data[f"out_composite_{background}"].astype(int)
    # The published loader truncates where this project rounds.
    assert np.array_equal(np.floor(shown.numpy() * 255).astype(int), expected)
    assert np.abs(to_uint8(shown).astype(int) - expected).max() <= 1


def test_position_rate(golden):
    data = golden.load("position_lr")
    for scale, expected in zip(data["spatial_lr_scale"], data["out_lr"], strict=True):
        found = [position_rate(int(step), float(scale)) for step in data["iterations"]]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    found = [position_rate(int(step), delay_steps=5000, delay_factor=0.01) for step in data["iterations"]]
    np.testing.assert_allclose(found, data["out_lr_with_delay_5000"], rtol=1e-9, atol=1e-300)


def densify_state(data):
    names = {"xyz": "xyz", "f_dc": "f_dc", "opacity": "opacity", "scaling": "scaling", "rotation": "rotation"}
    parameters = {name: torch.nn.Parameter(data[f"in_{key}"].clone()) for name, key in names.items()}
    optimizer = torch.optim.Adam([{"params": [value], "name": name} for name, value in parameters.items()])
    for name in ("xyz", "opacity"):
        moment = data[f"in_exp_avg_{name}"].clone()
        optimizer.state[parameters[name]] = {
            "step": torch.tensor(7.0),
            "exp_avg": moment,
            "exp_avg_sq": moment.square(),
        }
    return parameters, optimizer


@pytest.mark.parametrize("phase", ["early", "late"])
def test_densify(golden, phase):
    data = tensors(golden.load("densify"))
    parameters, optimizer = densify_state(data)
    faces = data["face_scale"].shape[0]
    statistics = Statistics(
        data["in_grad_accum"][:, 0].clone(), data["in_denom"][:, 0].clone(), data["in_max_radii2D"].clone()
    )
    # The published screen test sees radii that were just zeroed: no radius is ever too large.
    settings = DensifySettings(screen_radius=math.inf, world_noise=True)
    plan = plan_densification(
        data["in_xyz"],
        data["in_scaling"],
        quaternion_to_matrix(data["in_rotation"]),
        data["in_opacity"][:, 0].sigmoid(),
        data["face_scale"][data["in_binding"]],
        statistics,
        1.5,
        settings,
        binding=data["in_binding"],
        face_count=faces,
        prune_large=phase == "late",
        noise=data["noise"],
    )
    binding = data["in_binding"][plan.source]
    assert torch.equal(binding, data[f"out_{phase}_binding"])
    counter = torch.bincount(binding, minlength=faces)
    assert torch.equal(counter.to(torch.int32), data[f"out_{phase}_binding_counter"])
    new_values = {"xyz": plan.means, "scaling": plan.log_scales}
    for name, old in parameters.items():
        value = new_values.get(name, old.detach()[plan.source])
        new = replace_parameter(optimizer, old, value, plan.source, plan.fresh)
        torch.testing.assert_close(new.detach(), data[f"out_{phase}_{name}"], rtol=0, atol=2e-6)
        if name in ("xyz", "opacity"):
            moment = optimizer.state[new]["exp_avg"]
            torch.testing.assert_close(moment, data[f"out_{phase}_exp_avg_{name}"], rtol=0, atol=2e-6)
    after = Statistics.zeros(binding.shape[0])
    torch.testing.assert_close(after.gradient[:, None], data[f"out_{phase}_grad_accum"])
    torch.testing.assert_close(after.radius, data[f"out_{phase}_max_radii2D"])


def test_prune_keeps_one_per_face(golden):
    data = tensors(golden.load("densify"))
    faces = data["face_scale"].shape[0]
    applied = removable(data["in_prune_request"], data["in_binding"], faces)
    assert torch.equal(applied, data["out_prune_applied"])
    assert torch.equal(data["in_binding"][~applied], data["out_prune_binding"])
    counter = torch.bincount(data["in_binding"][~applied], minlength=faces).to(torch.int32)
    assert torch.equal(counter, data["out_prune_binding_counter"])


def test_opacity_reset(golden):
    data = tensors(golden.load("densify"))
    parameters, optimizer = densify_state(data)
    reset_opacity(optimizer, parameters["opacity"])
    torch.testing.assert_close(parameters["opacity"].detach(), data["out_reset_opacity"], rtol=0, atol=2e-6)
    moment = optimizer.state[parameters["opacity"]]["exp_avg"]
    torch.testing.assert_close(moment, data["out_reset_exp_avg_opacity"], rtol=0, atol=2e-6)


def test_ply_layout(golden, tmp_path):
    data = golden.load("ply_layout")
    reference = tmp_path / "reference.ply"
    reference.write_bytes(data["out_ply_bytes"].tobytes())
    splats = read_ply(reference)
    names = ("xyz", "f_dc", "f_rest", "opacity", "scaling", "rotation", "binding")
    for name in names:
        assert np.array_equal(getattr(splats, name), data[name].reshape(getattr(splats, name).shape)), name
    mine = tmp_path / "mine.ply"
    write_ply(mine, StoredSplats(**{name: data[name] for name in names if name != "opacity"}, opacity=data["opacity"]))

    def parts(content):
        header, body = content.split(b"end_header\n", 1)
        return [line for line in header.splitlines() if not line.startswith(b"comment")], body

    assert parts(mine.read_bytes()) == parts(reference.read_bytes())


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_sh_colour(golden, degree):
    data = tensors(golden.load("sh_colour"), torch.float64)
    rgb = sh_to_rgb(data["directions"], data["coeff"].transpose(1, 2), degree)
    torch.testing.assert_close(rgb, data[f"out_rgb_degree{degree}"], rtol=0, atol=1e-6)


def golden_array(name, shape, salt):
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8")) + (salt << 32)))
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def flame_params(head, data, offset=None):
    zero = head.neutral()
    return HeadParams(
        model=head.fingerprint,
        identity=data["param_shape"],
        expression=data["param_expr"],
        joints={
            "root": data["param_rotation"],
            "neck": data["param_neck"],
            "jaw": data["param_jaw"],
            "left_eye": data["param_eyes"][:, :3],
            "right_eye": data["param_eyes"][:, 3:],
        },
        translation=data["param_translation"],
        scale=zero.scale,
        offset=offset,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flame_forward(golden, dtype):
    arrays = golden.load("flame_forward")
    data = tensors(arrays, dtype)
    n_identity = data["param_shape"].shape[-1]
    head = SkinnedHead(
        name="flame",
        license="test",
        v_template=data["model_v_template"],
        faces=data["model_f"],
        identity_basis=data["model_shapedirs"][..., :n_identity],
        expression_basis=data["model_shapedirs"][..., n_identity:],
        pose_basis=data["model_posedirs"],
        joint_regressor=data["model_J_regressor"],
        weights=data["model_weights"],
        parents=[-1, *data["model_kintree_table"][0, 1:].tolist()],
        uvs=data["verts_uvs"],
        uv_faces=data["textures_idx"],
        landmark_sets={
            "ibug68": LandmarkSet(
                torch.arange(len(data["lmk_faces_idx"])), data["lmk_faces_idx"], data["lmk_bary_coords"]
            )
        },
    )

    def assert_golden(actual, name):
        # Vectors stored in single precision carry its noise of 1e-7.
        exact = dtype == torch.float64 and arrays[name].dtype == np.float64
        atol = 5e-7 if exact else 2e-6
        torch.testing.assert_close(actual, data[name].to(dtype), rtol=0, atol=atol)

    static, dynamic = data["param_static_offset"], data["param_dynamic_offset"]
    params = flame_params(head, data, static)
    posed = head.pose(params)
    assert_golden(posed.vertices, "out_vertices")
    assert_golden(posed.rest, "out_vertices_canonical")
    assert_golden(posed.joints, "out_joints")
    assert_golden(head.landmarks(posed.vertices, "ibug68"), "out_landmarks")
    assert_golden(head.pose(flame_params(head, data)).vertices, "out_vertices_no_offset")
    assert_golden(head.pose(replace(params, offset=static + dynamic)).vertices, "out_vertices_with_dynamic_offset")
    rotations = torch.stack([axis_angle_to_matrix(params.joints[name]) for name in head.joint_names], dim=1)
    assert_golden(rotations, "out_joint_rotations")
    centred = head.pose(centred_at_root(head, params)).vertices
    assert_golden(centred, "out_vertices_zero_centered")
    assert_golden(head.landmarks(centred, "ibug68"), "out_landmarks_zero_centered")
    assert_golden(texture_grid(head.uvs, head.uv_faces), "out_face_uvcoords")


def test_teeth(golden):
    data, salt = tensors(golden.load("teeth")), golden.salt
    count, n_identity, n_expression = 5023, data["param_shape"].shape[-1], data["param_expr"].shape[-1]
    shapes = 0.001 * golden_array("teeth/shapedirs", (count, 3, 400), salt)
    face = torch.arange(9976)
    model = FlameArrays(
        v_template=0.1 * golden_array("teeth/v_template", (count, 3), salt),
        faces=torch.stack([face % count, (7 * face + 1) % count, (13 * face + 2) % count], dim=-1),
        identity_basis=shapes[..., :n_identity],
        expression_basis=shapes[..., 300 : 300 + n_expression],
        pose_basis=0.001 * golden_array("teeth/posedirs", (count, 3, 36), salt),
        joint_regressor=(2 * golden_array("teeth/J_regressor", (5, count), salt)).softmax(-1),
        weights=(3 * golden_array("teeth/weights", (count, 5), salt)).softmax(-1),
        uvs=torch.zeros(5118, 2),
        uv_faces=torch.zeros(9976, 3, dtype=torch.int64),
    )
    toothed = add_teeth(model, data["lip_upper"], data["lip_lower"])
    added = data["out_template"].shape[0]
    torch.testing.assert_close(toothed.v_template[-added:], data["out_template"], rtol=0, atol=3e-6)
    shape_bases = torch.cat([toothed.identity_basis, toothed.expression_basis], dim=-1)
    torch.testing.assert_close(shape_bases[-added:], data["out_shapedirs"], rtol=0, atol=3e-6)
    torch.testing.assert_close(toothed.weights[-added:], data["out_lbs_weights"], rtol=0, atol=3e-6)
    torch.testing.assert_close(toothed.uvs[-added:], data["out_uvs"], rtol=0, atol=3e-6)
    assert torch.equal(toothed.faces[model.faces.shape[0] :], data["out_faces"])
    assert torch.equal(toothed.uv_faces[model.faces.shape[0] :], data["out_uv_faces"])
    head = SkinnedHead(name="flame", license="test", **vars(toothed), parents=(-1, 0, 1, 1, 1))
    vertices = head.pose(flame_params(head, data)).vertices
    torch.testing.assert_close(vertices[:, -added:], data["out_posed_teeth"], rtol=0, atol=3e-6)
    first = data["out_posed_first_200"].shape[1]
    torch.testing.assert_close(vertices[:, :first], data["out_posed_first_200"], rtol=0, atol=3e-6)


def test_cameras(golden):
    data = golden.load("cameras")
    width, height = int(data["width"]), int(data["height"])
    cameras = [
        transforms_camera(
            {"transform_matrix": pose.tolist(), "camera_angle_x": float(angle), "w": width, "h": height}, "golden"
        )
        for pose, angle in zip(data["transform_matrix"], data["camera_angle_x"], strict=True)
    ]
    rig = Camera.stack(cameras)
    np.testing.assert_allclose(
        2 * np.arctan(height / (2 * rig.K[:, 1, 1].numpy())), data["out_fovy"], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        rig.world_to_camera.transpose(-1, -2).numpy(), data["out_world_view_transposed"], rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(rig.center.numpy(), data["out_camera_center"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(-rig.center.mean(0).numpy(), data["out_translate"], rtol=0, atol=1e-5)
    capture = SimpleNamespace(camera=lambda view: cameras[view])
    assert camera_extent(capture, list(range(len(cameras)))) == pytest.approx(float(data["out_extent"]), abs=1e-9)
    near, far = 0.01, 100.0
    fx, fy = rig.K[:, 0, 0].numpy(), rig.K[:, 1, 1].numpy()
    projection = np.zeros_like(data["out_projection_transposed"], dtype=np.float64)
    projection[:, 0, 0], projection[:, 1, 1] = 2 * fx / width, 2 * fy / height
    projection[:, 2, 2], projection[:, 2, 3], projection[:, 3, 2] = far / (far - near), 1, -far * near / (far - near)
    np.testing.assert_allclose(projection, data["out_projection_transposed"], rtol=0, atol=1e-5)
    full = rig.world_to_camera.transpose(-1, -2).numpy() @ projection
    np.testing.assert_allclose(full, data["out_full_proj_transposed"], rtol=0, atol=1e-5)
    # Clip coordinates by these matrices, (x + 1) W / 2 in pixels, are where our camera projects.
    seen = torch.randn(20, 3, dtype=torch.float64) * 0.1 + torch.tensor([0.0, 0.0, 1.0])
    points = rig.center[:, None] + seen @ rig.world_to_camera[:, :3, :3]
    clip = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1).numpy() @ full
    pixels = (clip[..., :2] / clip[..., 3:] + 1) / 2 * [width, height]
    np.testing.assert_allclose(rig.project(points).numpy(), pixels, rtol=0, atol=1e-6)
