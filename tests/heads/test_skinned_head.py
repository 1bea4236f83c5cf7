"""What linear blend skinning has to satisfy whatever the numbers are."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vultus.heads import HeadModel, LandmarkSet, SkinnedHead, load_head
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle

VERTICES = 24
angles = st.floats(-2.5, 2.5)
rotations = st.tuples(angles, angles, angles).map(lambda values: torch.tensor(values, dtype=torch.float64))


def make_head(seed: int = 0, has_correctives: bool = True) -> SkinnedHead:
    """A random head; vertex 0 hangs on the neck joint alone, as a skull vertex does."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = random(VERTICES, 5).softmax(-1)
    weights[0] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    pose_basis = 0.001 * random(VERTICES, 3, 36)
    pose_basis[0] = 0
    return SkinnedHead(
        name="random",
        license="Apache-2.0",
        v_template=0.1 * random(VERTICES, 3),
        faces=torch.stack([torch.arange(20), torch.arange(20) + 1, torch.arange(20) + 3], dim=-1),
        identity_basis=0.01 * random(VERTICES, 3, 4),
        expression_basis=0.01 * random(VERTICES, 3, 3),
        pose_basis=pose_basis,
        joint_regressor=random(5, VERTICES).softmax(-1),
        weights=weights,
        parents=(-1, 0, 1, 1, 1),
        correctives=0.01 * random(VERTICES, 3, 2) if has_correctives else None,
        corrective_drivers=torch.tensor([2, 0]) if has_correctives else None,
        landmark_sets={"one": LandmarkSet(torch.tensor([5]), torch.tensor([3]), torch.tensor([[0.2, 0.3, 0.5]]))},
    )


def random_params(head: SkinnedHead, *batch: int, seed: int = 1) -> HeadParams:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn((*batch, *shape), generator=generator, dtype=torch.float64)

    return HeadParams(
        model=head.fingerprint,
        identity=random(4),
        expression=random(3),
        joints={name: 0.4 * random(3) for name in head.joint_names},
        translation=random(3),
        scale=random().exp(),
        offset=0.01 * random(VERTICES, 3),
    )


def test_both_are_head_models() -> None:
    for head in (make_head(), load_head()):
        assert isinstance(head, HeadModel)


@pytest.mark.parametrize("name", ["random", "builtin"])
def test_zero_parameters_give_the_template(name: str) -> None:
    head = make_head() if name == "random" else load_head()
    posed = head.pose(head.neutral(2))
    torch.testing.assert_close(posed.vertices, head.template.expand(2, -1, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(posed.joints[0], head.joint_regressor @ head.template, atol=1e-6, rtol=0)


@settings(max_examples=15, deadline=None)
@given(rotation=rotations)
def test_the_root_turns_everything_about_its_joint(rotation: torch.Tensor) -> None:
    head = make_head()
    params = replace(random_params(head), translation=torch.zeros(3).double(), scale=torch.ones(()).double())
    params = replace(params, joints={**params.joints, "root": torch.zeros(3).double()})
    before = head.pose(params)
    after = head.pose(replace(params, joints={**params.joints, "root": rotation}))
    pivot, matrix = before.joints[0], axis_angle_to_matrix(rotation)
    torch.testing.assert_close(after.vertices, (before.vertices - pivot) @ matrix.T + pivot)
    torch.testing.assert_close(after.joints, (before.joints - pivot) @ matrix.T + pivot)


def test_translation_and_scale_act_last() -> None:
    head = make_head()
    params = random_params(head)
    plain = replace(params, translation=torch.zeros(3).double(), scale=torch.ones(()).double())
    torch.testing.assert_close(
        head.pose(params).vertices, head.pose(plain).vertices * params.scale + params.translation
    )


@settings(max_examples=15, deadline=None)
@given(root=rotations, neck=rotations, scale=st.floats(0.5, 2))
def test_head_to_world_carries_the_skull(root: torch.Tensor, neck: torch.Tensor, scale: float) -> None:
    head = make_head()
    params = random_params(head)
    params = replace(params, joints={**params.joints, "root": root, "neck": neck}, scale=torch.tensor(scale).double())
    motion = head.head_to_world(params)
    posed = head.pose(params)
    moved = motion[:3, :3] @ (params.scale * posed.rest[0]) + motion[:3, 3]
    torch.testing.assert_close(posed.vertices[0], moved)
    torch.testing.assert_close(motion[:3, :3] @ motion[:3, :3].T, torch.eye(3).double())


def test_head_to_world_of_the_builtin_head() -> None:
    head = load_head()
    params = head.neutral()
    params.joints["root"][:] = torch.tensor([0.1, -0.4, 0.2])
    params.joints["neck"][:] = torch.tensor([-0.2, 0.3, 0.1])
    params.translation[:] = torch.tensor([0.02, -0.1, 0.3])
    motion, posed = head.head_to_world(params), head.pose(params)
    skull = torch.nonzero(head.weights[:, head.joint_names.index("neck")] > 0.9999)[:, 0]
    assert len(skull) > 100
    torch.testing.assert_close(
        posed.vertices[skull], posed.rest[skull] @ motion[:3, :3].T + motion[:3, 3], atol=2e-5, rtol=0
    )


def test_batches_broadcast() -> None:
    head = make_head()
    batch = random_params(head, 2, 3)
    posed = head.pose(batch)
    assert posed.vertices.shape == (2, 3, VERTICES, 3)
    single = batch.map(lambda tensor: tensor[1, 2])
    torch.testing.assert_close(head.pose(single).vertices, posed.vertices[1, 2])
    torch.testing.assert_close(head.head_to_world(single), head.head_to_world(batch)[1, 2])
    # One person in many poses: identity, offset and scale are shared.
    shared = replace(batch, identity=single.identity, offset=single.offset, scale=single.scale)
    torch.testing.assert_close(head.pose(shared).vertices[1, 2], posed.vertices[1, 2])
    assert head.landmarks(posed.vertices, "one").shape == (2, 3, 1, 3)


def test_one_joint_at_a_time_turns_its_children_only() -> None:
    head = load_head()
    neutral = head.pose(head.neutral()).vertices
    for name in ("jaw", "left_eye", "right_eye"):
        params = head.neutral()
        params.joints[name][0] = 0.2
        moved = (head.pose(params).vertices - neutral).norm(dim=-1)
        untouched = head.weights[:, head.joint_names.index(name)] == 0
        still = untouched & ~head.pose_basis.flatten(1).any(-1)
        assert float(moved[still].max()) < 1e-6
        assert float(moved.max()) > 1e-3
    left, right = head.template[head.regions["left_eyeball"], 0], head.template[head.regions["right_eyeball"], 0]
    assert float(left.min()) > 0 > float(right.max())


def test_correctives_vanish_at_both_ends() -> None:
    head, plain = make_head(), make_head(has_correctives=False)
    for amount, is_zero in ((0.0, True), (1.0, True), (0.5, False), (-1.0, True), (3.0, True)):
        params = head.neutral()
        params.expression[2] = amount
        same = torch.allclose(head.rest_vertices(params), plain.rest_vertices(params))
        assert same == is_zero
    middle = head.neutral()
    middle.expression[2] = 0.5
    difference = head.rest_vertices(middle) - plain.rest_vertices(middle)
    torch.testing.assert_close(difference, head.correctives[..., 0])


@pytest.mark.parametrize("at_rest", [False, True])
def test_gradients_also_at_zero_rotation(at_rest: bool) -> None:
    head = make_head()
    params = random_params(head, 2)
    if at_rest:
        params = replace(params, joints={name: 0 * value for name, value in params.joints.items()})
    names = list(params.joints)
    inputs = [params.identity, params.expression, params.translation, params.scale, *params.joints.values()]

    def forward(identity: Tensor, expression: Tensor, translation: Tensor, scale: Tensor, *joints: Tensor) -> Tensor:
        changed = replace(
            params,
            identity=identity,
            expression=expression,
            translation=translation,
            scale=scale,
            joints=dict(zip(names, joints, strict=True)),
        )
        motion = head.head_to_world(changed)[:, :3].flatten()
        return torch.cat([head.pose(changed).vertices[:, :3].flatten(), motion])

    assert torch.autograd.gradcheck(forward, [tensor.requires_grad_() for tensor in inputs], fast_mode=True)


def test_gradients_at_zero_are_finite_in_single_precision() -> None:
    head = load_head()
    params = head.neutral(1).map(lambda tensor: tensor.requires_grad_())
    head.pose(params).vertices.square().sum().backward()
    for rotation in params.joints.values():
        assert rotation.grad is not None
        assert bool(torch.isfinite(rotation.grad).all())


def test_rotations_of_a_whole_turn_change_nothing() -> None:
    head = make_head()
    params = random_params(head)
    neck = params.joints["neck"]
    turned = neck * (1 + 2 * torch.pi / neck.norm())
    same = replace(params, joints={**params.joints, "neck": turned})
    torch.testing.assert_close(head.pose(same).vertices, head.pose(params).vertices)
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(turned)), neck)


def test_fingerprint_follows_the_numbers_not_the_precision() -> None:
    assert make_head().fingerprint == make_head().fingerprint
    assert make_head(0).fingerprint != make_head(1).fingerprint
    assert make_head(0).fingerprint != make_head(0, has_correctives=False).fingerprint
    head = load_head()
    assert head.neutral().model == head.fingerprint
    assert load_head() is head
