"""Motions carried from one head model to another."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flame_files import write_egg
from ict_files import ict_asset

from vultus.animation import convert_motion, load_driver
from vultus.animation.arkit_motion import arkit_motion
from vultus.animation.builtin_motions import talking
from vultus.captures import write_motion
from vultus.errors import VultusError
from vultus.heads import SkinnedHead, load_head
from vultus.heads.arkit import ARKIT_NAMES, arkit_weights, params_to_arkit
from vultus.motion import Motion
from vultus.rotations import axis_angle_to_matrix

POSES = (
    {},
    {"jawOpen": 1.0},
    {"jawOpen": 0.5},
    {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    {"eyeBlinkLeft": 1.0},
    {"eyeBlinkRight": 1.0, "mouthSmileLeft": 0.6, "jawOpen": 0.3},
    {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8},
)


@pytest.fixture(scope="module")
def ict() -> SkinnedHead:
    return load_head(ict_asset("ict_facekit_light.npz"))


def moved(head: SkinnedHead) -> Motion:
    weights = torch.stack([arkit_weights(pose) if pose else torch.zeros(52) for pose in POSES])
    angles = torch.linspace(-0.4, 0.4, 3 * len(POSES)).reshape(-1, 3)
    motion = arkit_motion(head, weights, torch.arange(len(POSES)) / 25.0, head_angles=angles, body_share=0.3)
    shift = 0.1 * torch.randn(len(POSES), 3, generator=torch.Generator().manual_seed(0))
    return replace(motion, params=replace(motion.params, translation=shift))


def relative(head: SkinnedHead, motion: Motion) -> torch.Tensor:
    turns = head.head_to_world(motion.params)[:, :3, :3]
    return turns @ turns[:1].transpose(-1, -2)


def test_to_the_same_model_is_the_identity() -> None:
    head = load_head()
    motion = talking(head, seconds=0.6)
    identity = 0.8 * torch.randn(len(head.identity_names), generator=torch.Generator().manual_seed(2))
    for person in (torch.zeros_like(identity), identity):
        one = replace(motion, params=replace(motion.params, identity=person))
        same = convert_motion(one, head, head)
        assert (same.params.expression - motion.params.expression).abs().max() < (0.02 if person.any() else 1e-3)
        for name in head.joint_names:
            torch.testing.assert_close(same.params.joint(name), motion.params.joint(name), atol=1e-5, rtol=0)
    assert torch.equal(same.times, motion.times)
    assert not same.neutral.expression.any()


def test_pose_is_carried_exactly(ict: SkinnedHead) -> None:
    head = load_head()
    motion = moved(head)
    converted = convert_motion(motion, head, ict)
    assert converted.params.model == ict.fingerprint == converted.neutral.model
    torch.testing.assert_close(relative(ict, converted), relative(head, motion), atol=1e-5, rtol=0)
    for name in ("root", "neck", "left_eye", "right_eye"):
        found, wanted = (axis_angle_to_matrix(m.params.joint(name)) for m in (converted, motion))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    # The faces are at the same place: the middles of their landmarks differ by far less than a head.
    middles = [
        h.landmarks(h.pose(replace(m.params, expression=0 * m.params.expression)).vertices, "ibug68")[:, 17:68].mean(1)
        for h, m in ((head, motion), (ict, converted))
    ]
    assert (middles[0] - middles[1]).norm(dim=-1).max() < 0.02
    back = convert_motion(converted, ict, head)
    torch.testing.assert_close(back.params.translation, motion.params.translation, atol=1e-5, rtol=0)


def test_there_and_back_again(ict: SkinnedHead) -> None:
    """Jaw, smile and blink return: within 0.06 rad (15 % of the whole opening), and 0.25 of a smile or blink."""
    head = load_head()
    motion = moved(head)
    there = convert_motion(motion, head, ict)
    back = convert_motion(there, ict, head)
    opening = back.params.joint("jaw")[:, 0] - motion.params.joint("jaw")[:, 0]
    assert opening.abs().max() < 0.06
    for model, converted, tolerance in ((ict, there, 0.25), (head, back, 0.25)):
        weights = params_to_arkit(model, converted.params)
        for name in ("mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight"):
            wanted = torch.tensor([pose.get(name, 0.0) for pose in POSES])
            found = weights[:, ARKIT_NAMES.index(name)]
            assert (found - wanted)[[0, 1, 2, 3, 4, 5]].abs().max() < tolerance, (model.name, name, found)
    difference = head.pose(back.params).vertices - head.pose(motion.params).vertices
    assert difference[:, head.regions["face"]].norm(dim=-1).mean() < 1e-3


def test_closed_lips_stay_closed(ict: SkinnedHead) -> None:
    head = load_head()
    there = convert_motion(moved(head), head, ict)
    marks = ict.landmarks(ict.pose(there.params).vertices, "ibug68")
    gap = (marks[:, 62] - marks[:, 66]).norm(dim=-1)
    assert gap[0] < 0.003 < 0.02 < gap[1]
    assert 0.3 < (gap[2] - gap[0]) / (gap[1] - gap[0]) < 0.7


def test_to_a_model_without_joints_or_names(tmp_path: Path) -> None:
    """A face without neck and jaw gets the whole pose in its root and the mouth in its components."""
    head = load_head()
    face = SkinnedHead(
        name="face",
        license="test",
        v_template=head.v_template,
        faces=head.faces,
        identity_basis=head.identity_basis[..., :2],
        expression_basis=head.expression_basis[..., :30],
        pose_basis=torch.zeros(len(head.template), 3, 0),
        joint_regressor=torch.full((1, len(head.template)), 1 / len(head.template)),
        weights=torch.ones(len(head.template), 1),
        parents=(-1,),
        joint_names=("root",),
        regions=head.regions,
        landmark_sets=head.landmark_sets,
    )
    motion = moved(head)
    converted = convert_motion(motion, head, face)
    torch.testing.assert_close(relative(face, converted), relative(head, motion), atol=1e-5, rtol=0)
    assert set(converted.params.joints) == {"root"}


def test_drivers_of_other_models(ict: SkinnedHead, tmp_path: Path) -> None:
    head = load_head()
    motion = moved(head)
    write_motion(tmp_path / "builtin.npz", motion, head)
    driver = load_driver(tmp_path / "builtin.npz", ict)
    assert driver.motion.params.model == ict.fingerprint
    assert len(driver.motion) == len(motion)
    write_motion(tmp_path / "ict.npz", driver.motion, ict)
    with pytest.raises(VultusError, match="--driver-head"):
        load_driver(tmp_path / "ict.npz", head)
    assert load_driver(tmp_path / "ict.npz", head, made_with=ict).motion.params.model == head.fingerprint


def test_models_that_share_nothing(tmp_path: Path) -> None:
    head, egg = load_head(), load_head(write_egg(tmp_path / "egg"))
    write_motion(tmp_path / "m.npz", moved(head), head)
    with pytest.raises(VultusError, match="no landmarks in common"):
        load_driver(tmp_path / "m.npz", egg)
    with pytest.raises(ValueError, match="another head model"):
        convert_motion(moved(head), egg, head)
