"""Corresponding points of head models, and ARKit's shapes on a model whose components have numbers."""

import pytest
import torch
from ict_files import ict_asset

from vultus.errors import VultusError
from vultus.heads import SkinnedHead, load_head
from vultus.heads.arkit import ARKIT_NAMES, arkit_to_params, params_to_arkit, unsupported
from vultus.heads.correspondence import correspond
from vultus.heads.transfer import PointHead, Unknowns, fit_places

# What the weight of a name does to the middle of some of the 68 landmarks: axis and sign. Left is +x.
MOVES = {
    "eyeBlinkLeft": ((43, 44), 1, -1), "eyeBlinkRight": ((37, 38), 1, -1), "eyeSquintLeft": ((46, 47), 1, 1),
    "eyeSquintRight": ((40, 41), 1, 1), "eyeWideLeft": ((43, 44), 1, 1), "eyeWideRight": ((37, 38), 1, 1),
    "jawForward": ((8,), 2, 1), "jawLeft": ((8,), 0, 1), "jawRight": ((8,), 0, -1), "jawOpen": ((8,), 1, -1),
    "mouthFunnel": ((51, 57), 2, 1), "mouthPucker": ((51, 57), 2, 1), "mouthLeft": ((48, 54, 51, 57), 0, 1),
    "mouthRight": ((48, 54, 51, 57), 0, -1), "mouthSmileLeft": ((54,), 1, 1), "mouthSmileRight": ((48,), 1, 1),
    "mouthFrownLeft": ((54,), 1, -1), "mouthFrownRight": ((48,), 1, -1), "mouthDimpleLeft": ((54,), 0, 1),
    "mouthDimpleRight": ((48,), 0, -1), "mouthStretchLeft": ((54,), 0, 1), "mouthStretchRight": ((48,), 0, -1),
    "mouthClose": ((57, 66), 1, 1), "mouthRollLower": ((57, 66), 2, -1), "mouthRollUpper": ((51, 62), 2, -1),
    "mouthShrugLower": ((57,), 1, 1), "mouthShrugUpper": ((51,), 1, 1), "mouthLowerDownLeft": ((55, 56), 1, -1),
    "mouthLowerDownRight": ((58, 59), 1, -1), "mouthUpperUpLeft": ((52, 53), 1, 1),
    "mouthUpperUpRight": ((49, 50), 1, 1),
    "browDownLeft": ((22, 23, 24), 1, -1), "browDownRight": ((19, 20, 21), 1, -1), "browInnerUp": ((21, 22), 1, 1),
    "browOuterUpLeft": ((24, 25, 26), 1, 1), "browOuterUpRight": ((17, 18, 19), 1, 1), "noseSneerLeft": ((35,), 1, 1),
    "noseSneerRight": ((31,), 1, 1),
}  # fmt: skip
# No landmark says these: a region of the built-in head, axis and sign.
REGION_MOVES = {
    "eyeLookUpLeft": ("left_iris", 1, 1), "eyeLookUpRight": ("right_iris", 1, 1),
    "eyeLookDownLeft": ("left_iris", 1, -1),
    "eyeLookDownRight": ("right_iris", 1, -1), "eyeLookOutLeft": ("left_iris", 0, 1),
    "eyeLookInLeft": ("left_iris", 0, -1),
    "eyeLookOutRight": ("right_iris", 0, -1), "eyeLookInRight": ("right_iris", 0, 1),
}  # fmt: skip
CHEEKS = ("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "mouthPressLeft", "mouthPressRight", "tongueOut")


def flame_like(seed: int = 0) -> SkinnedHead:
    """The built-in head stretched and shifted, its shapes mixed beyond recognition and numbered, as FLAME's are."""
    head, generator = load_head(), torch.Generator().manual_seed(seed)
    count = len(head.expression_names)
    mix = torch.linalg.qr(torch.randn(count, count, generator=generator)).Q / 2
    stretch, shift = torch.tensor([1.06, 0.95, 1.03]), torch.tensor([0.0, 0.02, -0.03])
    return SkinnedHead(
        name=f"flame_like_{seed}",
        license="Apache-2.0",
        v_template=head.v_template * stretch + shift,
        faces=head.faces,
        identity_basis=head.identity_basis[..., :5],
        expression_basis=head.expression_basis @ mix,
        pose_basis=head.pose_basis,
        joint_regressor=head.joint_regressor,
        weights=head.weights,
        parents=head.parents,
        regions=head.regions,
        landmark_sets={"ibug68": head.landmark_sets["ibug68"]},
    )


@pytest.fixture(scope="module")
def numbered() -> SkinnedHead:
    return flame_like()


@pytest.fixture(scope="module")
def ict() -> SkinnedHead:
    return load_head(ict_asset("ict_facekit_light.npz"))


def check_directions(head: SkinnedHead, name: str) -> None:
    moved = head.pose(arkit_to_params(head, {name: 1.0})).vertices - head.template
    if name in MOVES:
        points, axis, sign = MOVES[name]
        marks = head.landmarks(head.template + moved, "ibug68") - head.landmarks(head.template, "ibug68")
        assert sign * marks[list(points), axis].mean() > 3e-4, name
    elif name in REGION_MOVES:
        region, axis, sign = REGION_MOVES[name]
        assert sign * moved[head.regions[region], axis].mean() > 2e-3, name
    elif not (name == "tongueOut" and "tongue" not in head.regions):
        assert moved[head.regions["face"]].norm(dim=-1).max() > 1e-3 or name == "tongueOut", name
    if name.endswith(("Left", "Right")) and not name.startswith(("jaw", "mouthL", "mouthR")):
        side = 1 if name.endswith("Left") else -1
        energy = moved.square().sum(-1)
        assert energy[side * head.template[:, 0] > 0.002].sum() > 3 * energy[side * head.template[:, 0] < -0.002].sum()


def test_every_name_is_checked() -> None:
    assert {*MOVES, *REGION_MOVES, *CHEEKS} == set(ARKIT_NAMES)


@pytest.mark.parametrize("name", ARKIT_NAMES)
def test_names_move_numbered_components_the_right_way(numbered: SkinnedHead, name: str) -> None:
    check_directions(numbered, name)


@pytest.mark.parametrize("name", [name for name in ARKIT_NAMES if name != "tongueOut"])
def test_names_move_ict_the_right_way(ict: SkinnedHead, name: str) -> None:
    check_directions(ict, name)


def test_numbered_components_reach_the_built_in_shapes(numbered: SkinnedHead) -> None:
    """They span the same movements, so that the fit has to find them."""
    head, face = load_head(), load_head().regions["face"]
    assert set(unsupported(numbered)) <= {"tongueOut"}
    for name in ("mouthSmileLeft", "browInnerUp", "cheekPuff", "mouthPucker", "noseSneerRight", "eyeBlinkLeft"):
        wanted, found = (
            (model.pose(arkit_to_params(model, {name: 1.0})).vertices - model.template)[face].flatten()
            for model in (head, numbered)
        )
        assert torch.nn.functional.cosine_similarity(wanted, found, dim=0) > 0.98, name
        assert found.norm() == pytest.approx(float(wanted.norm()), rel=0.1)


def test_the_map_is_linear_and_comes_back(numbered: SkinnedHead) -> None:
    weights = {"jawOpen": 0.4, "mouthSmileLeft": 0.6, "eyeBlinkRight": 0.8}
    params = arkit_to_params(numbered, weights)
    parts = [arkit_to_params(numbered, {name: value}).expression for name, value in weights.items()]
    torch.testing.assert_close(params.expression, sum(parts), atol=1e-5, rtol=0)
    assert params.joints["jaw"].tolist() == pytest.approx([0.16, 0, 0])
    back = params_to_arkit(numbered, params)
    for name, value in weights.items():
        assert float(back[ARKIT_NAMES.index(name)]) == pytest.approx(value, abs=0.1)


def test_a_head_corresponds_to_itself() -> None:
    head = load_head()
    shared = correspond(head, head)
    assert shared.scale == pytest.approx(1)
    places = [(head.template[p.vertices] * p.weights[..., None]).sum(1) for p in (shared.source, shared.target)]
    assert (places[0] - places[1]).norm(dim=-1).max() < 1e-5
    assert len(shared.weights) > 700


def test_lips_are_not_confused(ict: SkinnedHead) -> None:
    """What the jaw carries on one head it carries on the other, although the lips touch."""
    head = load_head()
    shared = correspond(head, ict)
    on_lips = torch.isin(shared.target.vertices[:, 0], ict.regions["lips"])
    opening = arkit_to_params(head, {"jawOpen": 1.0}), arkit_to_params(ict, {"jawOpen": 1.0})
    down = []
    for model, params, points in zip((head, ict), opening, (shared.source, shared.target), strict=True):
        moved = (model.pose(params).vertices - model.template)[:, 1]
        down.append((moved[points.vertices] * points.weights).sum(1)[on_lips])
    assert int(on_lips.sum()) > 40
    assert (down[0] - down[1] * down[0].min() / down[1].min()).abs().quantile(0.95) < 0.25 * down[0].abs().max()


def test_heads_without_common_landmarks() -> None:
    head = flame_like(1)
    head.landmark_sets = {}
    with pytest.raises(VultusError, match="no landmarks in common"):
        correspond(load_head(), head)
    head.fingerprint = "0" * 64
    assert "mouthSmileLeft" in unsupported(head)
    assert "jawOpen" not in unsupported(head)


def test_limits_are_kept() -> None:
    head = load_head()
    shared = correspond(head, head)
    points = PointHead(head, shared.target)
    neutral, size = head.neutral(), len(head.expression_names)
    rest = points.places(neutral.identity, neutral.expression, torch.zeros(3))
    expression = torch.zeros(1, size)
    expression[0, head.expression_names.index("mouthSmileLeft")] = 2.0
    wanted = points.places(neutral.identity, expression, torch.zeros(3))
    unknowns = Unknowns(
        torch.zeros(size), 1e-5, torch.zeros(size), torch.ones(size), torch.ones(size, dtype=torch.bool), False
    )
    found, jaw = fit_places(points, neutral.identity, wanted, shared.weights, torch.zeros(1, 3), unknowns)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found[0, head.expression_names.index("mouthSmileLeft")] == 1
    assert not jaw.any()
    before, after = ((wanted - p).square().sum() for p in (rest, points.places(neutral.identity, found, jaw)))
    assert after < 0.4 * before
