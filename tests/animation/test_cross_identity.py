"""Cross-identity reenactment: what the paper copies, and what the default keeps instead, by property."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vultus.animation import Retargeting, Sight, retarget_motion
from vultus.animation.builtin_motions import talking
from vultus.cameras import Camera, look_at
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin
from vultus.heads.model import SkinnedHead
from vultus.motion import HeadParams, Motion
from vultus.rotations import axis_angle_to_matrix


def before(distance: float) -> Sight:
    """A camera in front of the face that looks straight at it."""
    return Sight(torch.tensor([0.0, 0.0, distance]), torch.tensor([0.0, 0.0, -1.0]))


PAPER = Retargeting(mode="paper")


@pytest.fixture(scope="module")
def head() -> SkinnedHead:
    return load_builtin()


def person(head: SkinnedHead, seed: int) -> HeadParams:
    """Somebody with a face, a resting expression and a resting pose of their own."""
    generator = torch.Generator().manual_seed(seed)
    rest = head.neutral()
    return replace(
        rest,
        identity=0.5 * torch.randn(rest.identity.shape, generator=generator),
        expression=0.2 * torch.rand(rest.expression.shape, generator=generator),
        joints={name: 0.1 * torch.randn(3, generator=generator) for name in rest.joints},
        translation=0.02 * torch.randn(3, generator=generator),
    )


def acted(head: SkinnedHead, actor: HeadParams) -> Motion:
    """The actor speaks, leans to the camera and back, and to the side."""
    spoken = talking(head, seconds=0.8)
    moved = retarget_motion(spoken, head, actor)
    time = moved.times
    sway = torch.stack([0.03 * torch.sin(3 * time), 0.01 * time, 0.15 * torch.sin(5 * time)], -1)
    return replace(moved, params=replace(moved.params, translation=moved.params.translation + sway), neutral=actor)


def test_the_paper_copies_everything_but_the_person(head: SkinnedHead) -> None:
    actor, other = person(head, 1), person(head, 2)
    motion = acted(head, actor)
    copied = retarget_motion(motion, head, other, PAPER).params
    assert torch.equal(copied.expression, motion.params.expression)
    assert torch.equal(copied.translation, motion.params.translation)
    for name in motion.params.joints:
        assert torch.equal(copied.joint(name), motion.params.joint(name))
    assert torch.equal(copied.identity, other.identity)
    # Exaggeration is no part of it, smoothing is.
    strong = retarget_motion(motion, head, other, replace(PAPER, expression_gain=3.0)).params
    assert torch.equal(strong.expression, copied.expression)
    calm = retarget_motion(motion, head, other, replace(PAPER, smoothing=0.1)).params
    assert not torch.equal(calm.expression, copied.expression)


def test_the_default_keeps_the_avatars_own_face_at_rest(head: SkinnedHead) -> None:
    """The paper's way puts the actor's resting expression on the avatar's face; the default does not."""
    actor, other = person(head, 3), person(head, 4)
    still = acted(head, actor)[:3]
    still = replace(still, params=actor.map(lambda tensor: tensor.expand(3, *tensor.shape)))
    kept = retarget_motion(still, head, other).params
    torch.testing.assert_close(kept.expression, other.expression.expand(3, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(kept.translation, other.translation.expand(3, 3), atol=1e-6, rtol=0)
    for name in kept.joints:
        torch.testing.assert_close(
            axis_angle_to_matrix(kept.joint(name)),
            axis_angle_to_matrix(other.joint(name)).expand(3, 3, 3),
            atol=1e-5,
            rtol=0,
        )
    leaked = retarget_motion(still, head, other, PAPER).params
    assert float((leaked.expression - other.expression).abs().max()) > 0.05


@settings(max_examples=8)
@given(seed=st.integers(5, 40))
def test_oneself_is_carried_over_unchanged_by_both(seed: int) -> None:
    head = load_builtin()
    actor = person(head, seed)
    motion = acted(head, actor)
    for options in (PAPER, Retargeting()):
        moved = retarget_motion(motion, head, actor, options, source_sight=before(1.0), target_sight=before(1.0)).params
        torch.testing.assert_close(moved.expression, motion.params.expression, atol=1e-5, rtol=0)
        torch.testing.assert_close(moved.translation, motion.params.translation, atol=1e-5, rtol=0)


def seen_from(head: SkinnedHead, motion: Motion, eye: torch.Tensor, focal: float) -> torch.Tensor:
    """Pixels between the outer eye corners over time."""
    target = eye - torch.tensor([0.0, 0.0, 1.0])
    camera = Camera.from_focal(focal, 512, 512, look_at(eye, target))
    corners = head.landmarks(head.pose(motion.params).vertices, "ibug68")[:, [36, 45]]
    points = camera.project(corners)
    return (points[:, 0] - points[:, 1]).norm(dim=-1)


def test_the_head_grows_in_the_picture_as_the_drivers_does(head: SkinnedHead) -> None:
    """From half a metre a lean forward shows more than from three; the avatar's own camera is what it is shown by."""
    actor, other = person(head, 6), person(head, 7)
    motion = acted(head, actor)
    still = {name: actor.joint(name).expand(len(motion), 3) for name in motion.params.joints}
    neutral_face = actor.expression.expand(len(motion), -1)
    motion = replace(motion, params=replace(motion.params, joints=still, expression=neutral_face))
    near, far = before(0.6), before(2.0)
    moved = retarget_motion(motion, head, other, source_sight=near, target_sight=far)
    plain = retarget_motion(motion, head, other)
    first = seen_from(head, motion, near.eye, 600.0)
    growth = first / first[0]
    sizes, without = seen_from(head, moved, far.eye, 2000.0), seen_from(head, plain, far.eye, 2000.0)
    assert float(growth.max() / growth.min()) > 1.4
    assert float((sizes / sizes[0] / growth - 1).abs().max()) < 0.03
    assert float((without / without[0] / growth - 1).abs().max()) > 0.15
    # Sideways nothing changes.
    torch.testing.assert_close(moved.params.translation[:, :2], plain.params.translation[:, :2])


@settings(max_examples=8)
@given(error=st.floats(0.4, 2.5))
def test_a_wrong_focal_length_of_the_driver_falls_out(error: float) -> None:
    """A tracker that takes the focal length too long sees everything farther away: distances and lean stretch alike."""
    head = load_builtin()
    actor, other = person(head, 8), person(head, 9)
    motion = acted(head, actor)
    # The head stands where it does, the camera is moved back, and movement along the view is as many times as long.
    away = 0.8 - float(head.pose(actor).vertices.mean(0)[2])
    stretched = motion.params.translation.clone()
    stretched[:, 2] = actor.translation[2] + error * (stretched[:, 2] - actor.translation[2])
    wrong = replace(motion, params=replace(motion.params, translation=stretched))

    def carried(source: Motion, distance: float) -> torch.Tensor:
        moved = retarget_motion(source, head, other, source_sight=before(distance), target_sight=before(1.1))
        return moved.params.translation

    torch.testing.assert_close(carried(wrong, 0.8 + (error - 1) * away), carried(motion, 0.8), atol=1e-4, rtol=0)


def test_cameras_that_cannot_be_believed_do_not_count(head: SkinnedHead) -> None:
    actor, other = person(head, 10), person(head, 11)
    motion = acted(head, actor)
    plain = retarget_motion(motion, head, other).params.translation
    behind, inside, far = before(-1.0), before(0.02), before(1e4)
    for source, target in ((inside, far), (far, far), (behind, before(1.0)), (before(1.0), far)):
        moved = retarget_motion(motion, head, other, source_sight=source, target_sight=target).params.translation
        assert torch.equal(moved, plain)


def test_the_neutral_can_be_an_instant(head: SkinnedHead) -> None:
    actor, other = person(head, 12), person(head, 13)
    motion = acted(head, actor)
    motion = replace(motion, valid=torch.arange(len(motion)) != 10)
    moved = retarget_motion(motion, head, other, Retargeting(neutral_at=float(motion.times[5]))).params
    torch.testing.assert_close(moved.expression[5], other.expression, atol=1e-6, rtol=0)
    # An instant at which no face was found is no neutral: the nearest other one is.
    moved = retarget_motion(motion, head, other, Retargeting(neutral_at=float(motion.times[10]))).params
    equal = [i for i in (9, 11) if torch.allclose(moved.expression[i], other.expression, atol=1e-6)]
    assert equal
    with pytest.raises(VultusError, match="no instant at 99 s"):
        retarget_motion(motion, head, other, Retargeting(neutral_at=99.0))
