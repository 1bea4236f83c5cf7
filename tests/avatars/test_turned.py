"""The prior on skin seen from the side."""

import math

import pytest
import torch

from vultus.avatars.rigged.parts import vertex_parts
from vultus.avatars.rigged.turned import TurnedViews


@pytest.fixture(scope="module")
def avatar(make_subject):
    return make_subject()


@pytest.fixture(scope="module")
def parts(head, avatar):
    weights = vertex_parts(head).weights
    of_splats = {name: weight[head.faces[avatar.binding]].mean(-1) for name, weight in weights.items()}
    return of_splats["skin"], of_splats["hair"]


@pytest.fixture(scope="module")
def poses(avatar):
    turned = avatar.rest.map(lambda tensor: tensor.clone())
    turned.joints["root"] = torch.tensor([0.1, 0.4, 0.0])
    return [avatar.rest, turned, avatar.rest, turned]


def test_the_initial_avatar_has_no_loss_and_a_speckled_one_has(avatar, parts, poses, make_subject):
    skin, hair = parts
    views = TurnedViews(avatar, skin, poses)
    assert [float(views.loss(avatar, index).detach()) for index in range(5)] == [0.0] * 5

    def loss_with(chosen):
        changed = make_subject()
        with torch.no_grad():
            changed.sh0[chosen] += 1.0
        return float(views.loss(changed, 0).detach())

    every_fifth = torch.arange(avatar.count) % 5 == 0
    speckled = loss_with((skin > 0.9) & every_fifth)
    assert speckled > 0.02
    assert loss_with((hair > 0.9) & (skin == 0) & every_fifth) < 0.1 * speckled


def test_its_gradient_takes_specks_away(avatar, parts, poses, make_subject):
    views = TurnedViews(avatar, parts[0], poses)
    changed = make_subject()
    with torch.no_grad():
        changed.sh0[::5] += 1.0
    before = views.loss(changed, 1)
    before.backward()
    assert torch.isfinite(changed.sh0.grad).all()
    with torch.no_grad():
        changed.sh0 -= 0.2 * changed.sh0.grad / changed.sh0.grad.abs().amax()
        assert float(views.loss(changed, 1)) < float(before)


def test_cameras_look_from_both_sides_wherever_the_head_turns(avatar, parts, poses, head):
    views = TurnedViews(avatar, parts[0], poses)
    yaws = []
    for pose, camera in zip(poses, views._cameras, strict=True):
        out_of_face = head.head_to_world(pose)[:3, :3].T
        toward = out_of_face @ (camera.center - avatar.vertices(pose).mean(0))
        yaws.append(math.degrees(math.atan2(float(toward[0]), float(toward[2]))))
    assert all(31 < abs(yaw) < 63 for yaw in yaws)
    assert {yaw > 0 for yaw in yaws} == {True, False}
