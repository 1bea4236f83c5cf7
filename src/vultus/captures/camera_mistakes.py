"""The usual mistakes in camera files, found by geometry: wrong unit, inverted poses, flipped axes.

The cameras of a capture of a head look at the head. Where they do not, but would if their matrices were inverted or
their axes flipped, that is what happened to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from vultus.captures.contents import Contents
from vultus.captures.findings import Finding
from vultus.motion import Motion
from vultus.rotations import axis_angle_to_matrix

_MAX_VIEWS = 2000
_GOOD, _BETTER = 0.9, 0.3
# Nobody films a head from further away than this (metres); nearer than this in millimetres.
_FAR, _FAR_IN_MILLIMETRES = 20.0, 200.0
_MARGIN = 0.25
_OPENGL = ("vultus", "gaussian-avatars")
_NO_SCALE = ("colmap",)


@dataclass(frozen=True)
class Aim:
    """What the cameras look at: the head of each instant, or one point."""

    points: Float64[Tensor, "T 3"]

    def target(self, timestep: int) -> Float64[Tensor, "3"]:
        return self.points[min(timestep, len(self.points) - 1)]


@dataclass(frozen=True)
class _Views:
    pose: Float64[Tensor, "N 4 4"]
    K: Float64[Tensor, "N 3 3"]
    size: Float64[Tensor, "N 2"]
    target: Float64[Tensor, "N 3"] | None
    up: Float64[Tensor, "N 3"] | None
    front: Float64[Tensor, "N 3"] | None

    @property
    def rotation(self) -> Tensor:
        return self.pose[:, :3, :3]

    @property
    def centers(self) -> Float64[Tensor, "N 3"]:
        return -(self.rotation.transpose(-1, -2) @ self.pose[:, :3, 3:])[..., 0]

    def with_poses(self, pose: Tensor) -> _Views:
        return _Views(pose, self.K, self.size, self.target, self.up, self.front)


def camera_mistakes(contents: Contents) -> tuple[list[Finding], Aim | None]:
    """Mistakes of the cameras, and what they look at if they look at anything in common."""
    if not contents.shots:
        return [], None
    views = _views(contents)
    hypotheses = _hypotheses(contents.layout)
    scores = {name: (_score(views.with_poses(change(views.pose))), change) for name, change in hypotheses.items()}
    as_is = scores.pop("")[0]
    findings = []
    name, (best, change) = max(scores.items(), key=lambda item: item[1][0])
    explained = as_is < _GOOD and best >= max(_GOOD, as_is + _BETTER)
    right = views.with_poses(change(views.pose)) if explained else views
    aim = _aim(contents.motion, right)
    distance = None if aim is None else _distance(right, aim)
    unit = None if distance is None or contents.layout in _NO_SCALE else _unit(distance)
    if explained:
        findings.append(Finding(*_MEANING[name.split(":")[0]]))
    if unit is not None:
        findings.append(
            Finding(
                unit,
                f"the cameras are {distance:.0f} away from the head; positions have to be in metres, these look like "
                f"{unit}",
            )
        )
    if not findings and as_is < 0.5 and views.target is not None:
        findings.append(
            Finding(
                "off-target",
                f"the head is in front of its camera and in the picture in only {100 * as_is:.0f} % of the views; the "
                "cameras and the head parameters are not of one capture, or in different coordinate systems",
            )
        )
    if not findings and (upside := _upside_down(views)) is not None:
        findings.append(Finding("flipped-axes", upside))
    return findings, aim


_MEANING = {
    "inverted": (
        "inverted-poses",
        "the cameras look at the head only if their poses are inverted: camera-to-world matrices were given as "
        "world-to-camera, or the other way round",
    ),
    "flipped": (
        "flipped-axes",
        "the cameras look away from the head; they would look at it with y and z of the camera axes flipped: OpenGL "
        "axes were given as OpenCV's, or the other way round",
    ),
}


def _hypotheses(layout: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """How the right world-to-camera poses follow from those that were read, for each mistake."""
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    after = flip if layout in _OPENGL else torch.eye(4, dtype=torch.float64)
    return {
        "": lambda pose: pose,
        "flipped": lambda pose: flip @ pose,
        "inverted": lambda pose: torch.linalg.inv(pose) @ after,
        "inverted:flipped": lambda pose: flip @ torch.linalg.inv(pose) @ after,
    }


def _views(contents: Contents) -> _Views:
    shots = list(contents.shots)
    motion = contents.motion
    if motion is not None:
        valid = [shot for shot in shots if shot.timestep < len(motion) and bool(motion.valid[shot.timestep])]
        motion, shots = (motion, valid) if valid else (None, shots)
    shots = shots[:: max(1, math.ceil(len(shots) / _MAX_VIEWS))]
    target = up = front = None
    if motion is not None:
        rows = motion.params[torch.tensor([shot.timestep for shot in shots])]
        target = rows.translation.double().expand(len(shots), 3)
        turn = axis_angle_to_matrix(rows.joint("root").double().expand(len(shots), 3))
        up, front = turn[..., 1], turn[..., 2]
    return _Views(
        pose=torch.stack([shot.parameters.world_to_camera.double() for shot in shots]),
        K=torch.stack([shot.parameters.K.double() for shot in shots]),
        size=torch.tensor([[shot.parameters.width, shot.parameters.height] for shot in shots], dtype=torch.float64),
        target=target,
        up=up,
        front=front,
    )


def _axes(views: _Views) -> Float64[Tensor, "N 3"]:
    """Directions in the world of the rays through the middles of the pictures."""
    middle = torch.cat([views.size / 2, torch.ones(len(views.size), 1, dtype=torch.float64)], dim=-1)
    rays = torch.linalg.solve(views.K, middle[..., None])
    axes = (views.rotation.transpose(-1, -2) @ rays)[..., 0]
    return torch.nn.functional.normalize(axes, dim=-1)


def _common_point(views: _Views) -> Float64[Tensor, "3"] | None:
    """The point nearest to the middle rays of all pictures, None if the cameras do not determine one."""
    axes, centers = _axes(views), views.centers
    away = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    normal = away.mean(0)
    # The smallest eigenvalue is the mean squared sine of the rays' angles to each other.
    if float(torch.linalg.eigvalsh(normal)[0]) < math.sin(math.radians(2)) ** 2:
        return None
    return torch.linalg.solve(normal, (away @ centers[..., None]).mean(0))[:, 0]


def _score(views: _Views) -> float:
    """The share of views that have the head (or what all look at) in front of them and in the picture."""
    target, centers = views.target, views.centers
    if target is None:
        point = _common_point(views)
        if point is None:  # too few cameras, or too parallel ones, to tell anything
            return 1.0
        target = point.expand(len(views.pose), 3)
    axes = _axes(views)
    middle = centers.mean(0)
    spread = float((centers - middle).norm(dim=-1).max())
    distance = float((target - centers).norm(dim=-1).median())
    angle = float(torch.acos((axes @ torch.nn.functional.normalize(axes.mean(0), dim=-1)).clamp(-1, 1)).max())
    # Cameras at one place that look in different directions are a rig turned inside out.
    is_inside_out = angle > 0.1 and spread < 0.2 * angle * distance
    if is_inside_out or distance < 1e-3 * (float(centers.norm(dim=-1).median()) + spread):
        return 0.0
    seen = (views.rotation @ target[..., None] + views.pose[:, :3, 3:])[..., 0]
    depth = seen[:, 2].clamp_min(1e-9)
    pixels = (views.K[:, :2, :2] @ (seen[:, :2] / depth[:, None])[..., None])[..., 0] + views.K[:, :2, 2]
    low, high = -_MARGIN * views.size, (1 + _MARGIN) * views.size
    inside = (seen[:, 2] > 0) & (pixels > low).all(-1) & (pixels < high).all(-1)
    return float(inside.double().mean())


def _aim(motion: Motion | None, views: _Views) -> Aim | None:
    if motion is not None and views.target is not None:
        return Aim(motion.params.translation.double().expand(len(motion), 3))
    point = _common_point(views)
    return None if point is None else Aim(point[None])


def _distance(views: _Views, aim: Aim) -> float:
    target = views.target if views.target is not None else aim.points[0].expand(len(views.pose), 3)
    return float((target - views.centers).norm(dim=-1).median())


def _unit(distance: float) -> str | None:
    if distance < _FAR:
        return None
    return "millimetres" if distance >= _FAR_IN_MILLIMETRES else "centimetres"


def _upside_down(views: _Views) -> str | None:
    """What is wrong with how the head stands in the pictures, None if nothing is."""
    if views.up is None or views.front is None:
        return None
    down = (views.rotation @ views.up[..., None])[:, 1, 0]
    if float(down.median()) > 0.5:
        return "the head stands on its head in the pictures: y (and z) of the world's or the cameras' axes are flipped"
    away = (views.rotation @ views.front[..., None])[:, 2, 0]
    if float(away.min()) > 0.3:
        return "every camera sees the back of the head: x and z, or the cameras' axes, are flipped"
    return None
