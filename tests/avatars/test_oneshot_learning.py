"""What makes the small one-shot network learn fast: colours it starts from, averaged weights, a rate that rises, and
lifting compared at some vertices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from oneshot_samples import TINY, person, transform
from test_oneshot_training import SETTINGS, drawn_frames

from vultus.avatars.oneshot.geometry import metres_to_native, transform_to_camera
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.options import CLEAN, Architecture
from vultus.avatars.oneshot.settings import LossWeights, preset
from vultus.avatars.oneshot.task import OneShotTask
from vultus.avatars.oneshot.train import new_model, train
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin
from vultus.training import latest_checkpoint, read_checkpoint, step_generator

SHORT = replace(TINY, quirks=CLEAN, shortcuts=True)


@pytest.fixture(scope="module")
def frames():
    return drawn_frames(load_builtin())


@pytest.fixture
def unlearned():
    """A network whose generators of sheets and whose neural renderer give zeros before the shortcuts."""
    torch.manual_seed(0)
    model = OneShotModel(SHORT).eval()
    for generator in (model.gs_generator_l0, model.gs_generator_l1):
        for value in generator.gaussian_conv[-1].parameters():
            torch.nn.init.zeros_(value)
    for name, value in model.upsampler.named_parameters():
        if "to_rgb" in name and name.endswith("modulated_conv.weight"):
            torch.nn.init.zeros_(value)
    return model


def test_sheets_start_with_the_pictures_colours(unlearned):
    """Every lifted splat has the colour of the picture's place that it was lifted from."""
    size = SHORT.source_size
    line = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    picture = torch.stack([0.1 + 0.8 * x, 0.1 + 0.8 * y, 0.5 + 0.3 * x * y])[None]
    with torch.no_grad():
        splats = unlearned.splats(picture, transform(0.4)[None])
    camera = metres_to_native(transform_to_camera(transform(0.4), size))
    u, v = (camera.project(splats.lifted[0]) / size).clamp(0.5 / size, 1 - 0.5 / size).unbind(-1)
    # Lifting moves along the middle's ray: a splat at the edge moves by up to 3 % of the picture.
    cells = SHORT.plane_size**2
    colors = splats.attributes.features[0, SHORT.vertices :, :3]
    expected = torch.stack([0.1 + 0.8 * u, 0.1 + 0.8 * v, 0.5 + 0.3 * u * v], dim=-1)
    assert float((colors - expected).abs().max()) < 0.03
    assert torch.equal(colors[:cells], colors[cells:])


def test_the_renderer_starts_with_the_splats_colours(unlearned, frames):
    frame = frames.frames[0]
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        drawn, _ = unlearned(picture, transform(0.0)[None], torch.randn(1, 7642, 3) * 0.3, frame.transform[None])
    torch.testing.assert_close(drawn.fine, drawn.coarse.clamp(0.01, 0.99))


def test_shortcuts_need_clean_colours():
    with pytest.raises(VultusError, match="lifted_colors"):
        Architecture(shortcuts=True)
    assert not preset("small", vertices=7642, quirks="released").architecture.shortcuts
    assert preset("small", vertices=7642).architecture.shortcuts
    assert not preset("paper", vertices=5023).architecture.shortcuts


def test_saved_avatars_know_of_shortcuts(head, tmp_path, monkeypatch, unlearned):
    from vultus import avatars

    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))
    picture = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(2))
    avatar = unlearned.reconstruct(picture, transform(0.1), person(head), head)
    avatar.save(tmp_path / "avatar")
    loaded = avatars.load(tmp_path / "avatar")
    with torch.no_grad():
        a, b = (each.render(person(head), avatar.view).color for each in (avatar, loaded))
    assert torch.equal(a, b)
    assert float(a.max()) > 0.3


def test_weights_are_averaged(frames):
    """The result follows the weights of all steps; each counts more than all that are long past."""
    settings = replace(SETTINGS, average=0.5, steps=5)
    task = OneShotTask(new_model(settings), frames, settings)
    expected = {name: value.detach().clone() for name, value in task.model.named_parameters()}
    for step in range(1, 6):
        loss, _ = task.loss(step, step_generator(1, step))
        task.optimizers["adam"].zero_grad()
        loss.backward()
        task.optimizers["adam"].step()
        task.after_update(step)
        kept = min(0.5, step / (step + 10))
        for name, value in task.model.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * value.detach()
    found = dict(task.result.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(found["head_base"], task.model.head_base)
    plain = OneShotTask(new_model(SETTINGS), frames, SETTINGS)
    assert plain.result is plain.model


def test_averaged_runs_go_on_exactly(frames, tmp_path):
    settings = replace(SETTINGS, average=0.9, lifted_vertices=50, warm_up=2, checkpoint_every=2)
    whole = train(frames, tmp_path / "whole", settings, validation=frames)
    train(frames, tmp_path / "parts", settings, validation=frames, control=lambda step, task: step == 4)
    parts = train(frames, tmp_path / "parts", settings, validation=frames)
    assert all(torch.equal(value, parts.state_dict()[key]) for key, value in whole.state_dict().items())
    folder = latest_checkpoint(tmp_path / "parts")
    assert folder is not None
    checkpoint = read_checkpoint(folder)
    latest = checkpoint.training["latest.head_base"]
    assert not torch.equal(latest, checkpoint.model["head_base"])
    task = OneShotTask(new_model(settings), frames, settings)
    with pytest.raises(VultusError, match=r"latest\."):
        task.restore(checkpoint.model, {})


def test_the_rate_rises_first(frames):
    settings = replace(SETTINGS, steps=100, rate=1.0, warm_up=9)
    task = OneShotTask(new_model(settings), frames, settings)
    rates = []
    for step in (1, 5, 10, 51):
        task.loss(step, step_generator(1, step))
        rates.append(task.optimizers["adam"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.5 * (1 - 0.9 * 0.04), 1 - 0.9 * 0.09, 0.55])


def test_some_vertices_stand_for_all(frames):
    """On average over steps the lifting loss of some vertices is that of all; the same step takes the same ones."""

    def lifting(some, step):
        settings = replace(SETTINGS, lifted_vertices=some, weights=LossWeights(image=0.0, box=0.0, perceptual=0.0))
        task = OneShotTask(model, frames, settings)
        with torch.no_grad():
            return task.loss(1, step_generator(1, step))[1]["lifting"]

    model = new_model(SETTINGS)
    everywhere = lifting(0, 3)
    some = lifting(3000, 3)
    assert some == lifting(3000, 3) != everywhere
    assert some == pytest.approx(everywhere, rel=0.05)
