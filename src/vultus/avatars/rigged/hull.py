"""What several cameras agree on and the head model does not reach: hair, hats, shoulders.

A point that all masks show lies in the visual hull (Laurentini 1994). Its shell, where the pictures show something
beside the model, is covered by Gaussians before training begins, which then has to move them by millimetres and not
by centimetres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.avatars.rigged.frames import TriangleFrames
from vultus.avatars.rigged.model import LocalSplats
from vultus.avatars.rigged.parts import vertex_parts
from vultus.cameras import Camera
from vultus.heads.model import HeadModel
from vultus.rotations import matrix_to_quaternion

_HALF_SIDE = 0.36
"""Metres around the head's middle that are searched."""
_COARSE, _DIVISIONS = 0.03, 4
_MIN_CAMERAS, _MIN_SPREAD = 3, 0.2
_SHOWING = 2
_WIDTH = 0.55
_OPACITY = 0.9


def can_carve(cameras: Sequence[Camera]) -> bool:
    """Whether cameras stand apart enough (0.2 radians) for their outlines to tell a shape."""
    if len(cameras) < _MIN_CAMERAS:
        return False
    axes = torch.stack([camera.world_to_camera[2, :3] for camera in cameras])
    return float((axes @ axes.T).min()) < math.cos(_MIN_SPREAD)


def hull_shell(
    cameras: Sequence[Camera],
    masks: Sequence[Bool[Tensor, "H W"]],
    missing: Sequence[Bool[Tensor, "H W"]],
    middle: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "N 3"], float]:
    """The visual hull's outermost points where pictures show something that is `missing`, and their spacing (metres).

    A point belongs to the hull if it is inside at least half of the pictures and all masks of these show it, and to
    what is missing if at least two pictures lack it. (What few pictures have inside, few masks can carve away.)
    """
    count = round(2 * _HALF_SIDE / _COARSE)
    steps = (torch.arange(count) + 0.5) * _COARSE - _HALF_SIDE
    coarse = torch.cartesian_prod(steps, steps, steps) + middle
    # A cube may be touched by the hull although its middle is outside of it.
    coarse = coarse[_shown(coarse, cameras, masks, _COARSE * 0.87)[0]]
    spacing = _COARSE / _DIVISIONS
    inner = (torch.arange(_DIVISIONS) + 0.5) * spacing - _COARSE / 2
    points = (coarse[:, None] + torch.cartesian_prod(inner, inner, inner)).reshape(-1, 3)
    points = points[_shown(points, cameras, masks, 0.0)[0]]
    if not len(points):
        return points, spacing
    points = points[_is_outermost(points, middle, spacing)]
    return points[_shown(points, cameras, missing, 0.0)[1] >= _SHOWING], spacing


def _shown(
    points: Float[Tensor, "N 3"], cameras: Sequence[Camera], masks: Sequence[Bool[Tensor, "H W"]], reach: float
) -> tuple[Bool[Tensor, "N"], Float[Tensor, "N"]]:
    """Whether every picture that has the point inside shows it (or what is within `reach` metres), and how many do."""
    everywhere, times = torch.ones(len(points), dtype=torch.bool), torch.zeros(len(points))
    for camera, mask in zip(cameras, masks, strict=True):
        place, depth = camera.project(points), camera.to_camera(points)[:, 2]
        inside = (depth > 0.05) & ((place >= 0) & (place < torch.tensor([camera.width, camera.height]))).all(-1)
        column, row = place[inside].long().unbind(-1)
        seen = mask
        if reach:
            size = (
                2 * math.ceil(reach * float(camera.K[0, 0]) / float(depth[inside].median())) + 1 if inside.any() else 1
            )
            seen = torch.nn.functional.max_pool2d(mask[None, None].float(), size, 1, size // 2)[0, 0] > 0.5
        shows = seen[row, column]
        everywhere[inside.nonzero()[:, 0][~shows]] = False
        times[inside.nonzero()[:, 0][shows]] += 1
    return everywhere & (times >= max(_SHOWING, len(cameras) / 2)), times


def _is_outermost(points: Float[Tensor, "N 3"], middle: Float[Tensor, "3"], spacing: float) -> Bool[Tensor, "N"]:
    """Points of a grid of which one of the six neighbours is missing."""
    size = round(2 * _HALF_SIDE / spacing) + 2
    index = ((points - middle + _HALF_SIDE) / spacing).floor().long() + 1
    filled = torch.zeros(size, size, size, dtype=torch.bool)
    filled[tuple(index.T)] = True
    outermost = torch.zeros(len(points), dtype=torch.bool)
    for axis in range(3):
        for step in (-1, 1):
            beside = index.clone()
            beside[:, axis] += step
            outermost |= ~filled[tuple(beside.T)]
    return outermost


def shell_splats(
    head: HeadModel,
    vertices: Float[Tensor, "V 3"],
    frames: TriangleFrames,
    points: Float[Tensor, "N 3"],
    spacing: float,
    border: Tensor | None,
) -> tuple[LocalSplats, Bool[Tensor, "N"]]:
    """Round Gaussians without colour at `points` (world), in the frames of the triangles that carry them, and which of
    them ride on the bust: those below the lips, if the head model marks one (region `boundary`). All others ride on
    skin and scalp. `border` as of `neck_border`.
    """
    parts = vertex_parts(head).weights
    carries = (parts["skin"] + parts["hair"] > 0.5)[head.faces].all(-1)
    low = torch.zeros(len(points), dtype=torch.bool)
    bust = torch.zeros(len(head.template), dtype=torch.bool)
    if border is not None:
        bust[head.regions["boundary"].long()] = True
        up = torch.nn.functional.normalize(vertices.mean(0) - vertices[border].mean(0), dim=0)
        low = points @ up < float((vertices[head.regions["lips"].long()] @ up).min())
    on_bust = bust[head.faces].all(-1)
    binding = torch.zeros(len(points), dtype=torch.int64)
    for chosen, faces in ((low, on_bust), (~low, carries & ~on_bust)):
        if bool(chosen.any()):
            binding[chosen] = _nearest(points[chosen], frames.center, faces.nonzero()[:, 0])
    size, turn = frames.scale[binding], frames.rotation[binding].transpose(-1, -2)
    count = len(points)
    means = (turn @ (points - frames.center[binding])[..., None])[..., 0] / size
    splats = LocalSplats(
        means=means,
        log_scales=(_WIDTH * spacing / size).expand(count, 3).log(),
        rotations=matrix_to_quaternion(turn),
        opacities=torch.full((count,), math.log(_OPACITY / (1 - _OPACITY))),
        sh0=torch.zeros(count, 1, 3),
        sh_rest=torch.zeros(count, 0, 3),
        binding=binding,
    )
    return splats, low


def _nearest(points: Float[Tensor, "N 3"], centers: Float[Tensor, "F 3"], faces: Tensor) -> Tensor:
    from scipy.spatial import KDTree

    _, row = KDTree(centers[faces].double().numpy()).query(points.double().numpy())
    return faces[torch.from_numpy(row)]
