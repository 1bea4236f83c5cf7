"""Colours that depend on the direction and turn with the head: harmonics in the frames of triangles."""

from dataclasses import replace

import pytest
import torch

from vultus import avatars
from vultus.avatars.rigged.model import RiggedAvatar
from vultus.errors import VultusError

WHITE = torch.ones(3)


def colorful(avatar, degree, sh_frame):
    """The avatar with random coefficients above degree 0."""
    generator = torch.Generator().manual_seed(5)
    rest = 0.3 * torch.randn(avatar.count, (degree + 1) ** 2 - 1, 3, generator=generator)
    return RiggedAvatar(
        avatar.head, avatar.rest, avatar.view, replace(avatar.splats(), sh_rest=rest), sh_frame=sh_frame
    )


def turned(avatar, angle):
    params = avatar.rest.map(lambda tensor: tensor.clone())
    params.joints["root"] = torch.tensor([0.1, angle, -0.05])
    return params


def difference(avatar, angle):
    """Of the picture of a turned head by a camera carried along, and that of the head at rest."""
    params = turned(avatar, angle)
    a, b = (avatar.vertices(each)[:3] for each in (avatar.rest, params))
    frame = [torch.stack([v[1] - v[0], v[2] - v[0], torch.linalg.cross(v[1] - v[0], v[2] - v[0])], -1) for v in (a, b)]
    moved = torch.eye(4)
    moved[:3, :3] = frame[1] @ torch.linalg.inv(frame[0])
    moved[:3, 3] = b[0] - moved[:3, :3] @ a[0]
    with torch.no_grad():
        before = avatar.render(avatar.rest, avatar.view, background=WHITE).color
        after = avatar.render(params, avatar.view.moved(moved), background=WHITE).color
    return (after - before).abs().mean()


def test_they_stay_when_head_and_camera_turn_together(make_subject):
    avatar = make_subject()
    own, worlds = (float(difference(colorful(avatar, 1, frame), 0.5)) for frame in ("triangle", "world"))
    assert own < 2e-3
    assert worlds > 5 * own


def test_they_are_kept_in_the_folder(make_subject, head, tmp_path):
    avatar = colorful(make_subject(), 1, "triangle")
    avatar.save(tmp_path / "avatar")
    loaded = avatars.load(tmp_path / "avatar", head=head)
    params = turned(avatar, 0.4)
    with torch.no_grad():
        one, two = (each.render(params, each.view, background=WHITE).color for each in (avatar, loaded))
    assert torch.equal(one, two)


def test_poses_come_in_batches(make_subject):
    avatar = colorful(make_subject(), 1, "triangle")
    params = avatar.rest.map(lambda tensor: tensor.expand(2, *tensor.shape).clone())
    params.joints["root"] = torch.tensor([[0.0, 0.3, 0.0], [0.0, -0.3, 0.0]])
    both = avatar.gaussians(params)
    for index in range(2):
        alone = avatar.gaussians(params[index])
        assert torch.allclose(both.sh[index], alone.sh, atol=1e-6)


def test_higher_degrees_do_not_turn_with_triangles(make_subject):
    with pytest.raises(VultusError, match="degree 0 or 1"):
        colorful(make_subject(), 2, "triangle")
