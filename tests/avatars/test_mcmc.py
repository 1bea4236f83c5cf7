"""Training Gaussians as samples: what moving one onto another may change, and what it may not."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vultus.avatars.rigged import preset, train
from vultus.avatars.rigged.frames import triangle_frames
from vultus.avatars.rigged.mcmc import Mcmc, McmcSettings, jitter, plan_relocation, shared_opacity
from vultus.avatars.rigged.strategy import Population
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.rotations import quaternion_to_matrix
from vultus.splats import Gaussians, rasterize

FACES = 6


def population(seed, count=40, faint=0.5):
    generator = torch.Generator().manual_seed(seed)
    binding = torch.cat([torch.arange(FACES), torch.randint(0, FACES, (count - FACES,), generator=generator)])
    opacities = torch.rand(count, generator=generator)
    opacities = torch.where(torch.rand(count, generator=generator) < faint, 0.004 * opacities, opacities)
    rotations = quaternion_to_matrix(torch.randn(count, 4, generator=generator))
    means, scales = (torch.randn(count, 3, generator=generator) for _ in range(2))
    return Population(means, scales, rotations, opacities, torch.full((count, 1), 0.01), binding, FACES, 0.25)


@pytest.mark.parametrize("opacity", [1e-4, 0.006, 0.3, 0.9, 0.999, 1 - 2**-23])
@pytest.mark.parametrize("copies", [1, 2, 3, 7, 20, 51])
def test_copies_hide_what_the_one_hid(opacity, copies):
    old = torch.tensor([opacity], dtype=torch.float64)
    new, factor = shared_opacity(old, torch.tensor([copies]))
    assert float(1 - (1 - new) ** copies) == pytest.approx(opacity, rel=1e-9), "at the centre"
    x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    before = opacity * torch.exp(-0.5 * x**2)
    after = 1 - (1 - new * torch.exp(-0.5 * (x / factor) ** 2)) ** copies
    assert float(torch.trapezoid(after, x)) == pytest.approx(float(torch.trapezoid(before, x)), rel=1e-6)
    # The sum as published.
    double = sum(
        math.comb(i - 1, k) * (-1) ** k * float(new) ** (k + 1) / math.sqrt(k + 1)
        for i in range(1, copies + 1)
        for k in range(i)
    )
    assert float(factor) == pytest.approx(opacity / double, rel=1e-6)
    assert 0 < float(factor) <= 1 + 1e-9


def test_more_copies_than_51_are_treated_as_51():
    old = torch.tensor([0.7, 0.7])
    new, factor = shared_opacity(old, torch.tensor([51, 400]))
    assert new[0] == new[1]
    assert factor[0] == factor[1]


@pytest.mark.parametrize("copies", [2, 5])
def test_the_drawn_picture_stays_nearly_the_same(copies):
    camera = Camera.from_focal(200.0, 65, 65)

    def alpha(count, opacity, scale):
        gaussians = Gaussians(
            means=torch.tensor([[0.0, 0.0, 1.0]]).repeat(count, 1),
            rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
            scales=torch.full((count, 3), scale),
            opacities=torch.full((count,), opacity),
            features=torch.ones(count, 1),
        )
        return rasterize(gaussians, camera, backend="reference").alpha[..., 0]

    new, factor = shared_opacity(torch.tensor([0.8]), torch.tensor([copies]))
    before, after = alpha(1, 0.8, 0.04), alpha(copies, float(new), 0.04 * float(factor))
    careless = alpha(copies, 0.8, 0.04)
    assert float(after[32, 32]) == pytest.approx(float(before[32, 32]), abs=1e-5)
    assert (after - before).abs().max() < 0.2 * (careless - before).abs().max()
    middle = [float(image[32].sum()) for image in (before, after)]
    assert middle[1] == pytest.approx(middle[0], rel=0.01)  # the low-pass of the rasteriser is not scaled


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(30, 60))
def test_relocation_keeps_every_triangle_and_the_limit(seed, faint, limit):
    before = population(seed, faint=faint)
    settings = McmcSettings(limit=limit, growth=1.2)
    plan = plan_relocation(before, settings, torch.Generator().manual_seed(seed))
    count = len(plan.source)
    alive = before.opacities > settings.min_opacity
    assert count == (max(40, min(limit, 48)) if alive.any() else 40)
    assert (torch.bincount(before.binding[plan.source], minlength=FACES) >= 1).all()
    # Who is not copied stays to the bit; nobody becomes a copy of a faint one.
    stays = ~plan.fresh
    assert torch.equal(plan.source[stays], torch.arange(count)[stays])
    assert torch.equal(plan.opacities[stays], before.opacities[plan.source[stays]])
    assert torch.equal(plan.log_scales[stays], before.log_scales[plan.source[stays]])
    assert alive[plan.source[plan.fresh]].all()
    # A faint one stays only where its whole triangle is faint.
    lively = torch.bincount(before.binding[alive], minlength=FACES) > 0
    stuck = ~alive & (plan.source[:40] == torch.arange(40))
    assert not (stuck & lively[before.binding]).any() or not alive.any()


@given(st.integers(0, 10_000))
def test_a_group_of_copies_hides_what_its_source_hid(seed):
    before = population(seed)
    settings = McmcSettings(limit=60, growth=1.5, min_opacity=0.005)
    plan = plan_relocation(before, settings, torch.Generator().manual_seed(seed))
    for source in plan.source[plan.fresh].unique():
        group = (plan.source == source).nonzero()[:, 0]
        assert len(group) > 1
        assert int(source) in group.tolist()
        assert torch.equal(plan.means[group], before.means[source].expand(len(group), 3))
        if float(plan.opacities[group[0]]) > settings.min_opacity:
            through = (1 - plan.opacities[group].double()).prod()
            assert float(1 - through) == pytest.approx(float(before.opacities[source]), abs=1e-5)
        assert (plan.log_scales[group] <= before.log_scales[source] + 1e-6).all()


def test_sources_are_drawn_in_proportion_to_opacity():
    count = 3
    before = replace(
        population(0, 10),
        opacities=torch.tensor([0.2, 0.6, 0.001]),
        binding=None,
        **{name: getattr(population(0, 10), name)[:count] for name in ("means", "log_scales", "rotations", "sizes")},
    )
    plan = plan_relocation(before, McmcSettings(growth=2001.0, limit=6003), torch.Generator().manual_seed(0))
    share = torch.bincount(plan.source, minlength=3) / len(plan.source)
    assert share.tolist() == pytest.approx([0.25, 0.75, 0.0], abs=0.02)


def test_the_jitter_is_the_covariance_in_the_world_and_spares_the_opaque():
    vertices = torch.tensor([[0.0, 0, 0], [0.02, 0.004, 0], [0.003, 0.03, 0.01]])
    frames = triangle_frames(vertices, torch.tensor([[0, 1, 2]]))
    many, settings = 40_000, McmcSettings(noise=80.0)
    rotation = quaternion_to_matrix(torch.tensor([0.9, 0.3, -0.2, 0.4]) / torch.tensor(1.1).sqrt())
    scales = torch.tensor([0.5, 0.2, 0.05])

    def steps(opacity, rate=1.0):
        gaussians = Population(
            torch.zeros(many, 3),
            scales.log().expand(many, 3),
            rotation.expand(many, 3, 3),
            torch.full((many,), opacity),
            frames.scale[0].expand(many, 1),
            None,
            0,
            0.25,
        )
        local = jitter(gaussians, settings, rate, torch.Generator().manual_seed(0))
        return frames.scale[0] * (local @ frames.rotation[0].T)

    axes = frames.rotation[0] @ rotation @ torch.diag(scales * frames.scale[0])
    covariance = axes @ axes.T
    gate = 1 / (1 + math.exp(100 * (0.001 - 0.005)))
    expected = (80 / 0.25 * gate) ** 2 * covariance @ covariance
    faint = steps(0.001)
    torch.testing.assert_close(torch.cov(faint.T), expected, rtol=0, atol=0.03 * float(expected.abs().max()))
    assert faint.mean(0).abs().max() < 4 * expected.diagonal().sqrt().max() / many**0.5
    torch.testing.assert_close(steps(0.001, 0.1), 0.1 * faint)
    assert steps(0.3).abs().max() < 1e-9 * faint.abs().max()


def test_regulariser_and_events():
    strategy = Mcmc(McmcSettings(start=10, stop=40, every=10, opacity=0.5, scale=2.0))
    value = strategy.regulariser(torch.full((4, 3), 0.02), torch.tensor([0.0, 0.2, 0.4, 0.6]), 0.25)
    assert float(value) == pytest.approx(0.5 * 0.3 + 2.0 * 0.02 / 0.25)
    assert [step for step in range(60) if strategy.due(step)] == [20, 30]


# --- training -------------------------------------------------------------------------------------------------------


def settings(steps=24, **changes):
    events = McmcSettings(start=4, stop=22, every=5, limit=15_500, growth=1.02, min_opacity=0.4)
    small = replace(preset("monocular", steps=steps, strategy="mcmc"), splats=15_200, tensorboard=False)
    return replace(small, mcmc=events, checkpoint_every=10, sh_degree=1, sh_every=8, **changes)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_resumed_run_ends_at_the_same_avatar_to_the_bit(clip, head, tmp_path):
    whole = train(clip, tmp_path / "whole", settings(), head=head)
    train(clip, tmp_path / "parts", settings(), head=head, control=lambda step, task: step == 13)
    resumed = train(clip, tmp_path / "parts", settings(), head=head)
    assert whole.count == 15_500
    assert torch.bincount(whole.binding, minlength=len(head.faces)).min() >= 1
    assert same(whole, resumed)
    assert torch.equal(whole.motion.params.expression, resumed.motion.params.expression)
    assert not same(whole, train(clip, tmp_path / "other", settings(seed=1), head=head))


def test_training_improves_what_is_drawn_while_gaussians_move_and_grow(clip, head, tmp_path):
    events = McmcSettings(start=10, stop=55, every=5, limit=16_000, growth=1.01)
    plain = replace(preset("paper", steps=60, strategy="mcmc"), tensorboard=False, mcmc=events)
    avatar = train(clip, tmp_path, plain, head=head)
    loss = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert loss[-1] < 0.5 * loss[0]
    assert avatar.count == 16_000
    assert torch.bincount(avatar.binding, minlength=len(head.faces)).min() >= 1
    assert all(value.isfinite().all() for value in avatar.state_dict().values())


def test_a_run_is_not_resumed_with_another_strategy(photo, head, tmp_path):
    small = replace(preset("photo", steps=2, strategy="mcmc"), splats=15_500, tensorboard=False, checkpoint_every=1)
    for one, other in (("mcmc", "default"), ("default", "mcmc")):
        train(photo, tmp_path / one, replace(small, strategy=one), head=head)
        with pytest.raises(VultusError, match="choose"):
            train(photo, tmp_path / one, replace(small, strategy=other, steps=3), head=head)


def test_presets_move_the_events_with_the_number_of_steps():
    short = preset("paper", steps=6000, strategy="mcmc")
    assert short.strategy == "mcmc"
    assert (short.mcmc.start, short.mcmc.stop, short.mcmc.every) == (100, 5000, 20)
    assert preset("photo").strategy == "default"
