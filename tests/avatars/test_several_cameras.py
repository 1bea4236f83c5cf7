"""The preset of several cameras: outlines where the surface ends, rates that fall, and quality from unseen sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vultus.avatars import load
from vultus.avatars.rigged import RiggedAvatar, preset, train
from vultus.avatars.rigged.start import start_avatar
from vultus.avatars.rigged.train import fitting_preset
from vultus.cameras import Camera
from vultus.captures import open_capture
from vultus.files import read_json
from vultus.meshes import rasterize_mesh
from vultus.workflows.evaluate import EvaluateRequest, evaluate
from vultus.workflows.synth import SynthSettings, synthesize


@pytest.fixture(scope="module")
def pair(new_capture, head, tmp_path_factory):
    """Two cameras, two instants."""
    return new_capture(tmp_path_factory.mktemp("pair") / "pair", head, yaws=(-0.4, 0.4), instants=2)


def settings(**changes):
    return replace(preset("fast", steps=8), shoulders=False, tensorboard=False, **changes)


def coverage(head, vertices, camera: Camera, finer: int = 8):
    """Share of every pixel that the mesh covers, by counting samples."""
    view = camera.resized(camera.width * finer, camera.height * finer)
    inside = (rasterize_mesh(vertices, head.faces, view).face_ids >= 0).float()
    return torch.nn.functional.avg_pool2d(inside[None, None], finer)[0, 0, :, :, None]


def test_several_cameras_get_the_fast_preset(pair, clip):
    assert fitting_preset(pair) == "fast"
    assert fitting_preset(clip) == "monocular"


def test_new_gaussians_lie_below_the_surface_by_a_share_of_a_pixel(pair, head):
    start = start_avatar(pair, head, pair.views, settings())
    avatar = start.avatar
    with torch.no_grad():
        height = avatar.means[:, 1] * avatar.frames(avatar.rest).scale[avatar.binding][:, 0]
    camera = pair.camera(pair.views[0])
    with torch.no_grad():
        depth = camera.to_camera(head.pose(pair.motion.params[0]).vertices)[:, 2].median()
    pixel = depth / camera.K[0, 0]
    torch.testing.assert_close(height, (-0.8 * pixel).expand_as(height), rtol=0.02, atol=1e-6)
    assert torch.equal(start.level, avatar.means[:, 1])
    on_it = start_avatar(pair, head, pair.views, settings(inset=0.0))
    assert float(on_it.avatar.means.detach()[:, 1].abs().max()) < 1e-4


def test_the_outline_is_that_of_the_mesh(pair, head):
    """Before any training; as one photo's avatar begins, it is wider by about a pixel."""

    def error(chosen):
        avatar = start_avatar(pair, head, pair.views, chosen).avatar
        differences = []
        for view in pair.views:
            params, camera = pair.motion.params[view.timestep], pair.camera(view)
            with torch.no_grad():
                alpha = avatar.render(params, camera).alpha
                differences.append(alpha - coverage(head, avatar.vertices(params), camera))
        return float(torch.stack(differences).square().mean()), float(torch.stack(differences).mean())

    squared, bias = error(settings())
    before, wider = error(settings(inset=0.0, antialiased=False))
    assert squared < 0.4 * before
    assert abs(bias) < 0.4 * wider


def test_the_antialiasing_is_saved_with_the_avatar(pair, tmp_path):
    avatar = train(pair, tmp_path / "run", settings())
    assert avatar.raster.antialiased
    again = load(tmp_path / "run" / "avatar")
    assert isinstance(again, RiggedAvatar)
    assert again.raster == avatar.raster


def test_all_rates_fall_to_what_is_said(pair, tmp_path):
    seen = []

    def look(step, task):
        if step:
            seen.append({group["name"]: group["lr"] for group in task.optimizers["adam"].param_groups})

    chosen = settings()
    train(pair, tmp_path / "run", chosen, control=look)
    rates = chosen.rates
    for name, rate in (("sh0", rates.sh0), ("log_scales", rates.scale), ("pose", rates.pose)):
        values = [rate * rates.left ** (step / 8) for step in range(1, 8)]
        assert [row[name] for row in seen] == pytest.approx(values)
    assert seen[-1]["means"] > rates.position_end


@pytest.mark.slow
def test_quality_from_a_camera_and_at_instants_that_were_held_out(head, tmp_path):
    folder = tmp_path / "capture"
    synthesize(folder, SynthSettings(preset="clean", cameras=8, timesteps=8, size=128, truth="motion"), head=head)
    capture = open_capture(folder, head).hold_out(cameras=[4], timesteps=[6, 7])
    avatar = train(capture, tmp_path / "run", replace(preset("fast", steps=250), tensorboard=False))
    request = EvaluateRequest(
        protocol="all", hold_out_cameras=(4,), hold_out_timesteps=(6, 7), dilation=2, most=6, heat_maps=False, worst=0
    )
    evaluate(avatar, capture, tmp_path / "evaluation", request)
    figures = read_json(tmp_path / "evaluation" / "evaluation.json")["protocols"]
    inside = {name: about["mean"]["mask"]["psnr"] for name, about in figures.items()}
    assert inside["novel-view"] > 26.5
    assert inside["self-reenactment"] > 26.5
    assert inside["novel-view"] > inside["training"] - 3
