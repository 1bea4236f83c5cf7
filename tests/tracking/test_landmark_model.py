"""The landmark model equals the head model's own landmarks, and its derivatives equal automatic differentiation."""

from __future__ import annotations

import torch

from vultus.heads import SkinnedHead
from vultus.tracking.landmark_model import LandmarkModel


def _parameters(head: SkinnedHead, count: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    identity = torch.randn(len(head.identity_names), generator=generator, dtype=torch.float64)
    expression = torch.rand(count, len(head.expression_names), generator=generator, dtype=torch.float64)
    angles = 0.4 * torch.randn(count, 5, 3, generator=generator, dtype=torch.float64)
    translation = 0.1 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return identity, expression, angles, translation


def _joints(head: SkinnedHead, angles: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: angles[:, i] for i, name in enumerate(head.joint_names)}


def test_points_equal_those_of_the_posed_mesh(toy_head: SkinnedHead) -> None:
    identity, expression, angles, translation = _parameters(toy_head)
    model = LandmarkModel.of(toy_head, toy_head.landmark_sets["ibug68"])
    points = model.evaluate(identity, expression, _joints(toy_head, angles), translation).points
    from dataclasses import replace

    params = replace(
        toy_head.neutral(3),
        identity=identity.expand(3, -1).float(),
        expression=expression.float(),
        joints={name: value.float() for name, value in _joints(toy_head, angles).items()},
        translation=translation.float(),
    )
    expected = toy_head.landmarks(toy_head.pose(params).vertices, "ibug68")
    torch.testing.assert_close(points.float(), expected, atol=2e-6, rtol=0)


def test_derivatives_equal_automatic_differentiation(toy_head: SkinnedHead) -> None:
    identity, expression, angles, translation = _parameters(toy_head, 1)
    model = LandmarkModel.of(toy_head, toy_head.landmark_sets["ibug68"])
    state = model.evaluate(identity, expression, _joints(toy_head, angles), translation)

    def points(s: torch.Tensor, e: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return model.evaluate(s, e, _joints(toy_head, a), translation).points[0]

    by_identity, by_expression, by_angles = torch.autograd.functional.jacobian(points, (identity, expression, angles))
    identity_map = torch.eye(3, dtype=torch.float64).expand(1, 68, 3, 3)
    torch.testing.assert_close(state.identity_derivative(identity_map)[0], by_identity, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(
        state.expression_derivative(identity_map)[0], by_expression[:, :, 0], atol=1e-9, rtol=1e-7
    )
    for joint in range(5):
        derivative = state.joint_derivative(joint, angles[:, joint])[0]
        torch.testing.assert_close(derivative, by_angles[:, :, 0, joint], atol=1e-9, rtol=1e-7)


def test_shapes_of_ones_own_move_points_as_the_rest_head_is_moved(toy_head: SkinnedHead) -> None:
    identity, expression, angles, translation = _parameters(toy_head, 2)
    model = LandmarkModel.of(toy_head, toy_head.landmark_sets["ibug68"])
    joints = _joints(toy_head, angles)
    shapes = 0.01 * torch.randn(68, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    amounts = torch.tensor([0.7, -0.4], dtype=torch.float64)
    moved = model.moved(shapes @ amounts).evaluate(identity, expression, joints, translation)
    extended = model.with_shapes(shapes)
    shaped = extended.evaluate(torch.cat([identity, amounts]), expression, joints, translation)
    torch.testing.assert_close(shaped.points, moved.points)
    plain = model.evaluate(identity, expression, joints, translation)
    assert float((shaped.points - plain.points).norm(dim=-1).min()) > 1e-5
    everything = torch.eye(3, dtype=torch.float64).expand(2, 68, 3, 3)
    torch.testing.assert_close(
        (shaped.identity_derivative(everything)[..., -2:] @ amounts), shaped.points - plain.points
    )


def test_no_kink_where_a_corrective_starts(builtin: SkinnedHead) -> None:
    model = LandmarkModel.of(builtin, builtin.landmark_sets["ibug68"])
    blink = int(model.corrective_drivers[0])

    def points(amount: float) -> torch.Tensor:
        expression = torch.zeros(1, model.expression_count, dtype=torch.float64)
        expression[0, blink] = amount
        nothing = torch.zeros(1, 3, dtype=torch.float64)
        return model.evaluate(torch.zeros(model.identity_count, dtype=torch.float64), expression, {}, nothing).points

    before, after = points(0.0) - points(-1e-4), points(1e-4) - points(0.0)
    torch.testing.assert_close(before, after, atol=1e-8, rtol=0)
