"""Where pictures and a head's surface are compared: samples of the skin, who sees them, and what they should show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from vultus.heads import LandmarkSet, SkinnedHead
from vultus.meshes import rasterize_mesh, vertex_normals
from vultus.tracking.face_crops import Crops
from vultus.tracking.landmark_model import LandmarkModel
from vultus.tracking.landmark_solver import Problem, State

_SAMPLES = 2000
_REWEIGHTED, _LIGHT_ROUNDS = 5, 3
_HIDDEN, _JUMP = 0.006, 0.004
"""Metres: behind what is in front by this much is hidden; depth that differs by this much is another surface."""
_OUTLIER, _LIGHT_PRIOR = 0.05, 0.01


def surface_samples(head: SkinnedHead) -> LandmarkSet:
    """Vertices that show a face, thinned out."""
    chosen = held_skin(head)
    return vertex_landmarks(head, chosen[:: max(1, len(chosen) // _SAMPLES)])


def held_skin(head: SkinnedHead) -> Int[Tensor, "K"]:
    """The vertices of skin that moves with skull or jaw."""
    bust = head.weights[:, head.joint_names.index("root")] > 0.02
    low = torch.zeros(len(head.v_template), dtype=torch.bool)
    if "neck" in head.regions:
        low[head.regions["neck"]] = True
    skin = torch.zeros_like(low)
    skin[head.regions["skin" if "skin" in head.regions else "face"]] = True
    return (skin & ~bust & ~low).nonzero()[:, 0]


def vertex_landmarks(head: SkinnedHead, vertices: Tensor) -> LandmarkSet:
    """Vertices as landmarks, numbered by vertex."""
    flat = head.faces.flatten()
    first = torch.full((len(head.v_template),), -1, dtype=torch.int64)
    first[flat.flip(0)] = torch.arange(len(flat)).flip(0)
    place = first[vertices]
    barycentric = torch.nn.functional.one_hot(place % 3, 3).to(head.v_template)
    return LandmarkSet(vertices, place // 3, barycentric)


@dataclass(frozen=True)
class Sight:
    """How squarely each picture shows each sample (0: it is turned away or hidden), and the samples' normals."""

    visible: Float64[Tensor, "N L C"]
    normals: Float64[Tensor, "N L 3"]


def sight(
    head: SkinnedHead, problem: Problem, state: State, surface: LandmarkModel, crops: Crops, *, edge: int = 0
) -> Sight:
    """Which pictures show which samples. Within `edge` pixels of a jump in depth, and of what is no skin (eyes, the
    mouth's inside), nothing counts: a pixel there mixes the surface with what is behind it or beside it."""
    side = crops.images.shape[-1]
    hair = head.attributes.get("hair_weight")
    trust = torch.ones(len(surface.ids)) if hair is None else 1 - 0.7 * hair[surface.ids]
    skin = torch.zeros(len(head.v_template), dtype=torch.bool)
    skin[head.regions["skin" if "skin" in head.regions else "face"]] = True
    other = ~skin[head.faces].all(-1)
    rows, directions = [], []
    for index, vertices in enumerate(posed(head, problem, state)):
        normals = vertex_normals(vertices, head.faces)[surface.ids]
        views = []
        for view in range(problem.rig.cameras):
            camera = crops.camera(problem.rig, state.log_focal, index, view)
            raster = rasterize_mesh(vertices, head.faces, camera)
            depth = raster.depth
            seen = camera.to_camera(vertices[surface.ids])
            turned = normals @ camera.world_to_camera[:3, :3].T
            facing = -(turned * torch.nn.functional.normalize(seen, dim=-1)).sum(-1)
            x, y = camera.project(vertices[surface.ids]).floor().long().clamp(0, side - 1).unbind(-1)
            front = depth[y, x]
            open_to_view = (front == 0) | (seen[:, 2] < front + _HIDDEN)
            if edge:
                # What a surface turned by 75 degrees from the view does to depth within the window is no jump.
                pixel = seen[:, 2] / camera.K[0, 0]
                open_to_view &= depth_range(depth, edge)[y, x] < _JUMP + 4 * edge * pixel
                open_to_view &= ~near(other[raster.face_ids] & (raster.face_ids >= 0), edge)[y, x]
            views.append(((facing - 0.25) / 0.3).clamp(0, 1) * open_to_view * trust)
        rows.append(torch.stack(views, -1))
        directions.append(normals)
    return Sight(torch.stack(rows).double(), torch.stack(directions).double())


def posed(
    head: SkinnedHead, problem: Problem, state: State, offset: Float[Tensor, "V 3"] | None = None
) -> Iterator[Float[Tensor, "V 3"]]:
    """The head's vertices at every instant, metres."""
    joints, expression = problem.layout.joints(state.frames), problem.layout.expressions(state.frames)
    for index in range(len(state.frames)):
        params = replace(
            head.neutral(),
            identity=state.identity.float(),
            expression=expression[index].float(),
            joints={name: angle[index].float() for name, angle in joints.items()},
            translation=state.frames[index, 3:6].float(),
            offset=offset,
        )
        yield head.pose(params).vertices


def near(chosen: Bool[Tensor, "H W"], radius: int) -> Bool[Tensor, "H W"]:
    """Whether any pixel in a square of this many pixels around each is chosen."""
    width = 2 * radius + 1
    return torch.nn.functional.max_pool2d(chosen.float()[None, None], width, stride=1, padding=radius)[0, 0] > 0


def depth_range(depth: Float[Tensor, "H W"], radius: int) -> Float[Tensor, "H W"]:
    """Farthest minus nearest depth (metres) in a square of this many pixels around each; 0, nothing, is very far."""
    filled = torch.where(depth == 0, torch.full_like(depth, 1e3), depth)[None, None]
    width = 2 * radius + 1
    farthest, nearest = (
        torch.nn.functional.max_pool2d(sign * filled, width, stride=1, padding=radius)[0, 0] for sign in (1, -1)
    )
    return farthest + nearest


def shading(
    values: Float64[Tensor, "N L C"], weights: Float64[Tensor, "N L C"], normals: Float64[Tensor, "N L 3"]
) -> Float64[Tensor, "N L C"]:
    """By which factor each picture is brighter at a sample than the surface's own colour.

    A gain of every picture and, the same for all pictures of an instant, spherical harmonics of degree 2 of the
    normals (Lambertian light; Ramamoorthi and Hanrahan 2001), fitted by turns with the surface's colours.
    """
    weights = torch.where(values.isfinite(), weights, 0.0)
    values = values.nan_to_num()
    x, y, z = normals.unbind(-1)
    light = torch.stack([x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], -1)
    cameras = values.shape[2]
    basis = torch.cat(
        [
            torch.eye(cameras, dtype=values.dtype).expand(*values.shape, cameras),
            light[:, :, None].expand(*values.shape, 8),
        ],
        -1,
    )
    factor = torch.ones_like(values)
    for _ in range(_LIGHT_ROUNDS):
        color = robust_mean(values / factor, weights)
        design = basis * color[:, None, None]
        off = values - color[:, None]
        believed = weights * trusted((values / factor - color[:, None]) / _OUTLIER, 1.0)
        rows, target = (part.flatten(1, 2) for part in (design, off))
        weighted = rows * believed.flatten(1)[..., None]
        normal = weighted.transpose(1, 2) @ rows
        size = normal.diagonal(dim1=1, dim2=2).amax(-1).clamp_min(1e-9)
        normal = normal + (_LIGHT_PRIOR * size)[:, None, None] * torch.eye(basis.shape[-1], dtype=values.dtype)
        found = torch.linalg.solve(normal, (weighted.transpose(1, 2) @ target[..., None]))
        factor = (1 + (basis.flatten(1, 2) @ found)[..., 0].unflatten(1, values.shape[1:])).clamp(0.3, 3.0)
    return factor


def robust(residual: Tensor, tail: float) -> Tensor:
    """The cost of a residual in units of its scale: near zero its square; far away pseudo-Huber's (tail 0.5), or the
    logarithm of that square (tail 1, Cauchy's), so that what no model explains hardly pulls."""
    square = residual**2
    return torch.log1p(square) if tail == 1 else ((1 + square) ** (1 - tail) - 1) / (1 - tail)


def trusted(residual: Tensor, tail: float) -> Tensor:
    """The weights with which least squares find the least `robust` cost: half its slope over the residual."""
    return (1 + residual**2) ** -tail


def robust_mean(
    values: Float64[Tensor, "N L C"], weights: Float64[Tensor, "N L C"], noise: float = 0.02
) -> Float64[Tensor, "L"]:
    """Of every sample the value of least pseudo-Huber cost over the pictures (0 where none shows it)."""
    return levels(values, weights, noise, 0.5, 0.0)[0]


def levels(
    values: Float64[Tensor, "N L C"],
    weights: Float64[Tensor, "N L C"],
    noise: float,
    tail: float,
    spread: float,
    texture: Float64[Tensor, "L"] | None = None,
) -> tuple[Float64[Tensor, "L"], Float64[Tensor, "N L"]]:
    """Of every sample the value of least `robust` cost over the pictures (0 where none shows it), and by how much each
    instant differs from it in all pictures; such differences are Gaussian with standard deviation `spread`, in values'
    units (0: there are none). A texture that is given stays."""
    if texture is not None and not spread:
        return texture, torch.zeros_like(values[..., 0])
    weights = torch.where(values.isfinite(), weights, 0.0)
    flat, seen = (part.transpose(1, 2).flatten(0, 1) for part in (values, weights))
    middle = torch.where(seen > 0, flat, torch.nan).nanmedian(0).values.nan_to_num() if texture is None else texture
    values = values.nan_to_num()
    own = torch.zeros_like(values[..., 0])
    prior = (noise / spread) ** 2 if spread else torch.inf
    for _ in range(_REWEIGHTED):
        believed = weights * trusted((values - middle[:, None] - own[..., None]) / noise, tail)
        heard = believed.sum(-1)
        mean = (believed * values).sum(-1) / heard.clamp_min(1e-12)
        # With the instants' own differences eliminated, an instant says no more than these allow.
        said = heard / (1 + heard / prior)
        if texture is None:
            total = said.sum(0)
            middle = torch.where(total > 1e-9, (said * mean).sum(0) / total.clamp_min(1e-12), middle)
        own = (mean - middle) * heard / (heard + prior)
    return middle, own


def robust_texture(values: Float64[Tensor, "N L"], weights: Float64[Tensor, "N L"]) -> Float64[Tensor, "L"]:
    """The weighted mean over pictures, with outliers weighted down (NaN where nothing was seen)."""
    weights = torch.where(values.isfinite(), weights, 0.0)
    middle = torch.where(weights > 0, values, torch.nan).nanmedian(0).values
    values = values.nan_to_num()
    for _ in range(5):
        spread = ((weights * (values - middle).abs().clamp_max(0.2)).sum(0) / weights.sum(0)).clamp_min(1e-3)
        believed = weights * trusted((values - middle) / spread, 1.0)
        middle = (believed * values).sum(0) / believed.sum(0)
    return middle
