"""Invariants of densification: what may never happen to a triangle, whatever is asked for."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vultus.avatars.rigged.densify import (
    DensifySettings,
    Statistics,
    plan_densification,
    removable,
    replace_parameter,
)

FACES = 6


def scene(seed, count=40):
    generator = torch.Generator().manual_seed(seed)
    binding = torch.cat([torch.arange(FACES), torch.randint(0, FACES, (count - FACES,), generator=generator)])
    return generator, binding, torch.randn(count, 3, generator=generator), torch.randn(count, 3, generator=generator)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_no_triangle_ever_loses_its_last_gaussian(seed, share):
    generator, binding, _, _ = scene(seed)
    requested = torch.rand(len(binding), generator=generator) < share
    applied = removable(requested, binding, FACES)
    assert not (applied & ~requested).any()
    left = torch.bincount(binding[~applied], minlength=FACES)
    assert (left >= 1).all()
    # Either all that was asked for on a triangle goes, or none of it.
    for face in range(FACES):
        on = binding == face
        assert applied[on].sum() in (0, requested[on].sum())


@given(st.integers(0, 10_000), st.booleans())
def test_densification_keeps_every_triangle_and_the_order(seed, prune_large):
    generator, binding, means, log_scales = scene(seed)
    count = len(binding)
    statistics = Statistics(*(torch.rand(count, generator=generator) * size for size in (0.001, 3.0, 40.0)))
    opacities = torch.rand(count, generator=generator) * 0.02
    plan = plan_densification(
        means,
        log_scales,
        torch.eye(3).expand(count, 3, 3),
        opacities,
        torch.full((count, 1), 0.03),
        statistics,
        1.0,
        DensifySettings(),
        binding=binding,
        face_count=FACES,
        prune_large=prune_large,
        generator=generator,
    )
    assert (torch.bincount(binding[plan.source], minlength=FACES) >= 1).all()
    kept = plan.source[~plan.fresh]
    assert (kept[1:] > kept[:-1]).all()
    assert torch.equal(plan.means[~plan.fresh], means[kept])
    assert torch.equal(plan.log_scales[~plan.fresh], log_scales[kept])
    assert plan.means.isfinite().all()


@given(st.integers(0, 10_000), st.integers(40, 60))
def test_the_limit_holds(seed, limit):
    generator, binding, means, log_scales = scene(seed)
    statistics = Statistics(torch.rand(40, generator=generator), torch.ones(40), torch.zeros(40))
    plan = plan_densification(
        means,
        log_scales - 5,
        torch.eye(3).expand(40, 3, 3),
        torch.ones(40),
        torch.ones(40, 1),
        statistics,
        1.0,
        DensifySettings(limit=limit, small=0.02),
        binding=binding,
        face_count=FACES,
        generator=generator,
    )
    assert len(plan.source) <= limit


def test_a_split_halves_a_gaussian_near_its_parent():
    statistics = Statistics(torch.ones(1), torch.ones(1), torch.zeros(1))
    plan = plan_densification(
        torch.zeros(1, 3),
        torch.zeros(1, 3),
        torch.eye(3)[None],
        torch.ones(1),
        torch.ones(1, 1),
        statistics,
        1.0,
        DensifySettings(),
        binding=None,
        noise=torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]]),
    )
    assert plan.source.tolist() == [0, 0]
    assert plan.fresh.all()
    torch.testing.assert_close(plan.means, torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]]))
    torch.testing.assert_close(plan.log_scales.exp(), torch.full((2, 3), 1 / 1.6))


def test_moments_follow_their_rows():
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(3, 2))
    optimizer = torch.optim.Adam([{"params": [parameter], "name": "p"}])
    parameter.grad = torch.ones(3, 2)
    optimizer.step()
    before = optimizer.state[parameter]["exp_avg"].clone()
    source, fresh = torch.tensor([2, 0, 0]), torch.tensor([False, False, True])
    new = replace_parameter(optimizer, parameter, parameter.detach()[source], source, fresh)
    assert optimizer.param_groups[0]["params"] == [new]
    expected = before[source] * torch.tensor([[1.0], [1.0], [0.0]])
    assert torch.equal(optimizer.state[new]["exp_avg"], expected)
    assert optimizer.state[new]["step"] == 1
    assert parameter not in optimizer.state
