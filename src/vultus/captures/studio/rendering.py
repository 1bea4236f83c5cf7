"""The studio: one person in one light, posed by head parameters and seen through cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.studio.dressing import dress
from vultus.captures.studio.fibres import PosedFibres, draw_fibres, pose_fibres
from vultus.captures.studio.labels import NUMBER
from vultus.captures.studio.lighting import Lighting, irradiance, lamp_visibility, studio_lighting
from vultus.captures.studio.painting import GAMMA
from vultus.captures.studio.people import Person
from vultus.captures.studio.sampling import Samples, take_samples
from vultus.heads.model import HeadModel
from vultus.meshes import MeshRaster, rasterize_mesh, vertex_normals
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix

_VISIBLE_WITHIN = 0.004
"""Metres that a landmark may lie behind what its pixel shows and still be seen."""
_NEAR, _MARGIN = 0.05, 8
"""Metres before which nothing can be told of where a point is seen; pixels that hair reaches beyond its middle line."""
_WET = 0.3
"""Gloss above which a surface is wet or metal."""


class Truth:
    """What is known exactly about every pixel's middle.

    labels: numbers of `LABELS`. depth: camera-space z in metres, 0 where nothing is. normals: unit, world; 0 where
    nothing is. uv: texture coordinates of the head model, -1 off the head. Depth, normals and uv are of the meshes:
    hair in front of them is only in the labels. Each is computed when it is first asked for.
    """

    def __init__(self, stage: Stage, center: MeshRaster, place: _Window, hair: Float[Tensor, "h w 3"] | None) -> None:
        self._stage, self._center, self._place, self._hair = stage, center, place, hair

    @cached_property
    def depth(self) -> Float[Tensor, "H W"]:
        return self._place.whole(self._center.depth, 0.0)

    @cached_property
    def labels(self) -> Int[Tensor, "H W"]:
        center, dressed = self._center, self._stage.studio.dressed
        shown = center.face_ids >= 0
        height, width = dressed.labels.shape
        size = torch.tensor([float(width), float(height)])
        column, row = (self._blend(dressed.corner_uv, shown) * size).floor().long().unbind(-1)
        labels = torch.zeros(center.face_ids.shape, dtype=torch.int64)
        labels[shown] = dressed.labels[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        if self._hair is not None:
            thick, beard, brow = self._hair.unbind(-1)
            kind = torch.where(beard > 0.5 * thick, NUMBER["beard"], NUMBER["hair"])
            # Single lashes and brow hairs stay what they are in front of.
            labels = torch.where((thick > 0.5) & (brow <= 0.5 * thick), kind, labels)
        return self._place.whole(labels, 0)

    @cached_property
    def normals(self) -> Float[Tensor, "H W 3"]:
        shown = self._center.face_ids >= 0
        normals = torch.zeros(*shown.shape, 3)
        mixed = self._blend(self._stage.normals[self._stage.faces], shown)
        normals[shown] = torch.nn.functional.normalize(mixed, dim=-1)
        return self._place.whole(normals, 0.0)

    @cached_property
    def uv(self) -> Float[Tensor, "H W 2"]:
        head = self._stage.studio.head
        on_head = (self._center.face_ids >= 0) & (self._center.face_ids < len(head.faces))
        uv = torch.full((*on_head.shape, 2), -1.0)
        uv[on_head] = self._blend(head.uvs[head.uv_faces], on_head)
        return self._place.whole(uv, -1.0)

    def _blend(self, corners: Float[Tensor, "F 3 C"], chosen: Bool[Tensor, "h w"]) -> Float[Tensor, "N C"]:
        face, weights = self._center.face_ids[chosen], self._center.barycentric[chosen]
        return (corners[face] * weights[..., None]).sum(1)


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
        head = self.studio.head
        return head.pose(replace(head.neutral(), identity=self.params.identity, offset=self.params.offset)).joints[0]

    def landmarks(
        self, camera: Camera, landmark_set: str, *, depth: Float[Tensor, "H W"] | None = None
    ) -> tuple[Float[Tensor, "L 2"], Float[Tensor, "L"]]:
        """Landmarks in pixels, and 1 for those that are seen, 0 for those that a mesh hides or that are outside the
        picture. `depth` is the true depth of this camera, where it is at hand."""
        points = self.studio.head.landmarks(self.head_vertices, landmark_set)
        places, z = camera.project(points), camera.to_camera(points)[:, 2]
        if depth is None:
            depth = rasterize_mesh(self.vertices, self.faces, camera).depth
        column, row = places.floor().long().unbind(-1)
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height) & (z > 0)
        shown = depth[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
        seen = inside & ((shown == 0) | (z <= shown + _VISIBLE_WITHIN))
        return places, seen.to(places.dtype)

    def shoot(self, camera: Camera, *, truth: bool = False) -> Shot:
        """A picture through an unbatched camera; `truth` adds what is known about every pixel."""
        with torch.no_grad():
            place = _Window.around(self.vertices, self._fibres, camera)
            view = camera.cropped(place.left, place.top, place.width, place.height)
            size = (view.height, view.width)
            samples = take_samples(self.vertices, self.faces, self.studio.dressed.groups, view)
            values = (self._corners[samples.face] * samples.barycentric[..., None]).sum(1)
            color = self._shade(samples, values, view)
            covered = samples.gather(torch.cat([color, torch.ones(len(color), 1)], dim=1)).reshape(*size, 4)
            hair_kind = None
            if self._fibres is not None:
                hair, thick, hair_kind = draw_fibres(self._fibres, view, samples.center.depth)
                covered = torch.cat([hair, thick], dim=-1) + (1 - thick) * covered
                hair_kind = torch.cat([thick, hair_kind], dim=-1)
            alpha = covered[..., 3:]
            image = (covered[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1)
            known = Truth(self, samples.center, place, hair_kind) if truth else None
            return Shot(place.whole(image, 0.0), place.whole(alpha.clamp(0, 1), 0.0), known)

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
            shine = (power * (normals * half).sum(-1, keepdim=True).clamp_min(1e-4).log2()).exp2()
            total = total + shine * (seen if row == 0 else 1.0) * color
        return total * strength * rim * 2.0


@dataclass(frozen=True)
class _Window:
    """The part of a picture that can show anything."""

    left: int
    top: int
    width: int
    height: int
    full_width: int
    full_height: int

    @staticmethod
    def around(vertices: Float[Tensor, "V 3"], fibres: PosedFibres | None, camera: Camera) -> _Window:
        points = vertices if fibres is None else torch.cat([vertices, fibres.means[:: 1 + len(fibres.means) // 20000]])
        if bool((camera.to_camera(points)[:, 2] < _NEAR).any()):
            return _Window(0, 0, camera.width, camera.height, camera.width, camera.height)
        places = camera.project(points)
        limit = torch.tensor([camera.width, camera.height])
        low = (places.amin(0).floor().long() - _MARGIN).clamp_min(0).minimum(limit - 1)
        high = (places.amax(0).ceil().long() + _MARGIN).minimum(limit).maximum(low + 1)
        (left, top), (right, bottom) = low.tolist(), high.tolist()
        return _Window(left, top, right - left, bottom - top, camera.width, camera.height)

    def whole(self, part: Tensor, fill: float) -> Tensor:
        """The part as a whole picture."""
        result = part.new_full((self.full_height, self.full_width, *part.shape[2:]), fill)
        result[self.top : self.top + self.height, self.left : self.left + self.width] = part
        return result
