"""`HeadModel`, what every parametric head offers, and `SkinnedHead`, the one implementation of FLAME's layout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.heads.contour import ContourTable
from vultus.heads.skinning import rigid_chain, skin
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix


@dataclass(frozen=True)
class LandmarkSet:
    """Points on a mesh: triangle and barycentric weights per landmark.

    `ids[i]` is the number that landmark i has in its set (for `mediapipe` the point of the 478-point mesh).
    """

    ids: Int[Tensor, "L"]
    faces: Int[Tensor, "L"]
    barycentric: Float[Tensor, "L 3"]


@dataclass(frozen=True)
class PosedHead:
    """A head model's output. `vertices` and `joints` are metres in the world; `rest` is before skinning."""

    vertices: Float[Tensor, "*B V 3"]
    joints: Float[Tensor, "*B J 3"]
    joint_transforms: Float[Tensor, "*B J 4 4"]
    rest: Float[Tensor, "*B V 3"]


@runtime_checkable
class HeadModel(Protocol):
    """Parameters to posed mesh, joints, landmarks, regions and UVs."""

    name: str
    fingerprint: str
    license: str
    identity_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]
    faces: Int[Tensor, "F 3"]
    uvs: Float[Tensor, "T 2"]
    uv_faces: Int[Tensor, "F 3"]

    @property
    def regions(self) -> Mapping[str, Int[Tensor, "_"]]: ...
    @property
    def landmark_sets(self) -> Mapping[str, LandmarkSet]: ...
    @property
    def template(self) -> Float[Tensor, "V 3"]: ...
    def neutral(self, *batch: int) -> HeadParams: ...
    def pose(self, params: HeadParams) -> PosedHead: ...
    def landmarks(self, vertices: Float[Tensor, "*B V 3"], landmark_set: str) -> Float[Tensor, "*B L 3"]: ...
    def head_to_world(self, params: HeadParams) -> Float[Tensor, "*B 4 4"]: ...


class SkinnedHead(nn.Module):
    """A head in FLAME's layout: linear identity and expression, linear pose correctives, linear blend skinning.

    Everything the formula needs is an argument, so that FLAME, the built-in head and tests build the same class.
    Correctives are what FLAME lacks: displacement `c` is weighted by `4 a (1 − a)` of the expression component `a` that
    drives it, which bends a component's straight path into an arc (an eyelid sliding over the eyeball).

    Args:
        v_template: rest-pose mean vertices, metres.
        faces: triangles, counter-clockwise seen from outside.
        identity_basis, expression_basis: displacement per coefficient, metres.
        pose_basis: displacement per entry of `R_j − I`, j = 1…J−1, row-major, metres.
        joint_regressor: rest joints from shaped vertices. parents: parent joint, −1 for the root.
        weights: skinning weights, rows sum to 1.
        uvs, uv_faces: texture coordinates in [0, 1], v up, and their triangles.
        joint_template, joint_basis: rest joints and their displacement per identity, then expression coefficient, for
            models whose joints do not follow their vertices (GNM); they take the regressor's place.
        attributes: further per-vertex arrays a model ships (soft masks, colours), by name.
        contour: the jaw landmarks that slide with the head's yaw.
    """

    v_template: Tensor
    faces: Tensor
    uvs: Tensor
    uv_faces: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    pose_basis: Tensor
    joint_regressor: Tensor
    weights: Tensor
    correctives: Tensor
    corrective_drivers: Tensor
    joint_template: Tensor | None
    joint_basis: Tensor | None

    def __init__(
        self,
        *,
        name: str,
        license: str,
        v_template: Float[Tensor, "V 3"],
        faces: Int[Tensor, "F 3"],
        identity_basis: Float[Tensor, "V 3 S"],
        expression_basis: Float[Tensor, "V 3 E"],
        pose_basis: Float[Tensor, "V 3 P"],
        joint_regressor: Float[Tensor, "J V"],
        weights: Float[Tensor, "V J"],
        parents: Sequence[int],
        joint_names: Sequence[str] = ("root", "neck", "jaw", "left_eye", "right_eye"),
        identity_names: Sequence[str] | None = None,
        expression_names: Sequence[str] | None = None,
        uvs: Float[Tensor, "T 2"] | None = None,
        uv_faces: Int[Tensor, "F 3"] | None = None,
        correctives: Float[Tensor, "V 3 C"] | None = None,
        corrective_drivers: Int[Tensor, "C"] | None = None,
        joint_template: Float[Tensor, "J 3"] | None = None,
        joint_basis: Float[Tensor, "J 3 S+E"] | None = None,
        regions: Mapping[str, Int[Tensor, "_"]] | None = None,
        landmark_sets: Mapping[str, LandmarkSet] | None = None,
        attributes: Mapping[str, Tensor] | None = None,
        contour: ContourTable | None = None,
    ) -> None:
        super().__init__()
        self.name, self.license = name, license
        self.parents = tuple(int(parent) for parent in parents)
        self.joint_names = tuple(joint_names)
        count = v_template.shape[0]
        self.identity_names = tuple(identity_names or (f"identity_{i:03d}" for i in range(identity_basis.shape[-1])))
        self.expression_names = tuple(
            expression_names or (f"expression_{i:03d}" for i in range(expression_basis.shape[-1]))
        )
        buffers = {
            "v_template": v_template,
            "faces": faces.long(),
            "uvs": v_template.new_zeros(count, 2) if uvs is None else uvs,
            "uv_faces": faces.long() if uv_faces is None else uv_faces.long(),
            "identity_basis": identity_basis,
            "expression_basis": expression_basis,
            "pose_basis": pose_basis,
            "joint_regressor": joint_regressor,
            "weights": weights,
            "correctives": v_template.new_zeros(count, 3, 0) if correctives is None else correctives,
            "corrective_drivers": torch.zeros(0, dtype=torch.int64)
            if corrective_drivers is None
            else corrective_drivers.long(),
        }
        for key, value in buffers.items():
            self.register_buffer(key, value.contiguous(), persistent=False)
        self.regions = dict(regions or {})
        self.landmark_sets = dict(landmark_sets or {})
        self.attributes = dict(attributes or {})
        self.contour = contour
        own_joints = () if joint_template is None or joint_basis is None else (joint_template, joint_basis)
        self.fingerprint = fingerprint(
            v_template,
            faces,
            identity_basis,
            expression_basis,
            pose_basis,
            self.correctives,
            joint_regressor,
            weights,
            *own_joints,
        )
        self.register_buffer("joint_template", joint_template, persistent=False)
        self.register_buffer("joint_basis", joint_basis, persistent=False)
        # One matrix product poses a batch: rows are identity, then expression components.
        self.register_buffer(
            "_shape_matrix",
            torch.cat([identity_basis, expression_basis], dim=-1).flatten(0, 1).T.contiguous(),
            persistent=False,
        )
        self.register_buffer("_pose_matrix", pose_basis.flatten(0, 1).T.contiguous(), persistent=False)
        self.register_buffer("_corrective_matrix", self.correctives.flatten(0, 1).T.contiguous(), persistent=False)
        self._pose_matrix_is_zero = not bool(pose_basis.any())

    _shape_matrix: Tensor
    _pose_matrix: Tensor
    _corrective_matrix: Tensor

    @property
    def skull_joint(self) -> str:
        """The joint that carries the skull: the last one before jaw and eyes."""
        return next(name for name in ("head", "neck", self.joint_names[0]) if name in self.joint_names)

    @property
    def template(self) -> Float[Tensor, "V 3"]:
        """Mean rest-pose vertices, metres."""
        return self.v_template

    def neutral(self, *batch: int) -> HeadParams:
        """All-zero parameters (the mean person, neutral, at the origin) with the given batch shape."""
        zeros = self.v_template.new_zeros
        return HeadParams(
            model=self.fingerprint,
            identity=zeros(*batch, len(self.identity_names)),
            expression=zeros(*batch, len(self.expression_names)),
            joints={name: zeros(*batch, 3) for name in self.joint_names},
            translation=zeros(*batch, 3),
            scale=self.v_template.new_ones(batch),
        )

    def rest_vertices(self, params: HeadParams) -> Float[Tensor, "*B V 3"]:
        """Identity, expression, their correctives and the offset, before any joint turns; metres."""
        displacement = _coefficients(params) @ self._shape_matrix
        if self.corrective_drivers.numel():
            driver = params.expression[..., self.corrective_drivers].clamp(0, 1)
            displacement = displacement + (4 * driver * (1 - driver)) @ self._corrective_matrix
        vertices = self.v_template + displacement.unflatten(-1, (-1, 3))
        return vertices if params.offset is None else vertices + params.offset

    def rest_joints(self, params: HeadParams, rest: Float[Tensor, "*B V 3"]) -> Float[Tensor, "*B J 3"]:
        """Joints before any of them turns, metres: of the rest vertices, unless the model has joints of its own."""
        if self.joint_template is None or self.joint_basis is None:
            return self.joint_regressor @ rest
        moved = _coefficients(params) @ self.joint_basis.flatten(0, 1).T
        return self.joint_template + moved.unflatten(-1, (-1, 3))

    def pose(self, params: HeadParams) -> PosedHead:
        """Posed vertices and joints. Rest joints follow identity, expression and offset, as in FLAME."""
        rest = self.rest_vertices(params)
        rest_joints = self.rest_joints(params, rest)
        axis_angles = torch.stack(torch.broadcast_tensors(*(params.joint(name) for name in self.joint_names)), dim=-2)
        rotations = axis_angle_to_matrix(axis_angles)
        shaped = rest
        if not self._pose_matrix_is_zero:
            identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            feature = (rotations[..., 1:, :, :] - identity).flatten(-3)
            shaped = rest + (feature @ self._pose_matrix).unflatten(-1, (-1, 3))
        transforms = rigid_chain(rotations, rest_joints, self.parents)
        posed = skin(shaped, transforms, rest_joints, self.weights)
        scale, translation = params.scale[..., None, None], params.translation[..., None, :]
        joints = transforms[..., :3, 3] * scale + translation
        transforms = torch.cat(
            [torch.cat([transforms[..., :3, :3], joints[..., None]], -1), transforms[..., 3:, :]], -2
        )
        if self.joint_template is not None:
            # Such models translate their root joint, and so by the skinning weights, which sum to 1 but for rounding.
            translation = translation * self.weights.sum(-1, keepdim=True)
        return PosedHead(posed * scale + translation, joints, transforms, rest)

    def landmarks(self, vertices: Float[Tensor, "*B V 3"], landmark_set: str) -> Float[Tensor, "*B L 3"]:
        """Landmark positions on posed vertices. Raises KeyError for a set the model does not have."""
        embedding = self.landmark_sets[landmark_set]
        corners = vertices[..., self.faces[embedding.faces], :]
        return (corners * embedding.barycentric.to(corners)[..., None]).sum(-2)

    def head_to_world(self, params: HeadParams) -> Float[Tensor, "*B 4 4"]:
        """Rigid motion of the skull (its joints, translation; without scale) from rest pose to world."""
        posed = self.pose(params)
        skull = self.joint_names.index(self.skull_joint)
        transform = posed.joint_transforms[..., skull, :, :]
        pivot = self.rest_joints(params, posed.rest)[..., skull, :, None]
        position = transform[..., :3, 3:] - transform[..., :3, :3] @ (pivot * params.scale[..., None, None])
        return torch.cat([torch.cat([transform[..., :3, :3], position], -1), transform[..., 3:, :]], -2)


def _coefficients(params: HeadParams) -> Float[Tensor, "*B S+E"]:
    batch = torch.broadcast_shapes(params.identity.shape[:-1], params.expression.shape[:-1])
    return torch.cat([params.identity.expand(*batch, -1), params.expression.expand(*batch, -1)], dim=-1)


def fingerprint(*arrays: Tensor) -> str:
    """SHA-256 (hex) over arrays: floats as little-endian float32, integers as little-endian int32, C order."""
    digest = hashlib.sha256()
    for array in arrays:
        kind = "<f4" if array.is_floating_point() else "<i4"
        digest.update(np.ascontiguousarray(array.detach().cpu().numpy().astype(kind)).tobytes())
    return digest.hexdigest()
