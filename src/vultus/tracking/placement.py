"""Where a head is, from the points that several calibrated cameras see: rays are met, views that miss are left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64

from vultus.tracking.rig import Rig

_AGREES = 0.06
"""A view agrees with others if its points are this close, as a share of their extent, to where theirs meet."""
_NARROWEST = np.cos(np.radians(4.0))
"""Rays of two cameras that point the same way meet anywhere."""


@dataclass(frozen=True)
class Meeting:
    """Where the rays of N frames meet: points in metres (NaN where they do not), the pictures that agree on it, and
    how far those are off (mean over points, as a share of the points' extent)."""

    points: Float64[np.ndarray, "N L 3"]
    agrees: Bool[np.ndarray, "N C"]
    error: Float64[np.ndarray, "N C"]


def meet(rig: Rig, points: Float64[np.ndarray, "N C L 2"], usable: Bool[np.ndarray, "N C"]) -> Meeting:
    """Triangulate points that several cameras see, trusting the largest group of pictures that agree in each frame."""
    count, cameras, amount = points.shape[:3]
    origin = rig.centers.numpy()
    rays = _rays(rig, points)
    met = np.full((count, amount, 3), np.nan)
    agrees, error = np.zeros((count, cameras), bool), np.full((count, cameras), np.nan)
    for frame in range(count):
        best, most = None, 0.0
        seen = np.flatnonzero(usable[frame])
        middle = np.nan_to_num(rays[frame]).sum(1)
        middle /= np.linalg.norm(middle, axis=-1, keepdims=True).clip(1e-9)
        for first, second in [(a, b) for a in seen for b in seen if a < b]:
            if middle[first] @ middle[second] > _NARROWEST:
                continue
            found = _nearest(origin[frame, [first, second]], rays[frame, [first, second]])
            off = _off(rig, frame, found, points[frame])
            inside = usable[frame] & (off < _AGREES)
            score = float(np.clip(1 - off[inside] / _AGREES, 0, 1).sum() + inside.sum())
            if inside[first] and inside[second] and score > most:
                best, most = inside, score
        if best is None:
            continue
        # Once with the group, and once more with those that agree with what the whole group says.
        met[frame] = _nearest(origin[frame, best], rays[frame, best])
        again = usable[frame] & (_off(rig, frame, met[frame], points[frame]) < _AGREES)
        if again.sum() >= 2:
            met[frame], best = _nearest(origin[frame, again], rays[frame, again]), again
        agrees[frame], error[frame] = best, _off(rig, frame, met[frame], points[frame])
    return Meeting(met, agrees, error)


def rigid(
    points: Float64[np.ndarray, "L 3"], target: Float64[np.ndarray, "L 3"]
) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3"]]:
    """Rotation and translation that bring points nearest to others (Kabsch)."""
    middle, goal = points.mean(0), target.mean(0)
    u, _, vt = np.linalg.svd((target - goal).T @ (points - middle))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return rotation, goal - rotation @ middle


def _rays(rig: Rig, points: Float64[np.ndarray, "N C L 2"]) -> Float64[np.ndarray, "N C L 3"]:
    """Unit directions in the world."""
    plane = (torch.from_numpy(points) - rig.principal[:, :, None]) / rig.focal[:, :, None]
    directions = torch.cat([plane, torch.ones_like(plane[..., :1])], -1) @ rig.rotation
    return torch.nn.functional.normalize(directions, dim=-1).numpy()


def _nearest(origins: Float64[np.ndarray, "C 3"], rays: Float64[np.ndarray, "C L 3"]) -> Float64[np.ndarray, "L 3"]:
    """The points of least squared distance from one ray of every camera each; rays that are NaN do not count."""
    known = np.isfinite(rays).all(-1)[..., None, None]
    across = np.where(known, np.eye(3) - rays[..., :, None] * rays[..., None, :], 0.0)
    left, right = across.sum(0), np.einsum("clij,cj->li", across, origins)
    few = known[..., 0, 0].sum(0) < 2
    left[few] = np.eye(3)
    points = np.linalg.solve(left, right[..., None])[..., 0]
    points[few] = np.nan
    return points


def _off(
    rig: Rig, frame: int, found: Float64[np.ndarray, "L 3"], points: Float64[np.ndarray, "C L 2"]
) -> Float64[np.ndarray, "C"]:
    """How far each camera sees its points from where these are, as a share of the points' extent."""
    here = rig.select(slice(frame, frame + 1))
    place = torch.from_numpy(found)[None]
    seen = here.project(place, 0.0)[0].transpose(0, 1).numpy()
    ahead = (here.seen(place)[0, ..., 2] > 0).numpy().T
    distance = np.linalg.norm(seen - points, axis=-1)
    usable = np.isfinite(distance)
    extent = np.nanmax(points, axis=1, initial=-np.inf, where=np.isfinite(points)) - np.nanmin(
        points, axis=1, initial=np.inf, where=np.isfinite(points)
    )
    mean = np.where(usable, distance, 0.0).sum(1) / np.maximum(usable.sum(1), 1)
    size = np.maximum(extent.max(-1), 1e-9)
    ok = usable.any(1) & (ahead | ~usable).all(1)
    return np.where(ok, mean / size, np.inf)
