"""The few points of a head model that a landmark fit needs, as exact functions of its parameters, with derivatives.

A landmark is a barycentric combination of skinned vertices, `X = Σ_k b_k Σ_j w_kj (R_j (v_k − J_j) + p_j)`. The sums
exchange: with `A_j = Σ_k b_k w_kj v_k`, linear in the coefficients, and `W_j = Σ_k b_k w_kj`,
`X = Σ_j R_j A_j + W_j (p_j − R_j J_j)`. So a model of L points needs bases of L·J·3 rows instead of the whole mesh,
and every derivative is closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads import LandmarkSet, SkinnedHead
from vultus.rotations import axis_angle_to_matrix


@dataclass(frozen=True)
class LandmarkModel:
    """L landmarks of a `SkinnedHead` with J joints, in float64.

    The last axis of the bases counts: the constant 1, identity, expression, correctives, pose features. Correctives
    `4 a (1 − a)` go on outside 0 ≤ a ≤ 1, where the head model cuts them off: a solver gets stuck at kinks.
    `normals` are outward unit normals on the template.
    """

    ids: Int[Tensor, "L"]
    basis: Float[Tensor, "J L 3 K"]
    weights: Float[Tensor, "J L"]
    joint_basis: Float[Tensor, "J 3 K"]
    normals: Float[Tensor, "L 3"]
    parents: tuple[int, ...]
    joint_names: tuple[str, ...]
    identity_count: int
    expression_count: int
    corrective_drivers: Int[Tensor, "C"]

    @staticmethod
    def of(head: SkinnedHead, embedding: LandmarkSet, offset: Float[Tensor, "V 3"] | None = None) -> LandmarkModel:
        """Landmarks on a head; `offset` (metres) moves the rest vertices."""
        corners = head.faces[embedding.faces]  # [L, 3]
        barycentric = embedding.barycentric.double()
        template = (head.v_template if offset is None else head.v_template + offset).double()
        shape_count = head.identity_basis.shape[-1] + head.expression_basis.shape[-1]
        per_vertex = torch.cat(
            [
                template[..., None],
                head.identity_basis.double(),
                head.expression_basis.double(),
                head.correctives.double(),
                head.pose_basis.double(),
            ],
            dim=-1,
        )
        skinning = head.weights.double()[corners] * barycentric[..., None]  # [L, 3, J]
        basis = torch.einsum("lkj,lkcn->jlcn", skinning, per_vertex[corners])
        rest = per_vertex.clone()
        rest[..., 1 + shape_count + head.correctives.shape[-1] :] = 0  # joints are regressed before pose correctives
        joint_basis = torch.einsum("jv,vcn->jcn", head.joint_regressor.double(), rest)
        a, b, c = head.v_template.double()[corners].unbind(1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        return LandmarkModel(
            ids=embedding.ids,
            basis=basis,
            weights=skinning.sum(1).T.contiguous(),
            joint_basis=joint_basis,
            normals=normals,
            parents=head.parents,
            joint_names=head.joint_names,
            identity_count=head.identity_basis.shape[-1],
            expression_count=head.expression_basis.shape[-1],
            corrective_drivers=head.corrective_drivers,
        )

    def select(self, rows: Int[Tensor, "M"]) -> LandmarkModel:
        """The model of some of the landmarks."""
        return replace(
            self,
            ids=self.ids[rows],
            basis=self.basis[:, rows],
            weights=self.weights[:, rows],
            normals=self.normals[rows],
        )

    def moved(self, offsets: Float[Tensor, "L 3"]) -> LandmarkModel:
        """The model with every landmark moved on the rest head (metres), carried along by the joints it hangs on."""
        basis = self.basis.clone()
        basis[..., 0] += self.weights[..., None] * offsets
        return replace(self, basis=basis)

    def with_shapes(self, shapes: Float[Tensor, "L 3 M"]) -> LandmarkModel:
        """The model with M more identity coefficients, each of which moves landmarks on the rest head (metres)."""
        last = 1 + self.identity_count
        shared = self.weights[..., None, None] * shapes
        still = self.joint_basis.new_zeros(*self.joint_basis.shape[:2], shapes.shape[-1])
        return replace(
            self,
            basis=torch.cat([self.basis[..., :last], shared, self.basis[..., last:]], -1),
            joint_basis=torch.cat([self.joint_basis[..., :last], still, self.joint_basis[..., last:]], -1),
            identity_count=self.identity_count + shapes.shape[-1],
        )

    @property
    def carrying(self) -> list[int]:
        """The joints that a landmark hangs on."""
        return self.weights.any(1).nonzero()[:, 0].tolist()

    def pose_columns(self, joint: int) -> slice | None:
        """The columns of the bases that a joint's rotation drives; None if they move nothing."""
        last = self.basis.shape[-1] - 9 * (len(self.parents) - 1)
        first = last + 9 * (joint - 1)
        constant = 1 + self.identity_count + self.expression_count + len(self.corrective_drivers)
        if joint == 0 or last < constant or not bool(self.basis[..., first : first + 9].any()):
            return None
        return slice(first, first + 9)

    def evaluate(
        self,
        identity: Float[Tensor, "S"],
        expression: Float[Tensor, "N E"],
        joints: Mapping[str, Float[Tensor, "N 3"]],
        translation: Float[Tensor, "N 3"],
    ) -> LandmarkState:
        """Landmarks for a batch of instants, keeping what the derivatives reuse."""
        count = expression.shape[0]
        zero = expression.new_zeros(count, 3)
        rotations = axis_angle_to_matrix(torch.stack([joints.get(name, zero) for name in self.joint_names], dim=1))
        coefficients = self._coefficients(identity, expression, rotations)
        rest_joints = torch.einsum("jck,nk->njc", self.joint_basis, coefficients)
        world, positions = [rotations[:, 0]], [rest_joints[:, 0] + translation]
        for joint, parent in enumerate(self.parents):
            if joint == 0:
                continue
            bone = rest_joints[:, joint] - rest_joints[:, parent]
            positions.append(positions[parent] + (world[parent] @ bone[..., None])[..., 0])
            world.append(world[parent] @ rotations[:, joint])
        rotation, position = torch.stack(world, 1), torch.stack(positions, 1)
        shift = position - (rotation @ rest_joints[..., None])[..., 0]
        parts = coefficients.new_zeros(count, *self.basis.shape[:3])
        for joint in self.carrying:
            attached = (coefficients @ self.basis[joint].flatten(0, 1).T).unflatten(1, (-1, 3))
            turned = attached @ rotation[:, joint].transpose(-1, -2)
            parts[:, joint] = turned + self.weights[joint, :, None] * shift[:, joint, None]
        return LandmarkState(self, expression, rotations, rotation, position, parts)

    def _coefficients(self, identity: Tensor, expression: Tensor, rotations: Tensor) -> Float[Tensor, "N K"]:
        count = expression.shape[0]
        driver = expression[:, self.corrective_drivers]
        columns = [expression.new_ones(count, 1), identity.expand(count, -1), expression, 4 * driver * (1 - driver)]
        pose_count = self.basis.shape[-1] - sum(column.shape[1] for column in columns)
        if pose_count:
            eye = torch.eye(3, dtype=rotations.dtype)
            columns.append((rotations[:, 1:] - eye).flatten(1))
        return torch.cat(columns, dim=1)


@dataclass(frozen=True)
class LandmarkState:
    """Landmarks of a batch of instants. `parts` [N, J, L, 3] are the joints' shares, which add up to the points."""

    model: LandmarkModel
    expression: Tensor
    local_rotations: Tensor
    rotation: Tensor
    position: Tensor
    parts: Tensor

    @property
    def points(self) -> Float[Tensor, "N L 3"]:
        """World positions, metres."""
        return self.parts.sum(1)

    def coefficient_derivative(self, columns: slice, onto: Float[Tensor, "N L R 3"]) -> Float[Tensor, "N L R K"]:
        """`onto` times ∂X/∂(basis coefficient) for some columns of the bases, the correctives' share not included.

        Multiplying by `onto` (a projection's derivative, say) first keeps every intermediate small.
        """
        model = self.model
        joint_basis = model.joint_basis[..., columns]  # [J 3 K]
        moved = [joint_basis[0].expand(len(self.expression), 3, -1)]
        for joint, parent in enumerate(model.parents):
            if joint:
                bone = joint_basis[joint] - joint_basis[parent]
                moved.append(moved[parent] + self.rotation[:, parent] @ bone)
        count, points, rows = onto.shape[:3]
        attached = onto.new_zeros(points, count * rows, joint_basis.shape[-1])
        shifts = onto.new_zeros(count, points * rows, joint_basis.shape[-1])
        for joint in model.carrying:
            turned = (onto @ self.rotation[:, joint, None]).transpose(0, 1).reshape(points, count * rows, 3)
            attached.baddbmm_(turned, model.basis[joint][..., columns])
            share = onto * model.weights[joint][None, :, None, None]
            shifts.baddbmm_(share.flatten(1, 2), moved[joint] - self.rotation[:, joint] @ joint_basis[joint])
        return attached.unflatten(1, (count, rows)).transpose(0, 1) + shifts.unflatten(1, (points, rows))

    def identity_derivative(self, onto: Float[Tensor, "N L R 3"]) -> Float[Tensor, "N L R S"]:
        """`onto` times ∂X/∂identity."""
        return self.coefficient_derivative(slice(1, 1 + self.model.identity_count), onto)

    def expression_derivative(self, onto: Float[Tensor, "N L R 3"]) -> Float[Tensor, "N L R E"]:
        """`onto` times ∂X/∂expression, with the correctives `4 a (1 − a)` that a component drives."""
        model = self.model
        first = 1 + model.identity_count
        bent = model.corrective_drivers
        columns = slice(first, first + model.expression_count + len(bent))
        result, correction = self.coefficient_derivative(columns, onto).split([model.expression_count, len(bent)], -1)
        if not len(bent):
            return result
        slope = 4 - 8 * self.expression[:, bent]
        return result.index_add(-1, bent, correction * slope[:, None, None])

    def joint_derivative(self, joint: int, axis_angle: Float[Tensor, "N 3"]) -> Float[Tensor, "N L 3 3"]:
        """∂X/∂(axis-angle of one joint), with the pose correctives that it drives."""
        model = self.model
        below = [joint]
        for other, parent in enumerate(model.parents):
            if other > joint and parent in below:
                below.append(other)
        lever = self.parts[:, below].sum(1)
        weight = model.weights[below].sum(0)
        lever = lever - weight[None, :, None] * self.position[:, joint, None]
        parent = model.parents[joint]
        turn = left_jacobian(axis_angle)
        if parent >= 0:
            turn = self.rotation[:, parent] @ turn
        result = -skew(lever) @ turn[:, None]
        columns = model.pose_columns(joint)
        if columns is None:
            return result
        bent = skew(left_jacobian(axis_angle).transpose(-1, -2)) @ self.local_rotations[:, joint, None]  # ∂R/∂ω_k
        # Few landmarks have such correctives: eyes move lids, and little else.
        rows = model.basis[..., columns].abs().amax((0, 2, 3)).nonzero()[:, 0]
        part = replace(self, model=model.select(rows), parts=self.parts[:, :, rows])
        everything = torch.eye(3, dtype=lever.dtype).expand(len(lever), len(rows), 3, 3)
        change = part.coefficient_derivative(columns, everything) @ bent.flatten(2).transpose(1, 2)[:, None]
        return result.index_add(1, rows, change)


def skew(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """The matrix of the cross product, `skew(v) u = v × u`."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def left_jacobian(axis_angle: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """J with `exp(ω + dω) ≈ exp(J dω) exp(ω)`: the rotation group's left Jacobian."""
    angle = axis_angle.norm(dim=-1)[..., None, None]
    small = angle < 1e-4
    safe = torch.where(small, torch.ones_like(angle), angle)
    first = torch.where(small, 0.5 - angle**2 / 24, (1 - torch.cos(safe)) / safe**2)
    second = torch.where(small, 1 / 6 - angle**2 / 120, (safe - torch.sin(safe)) / safe**3)
    cross = skew(axis_angle)
    return torch.eye(3, dtype=axis_angle.dtype) + first * cross + second * (cross @ cross)
