"""How the bust follows head and body: the law, and the mesh it moves."""

from __future__ import annotations

from dataclasses import replace

import torch

from vultus.avatars.rigged.posture import learn_posture
from vultus.cameras import Camera
from vultus.heads.builtin import load_builtin
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix
from vultus.tracking.neck import turn_neck
from vultus.tracking.torso import bust_share


def _camera() -> Camera:
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 1.2
    return Camera.from_focal(600.0, 256, 256, pose)


def _bust() -> torch.Tensor:
    return (bust_share(load_builtin()) > 0.9).nonzero()[:, 0]


def _poses(count: int = 60) -> HeadParams:
    head = load_builtin()
    random = torch.Generator().manual_seed(1)
    neutral = head.neutral(count)
    neck = 0.15 * torch.randn(count, 3, generator=random)
    translation = 0.01 * torch.randn(count, 3, generator=random)
    neck[0], translation[0] = 0, 0
    return replace(neutral, joints={**neutral.joints, "neck": neck}, translation=translation)


def _warps(params: HeadParams, camera: Camera) -> torch.Tensor:
    """A bust that follows the head by 40 %, leans with the neck's roll and narrows with its yaw."""
    head = load_builtin()
    bust = bust_share(head) > 0.9
    middle = head.template[bust].mean(0)
    moved = camera.project(middle + 0.4 * params.translation) - camera.project(middle[None])
    roll, narrow = 0.3 * params.joint("neck")[:, 2], 1 - 0.1 * params.joint("neck")[:, 1]
    linear = torch.stack([narrow, -roll, roll, torch.ones_like(roll)], -1).unflatten(-1, (2, 2))
    place = camera.project(middle[None])[0]
    return torch.cat([linear, (place + moved - linear @ place)[..., None]], -1)


def test_the_law_is_found_and_carries_the_bust_where_the_pictures_show_it() -> None:
    head, camera, params = load_builtin(), _camera(), _poses()
    warps = _warps(params, camera)
    posture = learn_posture(head, params, head.neutral(), camera, warps, 0, _bust())
    share = bust_share(head)
    bust = share > 0.9
    vertices = head.pose(params).vertices
    carried = posture.carry(share, params, vertices)
    start = camera.project(vertices[0, bust])
    wanted = start @ warps[:, :, :2].transpose(1, 2) + warps[:, None, :, 2]
    before = (camera.project(vertices[:, bust]) - wanted).norm(dim=-1).mean()
    after = (camera.project(carried[:, bust]) - wanted).norm(dim=-1).mean()
    assert after < 0.15 * before
    assert torch.equal(carried[:, share == 0], vertices[:, share == 0])


def test_turning_the_whole_person_turns_the_bust_along() -> None:
    head, camera, params = load_builtin(), _camera(), _poses()
    posture = learn_posture(head, params, head.neutral(), camera, _warps(params, camera), 0, _bust())
    share = bust_share(head)
    pose = params[3]
    root = torch.tensor([0.1, 0.4, -0.2])
    turn = axis_angle_to_matrix(root)
    # The same pose of neck and head over the shoulders, all turned about the root joint at home.
    turned = replace(pose, joints={**pose.joints, "root": root}, translation=turn @ pose.translation)
    change = posture.carry(share, pose, head.pose(pose).vertices) - head.pose(pose).vertices
    there = posture.carry(share, turned, head.pose(turned).vertices) - head.pose(turned).vertices
    assert torch.allclose(there, change @ turn.T, atol=2e-4)


def test_far_beyond_what_was_learnt_the_bust_stays_with_the_head() -> None:
    head, camera, params = load_builtin(), _camera(), _poses()
    posture = learn_posture(head, params, head.neutral(), camera, _warps(params, camera), 0, _bust())
    share = bust_share(head)
    far = replace(params[0], translation=torch.tensor([5.0, 0.0, 0.0]))
    moved = posture.carry(share, far, head.pose(far).vertices) - head.pose(far).vertices
    assert float(moved.norm(dim=-1).max()) < 0.1


def test_a_body_that_turns_by_itself_is_followed() -> None:
    head, camera, params = load_builtin(), _camera(), _poses(120)
    random = torch.Generator().manual_seed(7)
    body = 0.02 * torch.randn(120, 3, generator=random)
    body[0] = 0
    turned = turn_neck(head, params, body)
    share = bust_share(head)
    bust = share > 0.9
    # What no pose of the head tells: the bust goes where the body turns, ten times as far as a rotation brings it.
    place = camera.project(head.pose(params).vertices[:, bust].mean(1))
    linear = torch.eye(2).repeat(120, 1, 1)
    linear[:, 0, 1], linear[:, 1, 0] = -body[:, 2], body[:, 2]
    shift = 100 * body[:, [1, 0]]
    warps = torch.cat([linear, (place + shift - (linear @ place[0]))[..., None]], -1)
    start = camera.project(head.pose(params[0]).vertices[bust])
    wanted = start @ warps[:, :, :2].transpose(1, 2) + warps[:, None, :, 2]

    def off(poses: HeadParams) -> float:
        posture = learn_posture(head, poses, head.neutral(), camera, warps, 0, _bust())
        carried = posture.carry(share, poses, head.pose(poses).vertices)
        return float((camera.project(carried[:, bust]) - wanted).norm(dim=-1).mean())

    assert off(turned) < 0.3 * off(params)
