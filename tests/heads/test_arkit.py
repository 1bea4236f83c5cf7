"""ARKit weights: spellings, what they move, and which way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vultus.errors import VultusError
from vultus.heads.arkit import (
    ARKIT_NAMES,
    arkit_name,
    arkit_to_params,
    arkit_weights,
    mirrored_name,
    params_to_arkit,
    unsupported,
)
from vultus.heads.builtin import load_builtin
from vultus.heads.model import SkinnedHead


@pytest.fixture(scope="module")
def head() -> SkinnedHead:
    return load_builtin()


def test_there_are_52_names_in_18_pairs() -> None:
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52
    pairs = [name for name in ARKIT_NAMES if mirrored_name(name) != name]
    assert all(mirrored_name(name) in ARKIT_NAMES for name in pairs)
    assert len(pairs) == 40  # 18 pairs of shapes, and jawLeft/Right, mouthLeft/Right


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("EyeBlinkLeft", "eyeBlinkLeft"),
        ("eyeBlink_L", "eyeBlinkLeft"),
        ("eyeblinkl", "eyeBlinkLeft"),
        ("browDown_R", "browDownRight"),
        ("brow_down_right", "browDownRight"),
        ("jaw_left", "jawLeft"),
        ("MouthRight", "mouthRight"),
        ("mouthRollLower", "mouthRollLower"),
        ("mouthRo", None),
        ("jawL", None),
        ("_neutral", None),
        ("HeadYaw", None),
    ],
)
def test_spellings(text: str, name: str | None) -> None:
    assert arkit_name(text) == name


def test_every_name_reads_in_every_spelling() -> None:
    for name in ARKIT_NAMES:
        assert arkit_name(name.upper()) == name
        assert arkit_name(name[0].upper() + name[1:]) == name
        short = name.replace("Left", "_L").replace("Right", "_R")
        assert arkit_name(short) in ((name,) if not name.startswith(("jaw", "mouthL", "mouthR")) else (name, None))


def test_wrong_names() -> None:
    with pytest.raises(VultusError, match="eyeBlinkMiddle"):
        arkit_weights({"eyeBlinkMiddle": 1.0})
    with pytest.raises(VultusError, match="twice"):
        arkit_weights({"eyeBlink_L": 1.0, "eyeBlinkLeft": 0.5})


def test_directions(head: SkinnedHead) -> None:
    """Blink, jaw and gaze move the right side of the face the right way: +y up, +x the subject's left."""
    rest = head.pose(head.neutral()).vertices

    def moved(region: str, **weights: float) -> torch.Tensor:
        vertices = head.pose(arkit_to_params(head, weights)).vertices
        index = head.regions[region]
        return (vertices - rest)[index].mean(0)

    assert moved("teeth_lower", jawOpen=1.0)[1] < -0.01
    assert moved("left_iris", eyeLookUpLeft=1.0)[1] > 0.003
    assert moved("left_iris", eyeLookUpRight=1.0).abs().max() < 1e-6
    assert moved("left_iris", eyeLookOutLeft=1.0)[0] > 0.004
    assert moved("left_iris", eyeLookInLeft=1.0)[0] < -0.004
    assert moved("right_iris", eyeLookOutRight=1.0)[0] < -0.004
    assert moved("right_iris", eyeLookDownRight=0.5)[1] < -0.001
    assert moved("left_eyelid", eyeBlinkLeft=1.0).abs().max() > 5 * moved("right_eyelid", eyeBlinkLeft=1.0).abs().max()
    assert moved("tongue", tongueOut=1.0)[2] > 0.002
    assert moved("lips", mouthLeft=1.0)[0] > 0.003


def test_the_builtin_head_can_do_everything(head: SkinnedHead) -> None:
    assert unsupported(head) == ()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_round_trip(head: SkinnedHead, seed: int) -> None:
    """Weights that do not oppose each other come back; so they do about another neutral."""
    weights = torch.rand(3, 52, generator=torch.Generator().manual_seed(seed))
    opposed = [
        ARKIT_NAMES.index(name) for name in ("eyeLookUpLeft", "eyeLookInLeft", "eyeLookUpRight", "eyeLookInRight")
    ]
    weights[:, opposed] = 0
    neutral = arkit_to_params(head, torch.full((52,), 0.1))
    for start in (None, neutral):
        params = arkit_to_params(head, weights, neutral=start)
        assert params.batch_shape == (3,)
        torch.testing.assert_close(params_to_arkit(head, params, neutral=start), weights, atol=1e-5, rtol=0)


def test_heads_without_the_names_still_open_the_jaw(head: SkinnedHead) -> None:
    """A head with unnamed components, as FLAME has them, turns its joints and leaves expression alone."""
    flame_like = SkinnedHead(
        name="test",
        license="test",
        v_template=head.v_template,
        faces=head.faces,
        identity_basis=head.identity_basis[..., :2],
        expression_basis=head.expression_basis[..., :3],
        pose_basis=torch.zeros(head.v_template.shape[0], 3, 36),
        joint_regressor=head.joint_regressor,
        weights=head.weights,
        parents=head.parents,
    )
    params = arkit_to_params(flame_like, {"jawOpen": 0.5, "jawLeft": 1.0, "mouthSmileLeft": 1.0})
    assert params.joints["jaw"].tolist() == pytest.approx([0.2, 0.1, 0.0])
    assert not params.expression.any()
    assert "mouthSmileLeft" in unsupported(flame_like)


def test_gradients_reach_the_weights(head: SkinnedHead) -> None:
    weights = torch.full((52,), 0.3, requires_grad=True)
    params = arkit_to_params(head, weights)
    (params.expression.sum() + sum(rotation.sum() for rotation in params.joints.values())).backward()
    assert weights.grad is not None
    assert int((weights.grad != 0).sum()) == 52
