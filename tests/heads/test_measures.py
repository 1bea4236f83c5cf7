"""A head's height is of the person, not of the pose."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from vultus.heads.builtin import load_builtin
from vultus.heads.measures import head_height


@pytest.fixture(scope="module")
def head():
    return load_builtin()


def test_the_mean_head_is_as_high_as_people_are(head):
    assert 0.2 < head_height(head, head.neutral()) < 0.25


def test_scale_and_hair_count_and_joints_do_not(head):
    params = head.neutral()
    height = head_height(head, params)
    joints = {**params.joints, "jaw": torch.tensor([0.4, 0.0, 0.0]), "neck": torch.tensor([0.3, 0.5, 0.0])}
    assert head_height(head, replace(params, joints=joints)) == height
    assert head_height(head, replace(params, scale=torch.tensor(1.5))) == pytest.approx(1.5 * height)
    offset = torch.zeros_like(head.template)
    offset[head.template[:, 1].argmax(), 1] = 0.03
    assert head_height(head, replace(params, offset=offset)) == pytest.approx(height + 0.03)


def test_a_model_without_landmarks_is_measured_by_its_face(head):
    bare = SimpleNamespace(landmark_sets={}, regions=head.regions, pose=head.pose)
    assert head_height(bare, head.neutral()) == pytest.approx(head_height(head, head.neutral()), rel=0.05)
