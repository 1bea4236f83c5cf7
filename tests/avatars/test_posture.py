"""How the bust follows the head: registration of pictures, the law, and the mesh it moves."""

from __future__ import annotations

from dataclasses import replace

import torch

from vultus.avatars.rigged.posture import bust_motion, bust_share, learn_posture
from vultus.cameras import Camera
from vultus.heads.builtin import load_builtin
from vultus.images.masks import soften
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix


def _camera() -> Camera:
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 1.2
    return Camera.from_focal(600.0, 256, 256, pose)


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
    posture = learn_posture(head, params, head.neutral(), camera, warps, 0)
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
    posture = learn_posture(head, params, head.neutral(), camera, _warps(params, camera), 0)
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
    posture = learn_posture(head, params, head.neutral(), camera, _warps(params, camera), 0)
    share = bust_share(head)
    far = replace(params[0], translation=torch.tensor([5.0, 0.0, 0.0]))
    moved = posture.carry(share, far, head.pose(far).vertices) - head.pose(far).vertices
    assert float(moved.norm(dim=-1).max()) < 0.1


def test_registration_finds_an_affine_motion() -> None:
    random = torch.Generator().manual_seed(0)
    picture = soften(torch.rand(300, 300, 3, generator=random), 4.0)
    picture = (picture - 0.5) * 6 + 0.5
    y, x = torch.meshgrid(torch.arange(300) + 0.5, torch.arange(300) + 0.5, indexing="ij")
    truth = []
    pictures = []
    for step in range(5):
        linear = torch.tensor([[1 + 0.01 * step, -0.015 * step], [0.012 * step, 1 - 0.01 * step]])
        shift = torch.tensor([2.0, -1.5]) * step
        warp = torch.cat([linear, (150 + shift - linear @ torch.tensor([150.0, 150.0]))[:, None]], -1)
        # The picture at warp(x) shows what the first shows at x.
        back = torch.linalg.inv(linear)
        source = (torch.stack([x, y], -1) - warp[:, 2]) @ back.T
        grid = 2 * source / 300 - 1
        shown = torch.nn.functional.grid_sample(picture.permute(2, 0, 1)[None], grid[None], align_corners=False)
        pictures.append(shown[0].permute(1, 2, 0))
        truth.append(warp)
    region = torch.zeros(300, 300, 1)
    region[80:220, 60:240] = 1
    found = bust_motion(lambda index: pictures[index], 5, 0, region)
    corners = torch.tensor([[60.0, 80.0], [240.0, 80.0], [60.0, 220.0], [240.0, 220.0]])
    for warp, expected in zip(found, truth, strict=True):
        got, want = (corners @ matrix[:, :2].T + matrix[:, 2] for matrix in (warp, expected))
        assert float((got - want).abs().max()) < 0.3
