"""One person's surfaces and textures together: the head model's mesh, what is worn on it, and the hair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.captures.studio.fibres import Fibres, as_fibres
from vultus.captures.studio.garments import Garment
from vultus.captures.studio.growth import grow_hair
from vultus.captures.studio.labels import NUMBER, texel_labels
from vultus.captures.studio.painting import paint
from vultus.captures.studio.people import Person
from vultus.captures.studio.strands import Ground
from vultus.captures.studio.surface import anatomy_of, surface_of
from vultus.captures.studio.wardrobe import dressed
from vultus.heads.model import HeadModel
from vultus.meshes import vertex_normals

_HAIR_REACH = 0.014
"""Metres around a place of the skin from which hair takes its light."""


@dataclass(frozen=True)
class Dressed:
    """Everything about a person that no pose changes.

    rest: vertices of the head, then of the garments, in the rest pose (metres). faces, groups: of both; pixels on
    different groups are never smoothed into one. corner_uv: place in the texture of every corner of every face.
    texture: linear red, green, blue and gloss; labels: of its texels. occlusion: per vertex. on_skull, on_shoulders:
    numbers of the garments' vertices that each carries.
    """

    rest: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    groups: Int[Tensor, "F"]
    corner_uv: Float[Tensor, "F 3 2"]
    texture: Float[Tensor, "1 4 h w"]
    labels: Int[Tensor, "h w"]
    occlusion: Float[Tensor, "V"]
    on_skull: Int[Tensor, "_"]
    on_shoulders: Int[Tensor, "_"]
    fibres: Fibres | None


def dress(head: HeadModel, person: Person, *, wardrobe: bool, size: int) -> Dressed:
    """A person ready to be posed; `size` is that of the pictures. wardrobe=False leaves hair and shirt to paint."""
    texels = surface_of(head, 1024 if size > 320 else 512)
    anatomy = anatomy_of(head)
    head_rest = head.pose(replace(head.neutral(), identity=person.identity)).vertices
    # The shirt is cut for the built-in bust: what of another one comes through it wears the same cloth.
    shirt_painted = not wardrobe or not anatomy.is_own
    painted = paint(texels, person, hair_painted=not wardrobe, shirt_painted=shirt_painted)
    labels = texel_labels(texels, person, shirt_painted=shirt_painted)
    label_image = labels[texels.fill].reshape(texels.size, texels.size)
    garments = dressed(person, head_rest, anatomy, head.faces) if wardrobe else []
    texture, label_image, uvs = _canvas(painted, label_image, garments)
    parts, faces, groups, corner_uv = [head_rest], [head.faces], [anatomy.part[head.faces].amax(1)], []
    height = texels.size / texture.shape[-2]
    head_uv = head.uvs[head.uv_faces]
    corner_uv = [torch.stack([head_uv[..., 0], (1 - head_uv[..., 1]) * height], dim=-1)]
    carried: dict[str, list[Tensor]] = {"skull": [], "shoulders": []}
    count = len(head_rest)
    for number, (garment, uv) in enumerate(zip(garments, uvs, strict=True)):
        parts.append(garment.vertices)
        faces.append(garment.faces + count)
        groups.append(torch.full((len(garment.faces),), 100 + number))
        corner_uv.append(uv[garment.faces])
        carried[garment.carrier].append(torch.arange(len(garment.vertices)) + count)
        count += len(garment.vertices)
    rest = torch.cat(parts)
    all_faces = torch.cat(faces)
    occlusion = torch.cat([anatomy.occlusion, torch.ones(count - len(head_rest))])
    fibres = None
    if wardrobe:
        normals = vertex_normals(head_rest, head.faces)
        ground = Ground(
            head_rest.double().numpy() * 1000, normals.double().numpy(), head.faces.numpy(), anatomy, garments
        )
        strands = grow_hair(person, ground, size / 512)
        fibres = as_fibres(strands, person, normals, head.faces)
        occlusion = occlusion * _under_hair(fibres, rest, vertex_normals(rest, all_faces), size)
    empty = torch.zeros(0, dtype=torch.int64)
    return Dressed(
        rest,
        all_faces,
        torch.cat(groups),
        torch.cat(corner_uv),
        texture,
        label_image,
        occlusion,
        torch.cat(carried["skull"]) if carried["skull"] else empty,
        torch.cat(carried["shoulders"]) if carried["shoulders"] else empty,
        fibres,
    )


def _canvas(
    painted: Float[Tensor, "1 4 T T"], labels: Int[Tensor, "T T"], garments: list[Garment]
) -> tuple[Float[Tensor, "1 4 h w"], Int[Tensor, "h w"], list[Float[Tensor, "V 2"]]]:
    """The head's texture with the garments' in a row below, and where the garments' vertices are in it."""
    if not garments:
        return painted, labels, []
    size = painted.shape[-1]
    side = size // 4
    row = torch.zeros(4, side, size)
    row_labels = torch.zeros(side, size, dtype=torch.int64)
    uvs = []
    for number, garment in enumerate(garments):
        left = number * side
        row[:, :, left : left + side] = torch.nn.functional.interpolate(
            garment.texture[None], (side, side), mode="area"
        )
        row_labels[:, left : left + side] = NUMBER[garment.label]
        # A little inside, so that neighbours do not bleed in.
        inside = 0.75 + garment.uvs * (side - 1.5)
        uvs.append(torch.stack([(left + inside[:, 0]) / size, (size + inside[:, 1]) / (size + side)], dim=-1))
    return torch.cat([painted, row[None]], dim=2), torch.cat([labels, row_labels]), uvs


def _under_hair(
    fibres: Fibres | None, vertices: Float[Tensor, "V 3"], normals: Float[Tensor, "V 3"], size: int
) -> Float[Tensor, "V"]:
    """How much light gets past the hair: less where many strands are near and in front."""
    from scipy.spatial import KDTree

    if fibres is None:
        return torch.ones(len(vertices))
    middle = (fibres.points[fibres.start] + fibres.points[fibres.end]) / 2
    length = (fibres.points[fibres.end] - fibres.points[fibres.start]).norm(dim=-1)
    scalp = fibres.kind <= 1
    # As many points as strands are long: a fixed number per millimetre.
    sample = np.random.default_rng(0).random(len(middle)) < (length / 0.012).clamp(0, 1).numpy()
    chosen = middle[scalp].numpy()[sample[scalp.numpy()]]
    if not len(chosen):
        return torch.ones(len(vertices))
    tree = KDTree(chosen)
    ahead = (vertices + normals * _HAIR_REACH * 0.75).numpy()
    count = tree.query_ball_point(ahead, _HAIR_REACH, return_length=True)
    dense = torch.from_numpy(np.asarray(count)).float() / (110 * min(max(size / 512, 0.1), 1.5))
    return 0.38 + 0.62 * torch.exp(-dense)
