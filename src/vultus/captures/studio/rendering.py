"""The studio: one person in one light, posed by head parameters and seen through cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.studio.labels import face_labels
from vultus.captures.studio.lighting import Lighting, irradiance, lamp_visibility, studio_lighting
from vultus.captures.studio.painting import GAMMA, paint
from vultus.captures.studio.people import Person
from vultus.captures.studio.sampling import Samples, take_samples
from vultus.captures.studio.surface import anatomy_of, surface_of
from vultus.heads.model import HeadModel
from vultus.meshes import rasterize_mesh, vertex_normals
from vultus.motion import HeadParams

_VISIBLE_WITHIN = 0.004
"""Metres that a landmark may lie behind what its pixel shows and still be seen."""


@dataclass(frozen=True)
class Truth:
    """What is known exactly about every pixel's middle, and where the landmarks are.

    labels: numbers of `LABELS`. depth: camera-space z in metres, 0 where nothing is. normals: unit, world; 0 where
    nothing is. uv: texture coordinates of the head model, -1 off the head. Depth, normals and uv are of the meshes:
    hair in front of them is only in the labels. landmarks: pixels, by set; landmark_weights: 1 seen, 0 hidden.
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
        head: the head model; it needs texture coordinates and the landmark set `ibug68`.
        person: see `make_person`.
        lighting: see `studio_lighting` and `random_lighting`.
        size: pixels of the pictures to come, which decides the fineness of the texture.

    Raises:
        VultusError: a head model that cannot be painted.
    """

    def __init__(self, head: HeadModel, person: Person, lighting: Lighting | None = None, *, size: int = 512) -> None:
        self.head, self.person = head, person
        self.lighting = studio_lighting() if lighting is None else lighting
        texture = 1024 if size > 320 else 512
        self.texture = paint(surface_of(head, texture), person, hair_painted=True, shirt_painted=True)
        self.labels = face_labels(head, hair_painted=True, shirt_painted=True, bald=person.hair.style == "bald")
        self.occlusion = anatomy_of(head).occlusion

    def pose(self, params: HeadParams) -> Stage:
        """The person in one pose (parameters without batch), ready for any number of cameras."""
        return Stage(self, params)

    def render(self, params: HeadParams, camera: Camera, *, truth: bool = False) -> Shot:
        """A picture of one pose through one camera; see `Stage.shoot`."""
        return self.pose(params).shoot(camera, truth=truth)


class Stage:
    """A posed person: the surfaces and the light on them. Threads may shoot the same stage at once."""

    def __init__(self, studio: Studio, params: HeadParams) -> None:
        self.studio, self.params = studio, params
        head = studio.head
        self.vertices = head.pose(params).vertices
        self.faces = head.faces
        self.normals = vertex_normals(self.vertices, head.faces)
        lighting = studio.lighting
        turn = head.head_to_world(params)[:3, :3] if lighting.follows_head else torch.eye(3)
        self.lamps = lighting.directions @ turn.T
        middle = self.vertices.mean(0)
        visible = lamp_visibility(self.vertices, self.faces, self.normals, lighting, self.lamps, middle)
        self.light = irradiance(self.normals @ turn, studio.occlusion, visible, lighting)
        self.key_seen = visible[0] * (0.4 + 0.6 * studio.occlusion)
        corner_uv = head.uvs[head.uv_faces]
        self._corners = torch.cat(
            [
                corner_uv,
                self._at_corners(self.light),
                self._at_corners(self.normals),
                self._at_corners(self.key_seen[:, None]),
            ],
            dim=-1,
        )

    def _at_corners(self, values: Float[Tensor, "V C"]) -> Float[Tensor, "F 3 C"]:
        return values[self.faces]

    def landmarks(self, camera: Camera, landmark_set: str) -> tuple[Float[Tensor, "L 2"], Float[Tensor, "L"]]:
        """Landmarks in pixels, and 1 for those that are seen, 0 for those hidden or outside the picture."""
        points = self.studio.head.landmarks(self.vertices, landmark_set)
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
            samples = take_samples(self.vertices, self.faces, self.studio.labels, camera)
            values = (self._corners[samples.face] * samples.barycentric[..., None]).sum(1)
            color = self._shade(samples, values, camera)
            covered = samples.gather(torch.cat([color, torch.ones(len(color), 1)], dim=1))
            alpha = covered[:, 3:]
            image = covered[:, :3] / alpha.clamp_min(1e-6)
            size = (camera.height, camera.width)
            known = self._truth(samples, camera) if truth else None
            return Shot(image.reshape(*size, 3), alpha.clamp(0, 1).reshape(*size, 1), known)

    def _shade(self, samples: Samples, values: Float[Tensor, "M 9"], camera: Camera) -> Float[Tensor, "M 3"]:
        grid = values[:, :2] * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])
        texel = torch.nn.functional.grid_sample(
            self.studio.texture, grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0].T
        normals = torch.nn.functional.normalize(values[:, 5:8], dim=-1)
        light = texel[:, :3] * values[:, 2:5]
        gloss = texel[:, 3:] * self.studio.lighting.gloss
        view = self._to_eye(samples, camera)
        light = light + self._highlights(normals, view, gloss, values[:, 8:])
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
        wet = (gloss / max(self.studio.lighting.gloss, 1e-6) > 0.3).float()
        power, strength = 18 + 200 * wet, gloss * (1 + 2.5 * wet)
        facing = (normals * view).sum(-1, keepdim=True).clamp(0, 1)
        rim = 1 + 2.5 * (1 - facing) ** 4
        total = torch.zeros_like(normals)
        for row, (lamp, color) in enumerate(zip(self.lamps, self.studio.lighting.colors, strict=True)):
            half = torch.nn.functional.normalize(view + lamp, dim=-1)
            shine = (normals * half).sum(-1, keepdim=True).clamp(0, 1) ** power
            shine = shine * (seen if row == 0 else 1.0)
            total = total + shine * color
        return total * strength * rim * 2.0

    def _truth(self, samples: Samples, camera: Camera) -> Truth:
        center = samples.center
        shown = center.face_ids >= 0
        face, weights = center.face_ids[shown], center.barycentric[shown]
        labels = torch.zeros(center.face_ids.shape, dtype=torch.uint8)
        labels[shown] = self.studio.labels[face].to(torch.uint8)
        normals = torch.zeros(*labels.shape, 3)
        normals[shown] = torch.nn.functional.normalize(
            (self.normals[self.faces[face]] * weights[..., None]).sum(1), dim=-1
        )
        uv = torch.full((*labels.shape, 2), -1.0)
        uv[shown] = (self.studio.head.uvs[self.studio.head.uv_faces[face]] * weights[..., None]).sum(1)
        return Truth(labels, center.depth, normals, uv)
