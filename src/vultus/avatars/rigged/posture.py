"""Posture: how a person's shoulders stay behind when the head moves.

A head model's neck bends at one place, so its bust goes wherever the head goes. People carry their heads otherwise: the
torso follows by a share, and sways with it. Pictures show how: `torso_motion` follows what is below the neck through a
video, and `Posture` is the law that connects it with the pose of head and body, learnt once per person.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures import Capture, View
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from vultus.tracking.torso import bust_share, follows_root, torso_motion, torso_template

_RIDGE = 0.001
_FEWEST, _MOST = 24, 200
_HEAD = 6
_BEYOND = 0.5


@dataclass(frozen=True)
class Posture:
    """How the bust moves as a function of where the head is.

    Features are the head's translation from `home` (metres, in the root joint's axes), the neck's rotation, and the
    root's from `upright` (all radians), kept between `low` and `high`. `law @ [1, features, products of the first six]`
    is a shift (metres) and a change of shape in the picture's plane (a 2×2 matrix, less the identity), row by row
    `[dx, xx, xy, dy, yx, yy]`: a video of one camera shows that shoulders narrow as they turn away, not which one comes
    nearer. `axes` has that plane's axes as rows, in the root's coordinates.
    """

    home: Float[Tensor, "3"]
    upright: Float[Tensor, "3"]
    axes: Float[Tensor, "2 3"]
    low: Float[Tensor, "9"]
    high: Float[Tensor, "9"]
    law: Float[Tensor, "6 31"]

    def carry(
        self, share: Float[Tensor, "V"], params: HeadParams, vertices: Float[Tensor, "*B V 3"]
    ) -> Float[Tensor, "*B V 3"]:
        """Posed vertices with the bust moved. `share` (see `bust_share`) is how far each goes along."""
        features = _features(params, self.home, self.upright)
        features = torch.minimum(torch.maximum(features, self.low), self.high)
        change = (_columns(features) @ self.law.T).unflatten(-1, (2, 3))
        axes = self.axes @ axis_angle_to_matrix(params.joint("root")).transpose(-1, -2)  # in the world
        middle = vertices[..., follows_root(share), :].mean(-2, keepdim=True)
        flat = (vertices - middle) @ axes.transpose(-1, -2)
        moved = flat @ change[..., 1:].transpose(-1, -2) + change[..., None, :, 0]
        return vertices + share[:, None] * (moved @ axes)


def _features(params: HeadParams, home: Float[Tensor, "3"], upright: Float[Tensor, "3"]) -> Float[Tensor, "*B 9"]:
    root = axis_angle_to_matrix(params.joint("root"))
    moved = (root.transpose(-1, -2) @ (params.translation - home)[..., None])[..., 0]
    turned = matrix_to_axis_angle(axis_angle_to_matrix(upright).transpose(-1, -2) @ root)
    return torch.cat([moved, params.joint("neck").expand_as(moved), turned.expand_as(moved)], -1)


def _columns(features: Float[Tensor, "*B 9"]) -> Float[Tensor, "*B 31"]:
    """1, the features, and the products of any two that say where the head is."""
    first, second = torch.triu_indices(_HEAD, _HEAD)
    return torch.cat(
        [torch.ones_like(features[..., :1]), features, features[..., first] * features[..., second]], dim=-1
    )


def posture_of(capture: Capture, head: HeadModel, views: list[View]) -> Posture | None:
    """The posture that a capture shows; None without one still camera, a video's worth of frames, and a bust."""
    cameras = {view.camera for view in views}
    if len(cameras) > 1 or len(views) < _FEWEST or not isinstance(head, SkinnedHead):
        return None
    views = views[:: max(1, len(views) // _MOST)]
    params = capture.motion.params[torch.tensor([view.timestep for view in views])]
    home, camera = capture.motion.neutral, capture.camera(views[0])
    reference = int((params.translation - home.translation).norm(dim=-1).argmin())
    view, white = views[reference], torch.ones(3)
    template = torso_template(head, params[reference], camera, capture.image(view, white), capture.mask(view))
    if template is None:
        return None
    warps, _ = torso_motion(template, lambda index: capture.image(views[index], white), range(len(views)), reference)
    return learn_posture(head, params, home, camera, warps, reference, template.vertices)


def learn_posture(
    head: SkinnedHead,
    params: HeadParams,
    home: HeadParams,
    camera: Camera,
    warps: Float[Tensor, "N 2 3"],
    reference: int,
    seen: Int[Tensor, "K"],
) -> Posture:
    """The law behind a bust's motion in the pictures of one still camera.

    Args:
        params: N tracked poses. home: the pose the head returns to.
        warps: pixel positions of frame `reference` to those of every frame, of what is below the neck.
        seen: the bust's vertices that the pictures show.
    """
    with torch.no_grad():
        vertices = head.pose(params).vertices
        middle = vertices[:, follows_root(bust_share(head))].mean(1, keepdim=True)
        points = vertices[:, seen]
        pixels = camera.project(points)
        wanted = pixels[reference] @ warps[:, :, :2].transpose(1, 2) + warps[:, None, :, 2]
        away = (wanted - pixels) * camera.to_camera(points)[..., 2:] / camera.K[0, 0]
        plane = camera.world_to_camera[:2, :3]
        axes = plane @ axis_angle_to_matrix(home.joint("root"))
        turned = axes @ axis_angle_to_matrix(params.joint("root")).transpose(-1, -2)
        flat = (points - middle) @ turned.transpose(-1, -2)
        onto = torch.cat([torch.ones_like(flat[..., :1]), flat], -1)
        change = torch.linalg.lstsq(onto, away @ plane @ turned.transpose(-1, -2)).solution
        features = _features(params, home.translation, home.joint("root"))
        law = _robust_fit(_columns(features), change.transpose(-1, -2).flatten(1))
        low, high = features.amin(0), features.amax(0)
        # The body's own turn enters the law linearly, and was measured: it may go on somewhat.
        margin = _BEYOND * (high - low)
        margin[:_HEAD] = 0
    return Posture(
        home=home.translation.clone(),
        upright=home.joint("root").clone(),
        axes=axes,
        low=low - margin,
        high=high + margin,
        law=law,
    )


def _robust_fit(columns: Float[Tensor, "N K"], values: Float[Tensor, "N R"]) -> Float[Tensor, "R K"]:
    """Ridge regression on standardised columns (the first is constant), with frames that do not fit weighted down."""
    mean, spread = columns.mean(0), columns.std(0)
    mean[0], spread[0] = 0.0, 1.0
    standard = ((columns - mean) / spread.clamp_min(1e-9)).double()
    target = values.double()
    ridge = _RIDGE * len(columns) * torch.eye(columns.shape[1], dtype=torch.float64)
    ridge[0, 0] = 0
    weight = torch.ones(len(columns), dtype=torch.float64)
    law = target.new_zeros(columns.shape[1], values.shape[1])
    for _ in range(6):
        law = torch.linalg.solve(
            standard.T @ (weight[:, None] * standard) + ridge, standard.T @ (weight[:, None] * target)
        )
        error = ((target - standard @ law) / target.std(0).clamp_min(1e-9)).square().mean(-1).sqrt()
        weight = 1 / (1 + (error / (2 * error.median().clamp_min(1e-9))) ** 2)
    slopes = law / spread.clamp_min(1e-9).double()[:, None]
    slopes[0] = law[0] - mean.double() @ slopes
    return slopes.T.float()
