"""Built-in motions, retargeting, smoothing, mirroring, camera paths, and playing them."""

from dataclasses import replace

import pytest
import torch
from synthetic_avatar import synthetic_avatar

from vultus.animation import (
    BUILTIN_DRIVERS,
    Retargeting,
    load_driver,
    mirror,
    orbit,
    play,
    retarget_motion,
    smooth,
    still,
    swing,
)
from vultus.animation.builtin_motions import EXPRESSIONS, expressions, talking, turn
from vultus.animation.paths import head_center, yaw_to_front
from vultus.avatars import Rendering
from vultus.avatars.rigged import RiggedAvatar
from vultus.errors import VultusError
from vultus.heads.arkit import arkit_to_params
from vultus.heads.builtin import load_builtin
from vultus.heads.model import SkinnedHead
from vultus.motion import Motion
from vultus.rotations import axis_angle_to_matrix


@pytest.fixture(scope="module")
def head() -> SkinnedHead:
    return load_builtin()


@pytest.fixture(scope="module")
def avatar() -> RiggedAvatar:
    return synthetic_avatar(size=48, identity_seed=1)


def column(head: SkinnedHead, motion: Motion, name: str) -> torch.Tensor:
    return motion.params.expression[:, head.expression_names.index(name)]


@pytest.mark.parametrize("name", list(BUILTIN_DRIVERS))
def test_builtin_motions_are_smooth_bounded_and_repeatable(head: SkinnedHead, name: str) -> None:
    first, second = (load_driver(f"builtin:{name}", head) for _ in range(2))
    motion = first.motion
    assert (motion.fps, first.sha256, first.capture) == (pytest.approx(25.0), None, None)
    assert torch.equal(motion.params.expression, second.motion.params.expression)
    assert float(motion.params.expression.min()) >= 0
    assert float(motion.params.expression.max()) <= 1
    for joint in ("neck", "root"):
        turned = axis_angle_to_matrix(motion.params.joints[joint])
        step = (turned[1:] @ turned[:-1].transpose(-1, -2)).diagonal(dim1=-2, dim2=-1).sum(-1)
        assert float(torch.acos(((step - 1) / 2).clamp(-1, 1)).max()) < 0.12
    # Begins and ends near rest.
    for row in (0, -1):
        assert float(motion.params.expression[row].abs().max()) < 0.2


def test_talking_looks_alive(head: SkinnedHead) -> None:
    motion = talking(head, seconds=20, seed=5)
    jaw = motion.params.joints["jaw"][:, 0]
    assert 0.12 < float(jaw.max()) < 0.4
    crossings = int(((jaw[1:] > jaw.mean()) != (jaw[:-1] > jaw.mean())).sum())
    assert 30 < crossings < 250  # two to six syllables a second
    blink = column(head, motion, "eyeBlinkLeft")
    assert torch.equal(blink, column(head, motion, "eyeBlinkRight"))
    starts = int(((blink[1:] > 0.5) & (blink[:-1] <= 0.5)).sum())
    assert 4 <= starts <= 14
    assert float(motion.params.joints["neck"].abs().amax(0).min()) > 0.02
    assert not torch.equal(jaw, talking(head, seconds=20, seed=6).params.joints["jaw"][:, 0])


def test_turn_reaches_both_sides(head: SkinnedHead) -> None:
    motion = turn(head, degrees=45)
    total = axis_angle_to_matrix(motion.params.joints["root"]) @ axis_angle_to_matrix(motion.params.joints["neck"])
    yaw = torch.rad2deg(torch.atan2(total[:, 0, 2], total[:, 2, 2]))
    assert float(yaw.max()) == pytest.approx(45, abs=3)
    assert float(yaw.min()) == pytest.approx(-45, abs=3)


def test_the_tour_shows_every_expression(head: SkinnedHead) -> None:
    names = ["wink", "smirk"]
    motion = expressions(head, names=names, seconds_each=1.0)
    for i, name in enumerate(names):
        middle = motion.params.expression[i * 25 + 12]
        torch.testing.assert_close(middle, arkit_to_params(head, EXPRESSIONS[name]).expression, atol=0.02, rtol=0)


def test_unknown_drivers(head: SkinnedHead, tmp_path) -> None:
    with pytest.raises(VultusError, match="builtin:talking"):
        load_driver("builtin:dancing", head)
    with pytest.raises(VultusError, match="no such file"):
        load_driver(tmp_path / "absent.mp4", head)


def test_retargeting_is_relative_to_both_neutrals(head: SkinnedHead) -> None:
    motion = talking(head, seconds=1)
    target = replace(
        arkit_to_params(head, {"browInnerUp": 0.3, "eyeLookUpLeft": 0.2}),
        translation=torch.tensor([0.1, 0.2, 0.3]),
        identity=torch.randn(len(head.identity_names)) * 0.3,
    )
    same = retarget_motion(motion, head, head.neutral())
    torch.testing.assert_close(same.params.expression, motion.params.expression)
    torch.testing.assert_close(same.params.joints["neck"], motion.params.joints["neck"], atol=1e-5, rtol=0)
    moved = retarget_motion(motion, head, target)
    assert torch.equal(moved.params.identity, target.identity)
    assert moved.neutral is target
    extra = moved.params.expression - motion.params.expression
    torch.testing.assert_close(extra, target.expression.expand_as(extra), atol=1e-6, rtol=0)
    still_one = retarget_motion(motion, head, target, Retargeting(expression_gain=0.0))
    torch.testing.assert_close(still_one.params.expression, target.expression.expand(25, -1))
    strong = retarget_motion(motion, head, target, Retargeting(expression_gain=50.0))
    assert float(strong.params.expression.max()) <= 1


def test_translation_follows_the_size_of_the_head(head: SkinnedHead) -> None:
    motion = talking(head, seconds=1)
    path = torch.linspace(0, 0.1, 25)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    motion = replace(motion, params=replace(motion.params, translation=path))
    target = replace(head.neutral(), scale=torch.tensor(2.0))
    torch.testing.assert_close(retarget_motion(motion, head, target).params.translation, 2 * path)
    held = retarget_motion(motion, head, target, Retargeting(translation_gain=0.0))
    assert not held.params.translation.any()


def test_mirroring(head: SkinnedHead) -> None:
    """The mirrored motion's mesh is the mirror image of the motion's mesh."""
    params = replace(
        arkit_to_params(head, {"eyeBlinkLeft": 1.0, "mouthSmileRight": 0.7, "eyeLookOutLeft": 0.5, "jawOpen": 0.4}),
        translation=torch.tensor([0.02, 0.01, 0.0]),
    ).expand(1)
    params = replace(params, joints={**params.joints, "neck": torch.tensor([[0.1, 0.3, -0.2]])})
    motion = Motion(params, torch.zeros(1), head.neutral())
    image = mirror(motion, head)
    vertices = head.pose(motion.params).vertices[0]
    swapped = head.pose(image.params).vertices[0][head.attributes["mirror_vertices"].long()]
    torch.testing.assert_close(swapped * torch.tensor([-1.0, 1.0, 1.0]), vertices, atol=2e-5, rtol=0)
    twice = mirror(image, head)
    torch.testing.assert_close(twice.params.expression, motion.params.expression)


def test_heads_without_sides_cannot_be_mirrored(head: SkinnedHead) -> None:
    motion = talking(head, seconds=0.2)

    class Unnamed:
        name = "flame"
        expression_names = tuple(f"expression_{i:03d}" for i in range(43))

    with pytest.raises(VultusError, match="cannot be mirrored"):
        mirror(motion, Unnamed())  # type: ignore[arg-type]


def test_smoothing_removes_jitter_but_not_movement(head: SkinnedHead) -> None:
    generator = torch.Generator().manual_seed(0)
    motion = talking(head, seconds=4)
    slow = torch.sin(motion.times)[:, None] * torch.tensor([0.1, 0.6, 0.0])
    noisy = slow + 0.02 * torch.randn(100, 3, generator=generator)
    motion = replace(motion, params=replace(motion.params, joints={"root": noisy}, translation=noisy))
    result = smooth(motion, 0.12).params
    for value in (result.joints["root"], result.translation):
        assert float((value - slow)[10:-10].std()) < 0.45 * float((noisy - slow).std())
    assert smooth(motion, 0.0) is motion


def test_smoothing_respects_cuts_and_gaps(head: SkinnedHead) -> None:
    motion = talking(head, seconds=2)
    step = (torch.arange(50) >= 25).float()[:, None].expand(50, 3)
    valid = torch.ones(50, dtype=torch.bool)
    spoiled = step.clone()
    spoiled[10] = 99.0
    valid[10] = False
    motion = replace(
        motion,
        params=replace(motion.params, translation=spoiled),
        shots=(torch.arange(50) >= 25).long(),
        valid=valid,
    )
    torch.testing.assert_close(smooth(motion, 0.2).params.translation, step)


def test_camera_paths(avatar: RiggedAvatar) -> None:
    center = head_center(avatar.head, avatar.rest)
    view = avatar.view
    assert still(view, 7).batch_shape == (7,)
    around = orbit(view, center, torch.tensor([0.0, 0.5, -0.5]))
    torch.testing.assert_close(around.world_to_camera[0], view.world_to_camera, atol=1e-5, rtol=0)
    distance = (around.center - center).norm(dim=-1)
    torch.testing.assert_close(distance, distance[:1].expand(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        around.project(center[None]), view.project(center[None]).expand(3, 1, 2), atol=1e-2, rtol=0
    )
    assert float(around.center[1, 0]) > 0.2 > -0.2 > float(around.center[2, 0])  # positive yaw: the subject's left
    above = orbit(view, center, torch.tensor(0.0), 0.4)
    assert float(above.center[1]) > float(view.center[1]) + 0.1
    path = swing(view, center, 20, degrees=30)
    assert path.batch_shape == (20,)
    assert float(path.center[:, 0].max()) == pytest.approx(-float(path.center[:, 0].min()), abs=0.01)


def test_the_way_to_the_front(avatar: RiggedAvatar) -> None:
    center = head_center(avatar.head, avatar.rest)
    for yaw in (-1.0, 0.0, 0.7):
        aside = orbit(avatar.view, center, torch.tensor(yaw))
        assert yaw_to_front(aside, avatar.head, avatar.rest) == pytest.approx(-yaw, abs=1e-4)
    turned = replace(avatar.rest, joints={**avatar.rest.joints, "root": torch.tensor([0.0, 0.4, 0.0])})
    assert yaw_to_front(avatar.view, avatar.head, turned) == pytest.approx(0.4, abs=1e-4)


def test_play_hands_memory_on_and_keeps_gradients_alone(avatar: RiggedAvatar, head: SkinnedHead) -> None:
    motion = retarget_motion(talking(head, seconds=0.2), head, avatar.rest)
    seen = []

    class Remembering:
        head, native_background = avatar.head, None

        def render(self, params, camera, *, background=None, memory=None, generator=None) -> Rendering:
            seen.append((params.batch_shape, float(camera.center[0]), memory, torch.is_grad_enabled()))
            return Rendering(torch.zeros(2, 2, 3), torch.zeros(2, 2, 1), memory=(memory or 0) + 1)

    cameras = swing(avatar.view, torch.zeros(3), 5)
    for _ in play(Remembering(), motion, cameras):  # type: ignore[arg-type]
        assert torch.is_grad_enabled()
    assert [entry[2] for entry in seen] == [None, 1, 2, 3, 4]
    assert len({entry[1] for entry in seen}) > 2
    assert all(entry[0] == () and not entry[3] for entry in seen)


def test_playing_moves_the_picture(avatar: RiggedAvatar, head: SkinnedHead) -> None:
    motion = retarget_motion(expressions(head, names=["open"], seconds_each=1.0), head, avatar.rest)
    images = [rendering.color for rendering in play(avatar, motion[torch.tensor([0, 12])], avatar.view)]
    assert images[0].shape == (48, 48, 3)
    assert float(images[0][0, 0].min()) == pytest.approx(1.0)  # white where there is nothing
    assert float((images[0] - images[1]).abs().amax()) > 0.15


def test_play_refuses_what_does_not_fit(avatar: RiggedAvatar, head: SkinnedHead) -> None:
    motion = talking(head, seconds=0.2)
    foreign = replace(motion, params=replace(motion.params, model="0" * 64))
    with pytest.raises(VultusError, match="another head model"):
        play(avatar, foreign, avatar.view)
    with pytest.raises(VultusError, match="another head model"):
        retarget_motion(foreign, head, avatar.rest)
    with pytest.raises(ValueError, match="do not fit"):
        play(avatar, motion, still(avatar.view, 3))
