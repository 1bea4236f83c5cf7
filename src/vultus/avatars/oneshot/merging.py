"""Splats of several pictures of one person as the splats of one avatar.

The published network knows one picture. Its splats lie in the frame of the head model, whose skull never moves, so
those of several pictures lie on top of each other, each good where its camera looked straight at the surface. So every
place is shared between the pictures by how frontally they saw it: a softmax over the cosines between the surface's
normal there (that of the nearest vertex of the head model) and the directions to the cameras. What lies behind
something else is not found out. Nothing is learned for it, and several copies of one picture are that picture again.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.oneshot.generators import Attributes
from vultus.avatars.oneshot.head_space import network_faces
from vultus.avatars.oneshot.model import SourceSplats
from vultus.heads.model import SkinnedHead
from vultus.meshes import vertex_normals

SHARPNESS = 8.0
"""How fast a picture gives way to one that saw the place more frontally: cosines times this, through a softmax."""
_OPAQUE = 1 - 1e-6


def merged(
    splats: SourceSplats,
    transforms: Float[Tensor, "P 3 4"],
    vertices: Float[Tensor, "V 3"],
    head: SkinnedHead,
    *,
    sharpness: float = SHARPNESS,
) -> SourceSplats:
    """The splats of P pictures as a batch of one: a splat per vertex, then both sheets of the first picture, of the
    second, and so on.

    Vertices' splats are means, weighted by the pictures' shares of the vertex. The sheets stay where they are; a splat
    of opacity `o` whose picture has the share `w` of its place gets `1 - (1 - o)^w`, so that P coincident splats are
    as dense as one of them (in the middle; towards the rim of opaque ones a little denser).

    Args:
        transforms: the native cameras. vertices: the head model at rest, native units.
    """
    count, attributes = len(transforms), splats.attributes
    if count == 1:
        return splats
    vertex_count = len(vertices)
    normals = vertex_normals(vertices, network_faces(head))
    rotation, translation = transforms[..., :3], transforms[..., 3]
    eyes = -(rotation @ translation[..., None])[..., 0]
    at_vertices = _shares(vertices, normals, eyes, sharpness)
    at_sheets = []
    nearest = _nearest(vertices, splats.lifted)
    for picture, places in enumerate(splats.lifted):
        at_sheets.append(_shares(places, normals[nearest[picture]], eyes, sharpness)[picture])

    def mean(values: Float[Tensor, "P N C"]) -> Float[Tensor, "V C"]:
        return (values[:, :vertex_count] * at_vertices[..., None]).sum(0)

    def sheets(values: Float[Tensor, "P N C"]) -> Float[Tensor, "P*M C"]:
        return values[:, vertex_count:].flatten(0, 1)

    rotations = attributes.rotations[:, :vertex_count]
    # A quaternion and its negative are the same rotation: all on the side of the first picture's.
    rotations = torch.where((rotations * rotations[:1]).sum(-1, keepdim=True) < 0, -rotations, rotations)
    mean_rotation = (rotations * at_vertices[..., None]).sum(0)
    # Of the published network's own normalisation (over all vertices) the mean keeps what counts: hardly any turn.
    sizes = (rotations.norm(dim=-1, keepdim=True) * at_vertices[..., None]).sum(0)
    mean_rotation = mean_rotation * sizes / mean_rotation.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    density = -torch.log1p(-sheets(attributes.opacities).clamp(max=_OPAQUE))
    opacities = -torch.expm1(-density * torch.cat(at_sheets)[:, None])
    return SourceSplats(
        Attributes(
            features=torch.cat([mean(attributes.features), sheets(attributes.features)])[None],
            opacities=torch.cat([mean(attributes.opacities), opacities])[None],
            scales=torch.cat([mean(attributes.scales), sheets(attributes.scales)])[None],
            rotations=torch.cat([mean_rotation, sheets(attributes.rotations)])[None],
        ),
        splats.lifted.flatten(0, 1)[None],
    )


def _shares(
    places: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], eyes: Float[Tensor, "P 3"], sharpness: float
) -> Float[Tensor, "P N"]:
    """How much of each place belongs to each picture; they add up to 1."""
    to_eyes = torch.nn.functional.normalize(eyes[:, None] - places, dim=-1)
    return (sharpness * (to_eyes * normals).sum(-1)).softmax(0)


def _nearest(vertices: Float[Tensor, "V 3"], places: Float[Tensor, "P M 3"]) -> Tensor:
    """The number of the vertex that is nearest to each place."""
    from scipy.spatial import KDTree

    tree = KDTree(vertices.double().numpy())
    found = tree.query(places.reshape(-1, 3).double().numpy())[1]
    return torch.from_numpy(found).reshape(places.shape[:-1])
