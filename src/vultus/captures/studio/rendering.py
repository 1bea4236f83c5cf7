"""The studio: one person in one light, posed by head parameters and seen through cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.studio.dressing import dress
from vultus.captures.studio.fibres import draw_fibres, pose_fibres
from vultus.captures.studio.labels import NUMBER
from vultus.captures.studio.lighting import Lighting, irradiance, lamp_visibility, studio_lighting
from vultus.captures.studio.painting import GAMMA
from vultus.captures.studio.people import Person
from vultus.captures.studio.sampling import Samples, take_samples
from vultus.heads.model import HeadModel
from vultus.meshes import rasterize_mesh, vertex_normals
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix

_VISIBLE_WITHIN = 0.004
"""Metres that a landmark may lie behind what its pixel shows and still be seen."""
_WET = 0.3
"""Gloss above which a surface is wet or metal."""


@dataclass(frozen=True)
class Truth:
    """What is known exactly about every pixel's middle.

    labels: numbers of `LABELS`. depth: camera-space z in metres, 0 where nothing is. normals: unit, world; 0 where
    nothing is. uv: texture coordinates of the head model, -1 off the head. Depth, normals and uv are of the meshes:
    hair in front of them is only in the labels.
    """

    labels: Int[Tensor, "H W"]
    depth: Float[Tensor, "H W"]
    normals: Float[Tensor, "H W 3"]
    uv: Float[Tensor, "H W 2"]


@dataclass(frozen=True)
class Shot:
    """A picture: straight sRGB colours in [0, 1] and how much of each pixel the person covers."""

    image: Float[Tensor, "H W 3"]
    alpha: Float[Tensor, "H W 1"]
    truth: Truth | None = None

    def over(self, background: float | Float[Tensor, "3"]) -> Float[Tensor, "H W 3"]:
        """The picture over a background."""
        return self.image * self.alpha + (1 - self.alpha) * background


class Studio:
    """One person of a head model in one light.

    Args:
        head: the head model; it needs texture coordinates and, unless it is the built-in one, the landmarks `ibug68`.
        person: see `make_person`.
        lighting: see `studio_lighting` (default) and `random_lighting`.
        wardrobe: hair, beard, clothes, hat, glasses and earrings have shapes of their own; without it, hair and a
            shirt are painted on the head model's surface and nothing else is worn.
        size: side of the pictures to come (pixels), which decides the fineness of textures and hair.

    Raises:
        VultusError: a head model that cannot be painted.
    """

    def __init__(
        self,
        head: HeadModel,
        person: Person,
        lighting: Lighting | None = None,
        *,
        wardrobe: bool = False,
        size: int = 512,
    ) -> None:
        self.head, self.person = head, person
        self.lighting = studio_lighting() if lighting is None else lighting
        self.dressed = dress(head, person, wardrobe=wardrobe, size=size)

    def pose(self, params: HeadParams) -> Stage:
        """The person in one pose (parameters without batch), ready for any number of cameras."""
        with torch.no_grad():
            return Stage(self, params)

    def render(self, params: HeadParams, camera: Camera, *, truth: bool = False) -> Shot:
        """A picture of one pose through one camera; see `Stage.shoot`."""
        return self.pose(params).shoot(camera, truth=truth)


class Stage:
    """A posed person: the surfaces and the light on them. Several threads may shoot one stage at once."""

    def __init__(self, studio: Studio, params: HeadParams) -> None:
        self.studio, self.params = studio, params
        head, dressed, lighting = studio.head, studio.dressed, studio.lighting
        skull = head.head_to_world(params)
        scale = float(params.scale)
        posed = head.pose(params).vertices
        self.head_vertices = posed
        self.vertices = self._worn(posed, skull, scale)
        self.faces = dressed.faces
        self.normals = vertex_normals(self.vertices, self.faces)
        turn = skull[:3, :3] if lighting.follows_head else torch.eye(3)
        self.lamps = lighting.directions @ turn.T
        middle = posed.mean(0)
        visible = lamp_visibility(self.vertices, self.faces, self.normals, lighting, self.lamps, middle)
        light = irradiance(self.normals @ turn, dressed.occlusion, visible, lighting)
        key_seen = visible[0] * (0.4 + 0.6 * dressed.occlusion)
        per_vertex = torch.cat([light, self.normals, key_seen[:, None]], dim=1)
        self._corners = torch.cat([dressed.corner_uv, per_vertex[self.faces]], dim=-1)
        self._fibres = None
        if dressed.fibres is not None:
            place = skull[:3, :3], skull[:3, 3], scale
            rest = dressed.rest[: len(posed)]
            self._fibres = pose_fibres(dressed.fibres, rest, posed, head.faces, place, lighting, self.lamps, turn)

    def _worn(self, posed: Tensor, skull: Float[Tensor, "4 4"], scale: float) -> Float[Tensor, "V 3"]:
        """The head's vertices and those of what is worn, which skull or shoulders carry."""
        dressed, params = self.studio.dressed, self.params
        vertices = dressed.rest.clone()
        vertices[: len(posed)] = posed
        if len(dressed.on_skull):
            vertices[dressed.on_skull] = scale * dressed.rest[dressed.on_skull] @ skull[:3, :3].T + skull[:3, 3]
        if len(dressed.on_shoulders):
            turn = axis_angle_to_matrix(params.joint(self.studio.head.joint_names[0]))
            pivot = self._root()
            moved = (scale * (dressed.rest[dressed.on_shoulders] - pivot)) @ turn.T + scale * pivot
            vertices[dressed.on_shoulders] = moved + params.translation
        return vertices

    def _root(self) -> Float[Tensor, "3"]:
        """The root joint of the person at rest."""
        from dataclasses import replace

        head = self.studio.head
        return head.pose(replace(head.neutral(), identity=self.params.identity, offset=self.params.offset)).joints[0]

    def landmarks(self, camera: Camera, landmark_set: str) -> tuple[Float[Tensor, "L 2"], Float[Tensor, "L"]]:
        """Landmarks in pixels, and 1 for those that are seen, 0 for those hidden or outside the picture."""
        points = self.studio.head.landmarks(self.head_vertices, landmark_set)
        places, z = camera.project(points), camera.to_camera(points)[:, 2]
        depth = rasterize_mesh(self.vertices, self.faces, camera).depth
        column, row = places.floor().long().unbind(-1)
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height) & (z > 0)
        shown = depth[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
        seen = inside & ((shown == 0) | (z <= shown + _VISIBLE_WITHIN))
        return places, seen.to(places.dtype)

    def shoot(self, camera: Camera, *, truth: bool = False) -> Shot:
        """A picture through an unbatched camera; `truth` adds what is known about every pixel."""
        with torch.no_grad():
            size = (camera.height, camera.width)
            samples = take_samples(self.vertices, self.faces, self.studio.dressed.groups, camera)
            values = (self._corners[samples.face] * samples.barycentric[..., None]).sum(1)
            color = self._shade(samples, values, camera)
            covered = samples.gather(torch.cat([color, torch.ones(len(color), 1)], dim=1)).reshape(*size, 4)
            hair_kind = None
            if self._fibres is not None:
                hair, thick, hair_kind = draw_fibres(self._fibres, camera, samples.center.depth)
                covered = torch.cat([hair, thick], dim=-1) + (1 - thick) * covered
                hair_kind = torch.cat([thick, hair_kind], dim=-1)
            alpha = covered[..., 3:]
            image = (covered[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1)
            known = self._truth(samples, hair_kind) if truth else None
            return Shot(image, alpha.clamp(0, 1), known)

    def _shade(self, samples: Samples, values: Float[Tensor, "M 9"], camera: Camera) -> Float[Tensor, "M 3"]:
        texel = torch.nn.functional.grid_sample(
            self.studio.dressed.texture,
            (values[:, :2] * 2 - 1)[None, None],
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )[0, :, 0].T
        normals = torch.nn.functional.normalize(values[:, 5:8], dim=-1)
        light = texel[:, :3] * values[:, 2:5]
        light = light + self._highlights(normals, self._to_eye(samples, camera), texel[:, 3:], values[:, 8:])
        # Film keeps the brightest tones apart.
        light = torch.where(light > 0.7, 0.7 + 0.3 * torch.tanh((light - 0.7) / 0.3), light)
        return light.clamp(0, 1) ** (1 / GAMMA)

    def _to_eye(self, samples: Samples, camera: Camera) -> Float[Tensor, "M 3"]:
        x = (samples.pixel % camera.width + 0.5 - camera.K[0, 2]) / camera.K[0, 0]
        y = (samples.pixel // camera.width + 0.5 - camera.K[1, 2]) / camera.K[1, 1]
        ray = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ camera.world_to_camera[:3, :3]
        return -torch.nn.functional.normalize(ray, dim=-1)

    def _highlights(
        self, normals: Tensor, view: Tensor, gloss: Float[Tensor, "M 1"], seen: Float[Tensor, "M 1"]
    ) -> Float[Tensor, "M 3"]:
        """Blinn's highlights of every lamp: broad and faint on skin, small and bright on wet surfaces."""
        wet = (gloss > _WET).float()
        power, strength = 18 + 200 * wet, self.studio.lighting.gloss * gloss * (1 + 2.5 * wet)
        facing = (normals * view).sum(-1, keepdim=True).clamp(0, 1)
        rim = 1 + 2.5 * (1 - facing) ** 4
        total = torch.zeros_like(normals)
        for row, (lamp, color) in enumerate(zip(self.lamps, self.studio.lighting.colors, strict=True)):
            half = torch.nn.functional.normalize(view + lamp, dim=-1)
            shine = (normals * half).sum(-1, keepdim=True).clamp(0, 1) ** power
            total = total + shine * (seen if row == 0 else 1.0) * color
        return total * strength * rim * 2.0

    def _truth(self, samples: Samples, hair: Float[Tensor, "H W 3"] | None) -> Truth:
        center, dressed, head = samples.center, self.studio.dressed, self.studio.head
        shown = center.face_ids >= 0
        face, weights = center.face_ids[shown], center.barycentric[shown][..., None]
        height, width = dressed.labels.shape
        place = (dressed.corner_uv[face] * weights).sum(1) * torch.tensor([float(width), float(height)])
        column, row = place.floor().long().unbind(-1)
        labels = torch.zeros(center.face_ids.shape, dtype=torch.int64)
        labels[shown] = dressed.labels[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        if hair is not None:
            thick, beard, brow = hair.unbind(-1)
            kind = torch.where(beard > 0.5 * thick, NUMBER["beard"], NUMBER["hair"])
            # Single lashes and brow hairs stay what they are in front of.
            labels = torch.where((thick > 0.5) & (brow <= 0.5 * thick), kind, labels)
        normals = torch.zeros(*labels.shape, 3)
        normals[shown] = torch.nn.functional.normalize((self.normals[self.faces[face]] * weights).sum(1), dim=-1)
        uv = torch.full((*labels.shape, 2), -1.0)
        on_head = shown & (center.face_ids < len(head.faces))
        face, weights = center.face_ids[on_head], center.barycentric[on_head][..., None]
        uv[on_head] = (head.uvs[head.uv_faces[face]] * weights).sum(1)
        return Truth(labels, center.depth, normals, uv)
