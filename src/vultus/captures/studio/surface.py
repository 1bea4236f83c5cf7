"""Where the texels of a head model lie on the face: everything about painting that does not depend on the person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads.builtin.sculpt.colours import Places, brow_weight, hair_lift, hair_weight, value_noise
from vultus.heads.load import load_head
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.meshes import rasterize_mesh

NOISE_FREQUENCIES = (0.045, 0.18, 0.9, 2.3)
"""Cycles per millimetre of the noise that skin is mottled with."""
_NOISE_SETS = 2
EYE_RADIUS = 12.2
# Parts by number, as the built-in head numbers them; other heads' parts come from their regions.
SKIN, LID, MOUTH_BAG, EAR, LEFT_EYE, RIGHT_EYE, TEETH_UPPER, TEETH_LOWER, TONGUE = range(9)
_PARTS = (
    ("mouth_bag", MOUTH_BAG), ("teeth", TEETH_UPPER), ("teeth_upper", TEETH_UPPER), ("teeth_lower", TEETH_LOWER),
    ("tongue", TONGUE), ("gums", TEETH_UPPER), ("left_ear", EAR), ("right_ear", EAR), ("left_eyeball", LEFT_EYE),
    ("right_eyeball", RIGHT_EYE),
)  # fmt: skip
_WARP_SMOOTHING = 1e-3


def smoothstep(low: float, high: float, value: Tensor) -> Tensor:
    """Cubic ramp from 0 at `low` to 1 at `high` (either order), constant outside."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Anatomy:
    """The vertices of a head's rest pose, told apart.

    position: place on the built-in head's template that each vertex corresponds to, millimetres (x to the subject's
    left, y = 0 at the pupils, z out of the face). part: what it belongs to. lip, lid: 1 on the lips, on the lids' edge.
    occlusion: share of ambient light that reaches it. is_own: of the built-in head; another one's shoulders may be of
    any shape.
    """

    position: Float[Tensor, "V 3"]
    part: Int[Tensor, "V"]
    lip: Float[Tensor, "V"]
    lid: Float[Tensor, "V"]
    occlusion: Float[Tensor, "V"]
    is_own: bool = True

    def places(self) -> Places:
        """The same as the sculpt's painting functions take it."""
        return Places(self.position.double().numpy(), self.part.numpy(), self.lip.numpy(), self.lid.numpy())


@lru_cache(maxsize=2)
def anatomy_of(head: HeadModel) -> Anatomy:
    """Anatomy of a head model: the built-in head's own, any other's by bending it onto the built-in one by landmarks.

    Raises:
        VultusError: another head model without the 68 landmarks or without texture coordinates.
    """
    if not bool((head.uvs != head.uvs[:1]).any()):
        raise VultusError(
            f"the head model {head.name} has no texture coordinates, so that it cannot be painted; FLAME's are in "
            "head_template_mesh.obj, to be put beside the model"
        )
    attributes = getattr(head, "attributes", {})
    if "part" in attributes:
        return Anatomy(
            head.template * 1000,
            attributes["part"].long(),
            attributes["lip_weight"],
            attributes["lid_weight"],
            attributes["occlusion"],
        )
    part = torch.zeros(len(head.template), dtype=torch.int64)
    for name, number in _PARTS:
        if name in head.regions:
            part[head.regions[name]] = number
    position = _bent(head)
    for number, side in ((LEFT_EYE, 1.0), (RIGHT_EYE, -1.0)):
        own = part == number
        if bool(own.any()):
            ball = head.template[own]
            centre = (ball.amin(0) + ball.amax(0)) / 2
            radius = (ball - centre).norm(dim=-1).median()
            middle = torch.tensor([31.5 * side, 0.0, 71.0])
            position[own] = (ball - centre) / radius * EYE_RADIUS + middle
    lip, lid = (torch.zeros(len(part)) for _ in range(2))
    if "lips" in head.regions:
        lip[head.regions["lips"]] = 1.0
    inside = (part == MOUTH_BAG).float()
    depth = ((position[:, 2] - 40) / 45).clamp(0.2, 1)
    occlusion = torch.where(inside > 0, 0.35 * depth, torch.ones(len(part)))
    return Anatomy(position, part, lip, lid, occlusion, is_own=False)


def _bent(head: HeadModel) -> Float[Tensor, "V 3"]:
    """A head's template in the built-in head's coordinates (mm), thin plates through the 68 landmarks."""
    from scipy.interpolate import RBFInterpolator

    target = load_head()
    if "ibug68" not in head.landmark_sets:
        raise VultusError(
            f"the head model {head.name} has no landmarks, so that its face cannot be found; FLAME's are in "
            "landmark_embedding_with_eyes.npy, to be put beside the model"
        )
    source = head.landmarks(head.template, "ibug68")[:68]
    goal = target.landmarks(target.template, "ibug68")[:68]
    scale = (goal - goal.mean(0)).norm() / (source - source.mean(0)).norm()
    shift = goal.mean(0) - scale * source.mean(0)
    start = (source * scale + shift).double().numpy() * 1000
    bend = RBFInterpolator(start, goal.double().numpy() * 1000 - start, smoothing=_WARP_SMOOTHING, degree=1)
    points = (head.template * scale + shift).double().numpy() * 1000
    # Far from the face the plates would carry everything away; there, only scale and shift count.
    near = np.exp(-np.clip(np.linalg.norm(points - [0, -30, 60], axis=1) - 90, 0, None) / 40)
    return torch.from_numpy(points + bend(points) * near[:, None]).float()


@dataclass(frozen=True)
class Surface:
    """The texels of a square texture that lie on the head, one row each, and which of them fills each texel.

    position, part, lip, lid: as in `Anatomy`. fill: for every texel of the image the nearest used one.
    """

    size: int
    position: Float[Tensor, "N 3"]
    part: Int[Tensor, "N"]
    lip: Float[Tensor, "N"]
    lid: Float[Tensor, "N"]
    fill: Int[Tensor, "size*size"]
    noises: Float[Tensor, "K F N"]

    @cached_property
    def _places(self) -> Places:
        return Places(self.position.double().numpy(), self.part.numpy(), self.lip.numpy(), self.lid.numpy())

    @cached_property
    def is_skin(self) -> Bool[Tensor, "N"]:
        return (self.part == SKIN) | (self.part == EAR)

    @cached_property
    def brow(self) -> Float[Tensor, "N"]:
        """1 on the eyebrows, with a hairy edge."""
        return torch.from_numpy(brow_weight(self._places, rough=True)).float()

    @cached_property
    def brow_hairs(self) -> Float[Tensor, "N"]:
        return torch.from_numpy(self._places.brow_hairs()).float()

    @cached_property
    def scalp(self) -> Float[Tensor, "N"]:
        """1 where hair grows, with an irregular edge."""
        return torch.from_numpy(hair_weight(self._places, rough=True)).float()

    @cached_property
    def scalp_depth(self) -> Float[Tensor, "N"]:
        """0 at the hairline, 1 deep in the hair."""
        return torch.from_numpy(hair_lift(self._places)).float()

    @cached_property
    def strands(self) -> Float[Tensor, "N"]:
        """Streaks that run away from the crown, in [-.5, .5]."""
        p = self.position.double().numpy() - [0, 112, -32]
        angle = np.arctan2(p[:, 0], p[:, 2])
        out = np.linalg.norm(p, axis=1)
        fine = value_noise(np.stack([np.cos(angle) * 38, np.sin(angle) * 38, out * 0.05], axis=1))
        broad = value_noise(np.stack([np.cos(angle) * 13 + 7, np.sin(angle) * 13, out * 0.03], axis=1))
        return torch.from_numpy(0.6 * fine + 0.4 * broad).float()

    @cached_property
    def lip_wrinkles(self) -> Float[Tensor, "N"]:
        return torch.from_numpy(self._places.noise(0.7, (3.0, 0.4, 1.0))).float()

    def image(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "1 C size size"]:
        """Values of the used texels as a texture, seams filled; row 0 is v = 1."""
        return values[self.fill].reshape(self.size, self.size, -1).permute(2, 0, 1)[None].contiguous()


@lru_cache(maxsize=3)
def surface_of(head: HeadModel, size: int) -> Surface:
    """The texels of a head model's texture of `size` x `size`; kept, since all people share it."""
    from scipy.ndimage import distance_transform_edt

    anatomy = anatomy_of(head)
    flat = torch.stack([head.uvs[:, 0] * size, (1 - head.uvs[:, 1]) * size, torch.ones(len(head.uvs))], dim=-1)
    raster = rasterize_mesh(flat, head.uv_faces, Camera(torch.eye(4), torch.eye(3), size, size))
    used = raster.face_ids >= 0
    faces, weights = raster.face_ids[used], raster.barycentric[used]
    corners = head.faces[faces]

    def blend(values: Tensor) -> Tensor:
        return torch.einsum("nk,nk...->n...", weights, values[corners])

    # A triangle between the skin and another part belongs to the other part.
    part = anatomy.part[corners].amax(1)
    rows, columns = np.asarray(distance_transform_edt(~used.numpy(), return_distances=False, return_indices=True))
    number = torch.full((size, size), -1)
    number[used] = torch.arange(int(used.sum()))
    fill = number[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()].reshape(-1)
    position = blend(anatomy.position)
    noises = torch.stack([_noises(position, kind) for kind in range(_NOISE_SETS)])
    return Surface(size, position, part, blend(anatomy.lip), blend(anatomy.lid), fill, noises)


def _noises(position: Float[Tensor, "N 3"], kind: int) -> Float[Tensor, "F N"]:
    """Independent smooth noises in [-.5, .5] of the skin's frequencies."""
    places = position.double().numpy() + kind * np.array([311.0, 173.0, 97.0])
    return torch.stack([torch.from_numpy(value_noise(places * f)).float() for f in NOISE_FREQUENCIES])


def vertex_parts(head: SkinnedHead | HeadModel) -> Int[Tensor, "F"]:
    """The part every face belongs to: of its corners the one with the highest number."""
    return anatomy_of(head).part[head.faces].amax(1)
