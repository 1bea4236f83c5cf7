"""Posture: how a person's shoulders stay behind when the head moves.

A head model's neck bends at one place, so its bust goes wherever the head goes. People carry their heads otherwise: the
torso follows by a share, and sways with it. The pictures show how: `bust_motion` follows what is below the neck through
a video, and `Posture` is the law that connects it with the head's pose, learnt once per person.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.supervision import above_shoulders, neck_border
from vultus.cameras import Camera
from vultus.captures import Capture, View
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.images.masks import dilate, soften
from vultus.images.resample import resize
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix

_SIDE = 256
_LEVELS = ((6.0, 15), (3.0, 10), (1.5, 10))
"""Blur (standard deviation in pixels of the small picture) and Gauss-Newton steps, coarse first."""
_RIDGE = 0.003
_FEWEST, _MOST, _FEWEST_PIXELS = 24, 200, 2000
_OUTLIER = 0.1
_BUST = 0.9
_OUTLINE, _CUT = 0.016, 0.036


@dataclass(frozen=True)
class Posture:
    """How the bust moves as a function of where the head is.

    Features are the head's translation from `home` (metres, in the root joint's axes) and the neck's rotation
    (radians), kept between `low` and `high`. `law @ [1, features, products of features]` is a shift (metres) and a
    change of shape in the picture's plane (a 2×2 matrix, less the identity), row by row `[dx, xx, xy, dy, yx, yy]`:
    a video of one camera shows that shoulders narrow as they turn away, not which one comes nearer. `axes` has that
    plane's axes as rows, in the root's coordinates.
    """

    home: Float[Tensor, "3"]
    axes: Float[Tensor, "2 3"]
    low: Float[Tensor, "6"]
    high: Float[Tensor, "6"]
    law: Float[Tensor, "6 28"]

    def carry(
        self, share: Float[Tensor, "V"], params: HeadParams, vertices: Float[Tensor, "*B V 3"]
    ) -> Float[Tensor, "*B V 3"]:
        """Posed vertices with the bust moved. `share` (see `bust_share`) is how far each goes along."""
        features = torch.minimum(torch.maximum(_features(params, self.home), self.low), self.high)
        change = (_columns(features) @ self.law.T).unflatten(-1, (2, 3))
        axes = self.axes @ axis_angle_to_matrix(params.joint("root")).transpose(-1, -2)  # in the world
        middle = vertices[..., share > _BUST, :].mean(-2, keepdim=True)
        flat = (vertices - middle) @ axes.transpose(-1, -2)
        moved = flat @ change[..., 1:].transpose(-1, -2) + change[..., None, :, 0]
        return vertices + share[:, None] * (moved @ axes)


def _features(params: HeadParams, home: Float[Tensor, "3"]) -> Float[Tensor, "*B 6"]:
    root = axis_angle_to_matrix(params.joint("root"))
    moved = (root.transpose(-1, -2) @ (params.translation - home)[..., None])[..., 0]
    return torch.cat([moved, params.joint("neck").expand_as(moved)], -1)


def _columns(features: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 28"]:
    """1, the features, and the products of any two."""
    first, second = torch.triu_indices(6, 6)
    return torch.cat(
        [torch.ones_like(features[..., :1]), features, features[..., first] * features[..., second]], dim=-1
    )


def bust_share(head: HeadModel) -> Float[Tensor, "V"]:
    """How far a vertex goes with the bust: the root joint's skinning weight."""
    assert isinstance(head, SkinnedHead), "only a skinned head has a bust that follows a joint"
    return head.weights[:, head.joint_names.index("root")]


def posture_of(capture: Capture, head: HeadModel, views: list[View]) -> Posture | None:
    """The posture that a capture shows; None without one still camera, a video's worth of frames, and a bust."""
    cameras = {view.camera for view in views}
    if len(cameras) > 1 or len(views) < _FEWEST or not isinstance(head, SkinnedHead) or neck_border(head) is None:
        return None
    views = views[:: max(1, len(views) // _MOST)]
    params = capture.motion.params[torch.tensor([view.timestep for view in views])]
    home, camera = capture.motion.neutral, capture.camera(views[0])
    reference = int((params.translation - home.translation).norm(dim=-1).argmin())
    with torch.no_grad():
        region = _bust_region(head, head.pose(params[reference]).vertices, camera, capture.mask(views[reference]))
    if int(region.sum()) < _FEWEST_PIXELS:
        return None
    white = torch.ones(3)
    warps = bust_motion(lambda index: capture.image(views[index], white), len(views), reference, region)
    return learn_posture(head, params, home, camera, warps, reference)


def _bust_region(
    head: SkinnedHead, vertices: Float[Tensor, "V 3"], camera: Camera, mask: Float[Tensor, "H W 1"]
) -> Float[Tensor, "H W 1"]:
    """Pixels that go with the bust: shoulders and outline, without neck and head, without the mask's lower end."""
    border = neck_border(head)
    assert border is not None
    width = max(camera.width, camera.height)
    faces = rasterize_mesh(vertices, head.faces, camera).face_ids
    skull = ((bust_share(head)[head.faces].mean(-1) < 0.5)[faces.clamp_min(0)] & (faces >= 0)).float()[..., None]
    seen = (mask > 0.5).float()
    low = ~above_shoulders(head, camera, vertices, border)
    rows = torch.arange(camera.height)[:, None, None]
    # The mask's lower end is a cut that goes with the head, no outline.
    last = (seen * rows).amax(0, keepdim=True) - round(_CUT * width)
    outline, neck = dilate(seen, round(_OUTLINE * width)), dilate(skull, round(_OUTLINE * width / 2))
    return ((outline > 0) & low & (neck == 0) & (rows < last)).float()


def learn_posture(
    head: SkinnedHead,
    params: HeadParams,
    home: HeadParams,
    camera: Camera,
    warps: Float[Tensor, "N 2 3"],
    reference: int,
) -> Posture:
    """The law behind a bust's motion in the pictures of one still camera.

    Args:
        params: N tracked poses. home: the pose the head returns to.
        warps: pixel positions of frame `reference` to those of every frame, of what is below the neck.
    """
    with torch.no_grad():
        bust = bust_share(head) > _BUST
        center = head.pose(params).vertices[:, bust].mean(1)
        depth = camera.to_camera(center)[:, 2]
        place = camera.project(center[reference][None])[0]
        shown = warps[:, :, :2] @ place + warps[:, :, 2]
        shift = (shown - camera.project(center)) * (depth / camera.K[0, 0])[:, None]
        shape = warps[:, :, :2] * (depth / depth[reference])[:, None, None] - torch.eye(2)
        change = torch.cat([shift[..., None], shape], -1).flatten(1)
        features = _features(params, home.translation)
        law = _robust_fit(_columns(features), change)
        root = axis_angle_to_matrix(home.joint("root"))
    return Posture(
        home=home.translation.clone(),
        axes=camera.world_to_camera[:2, :3] @ root,
        low=features.amin(0),
        high=features.amax(0),
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


def bust_motion(
    pictures: Callable[[int], Float[Tensor, "H W 3"]],
    count: int,
    reference: int,
    region: Float[Tensor, "H W 1"],
) -> Float[Tensor, "N 2 3"]:
    """How a part of the reference picture moves through a video: an affine map of pixels per frame.

    Lucas and Kanade's registration on brightness: each frame starts from its neighbour's result, the reference's from
    the identity.
    """
    height, width = region.shape[:2]
    scale = max(height, width) / _SIDE
    size = (round(width / scale), round(height / scale))
    weight = (resize(region, *size)[..., 0] > 0.5).float()

    def small(index: int) -> Tensor:
        return resize(pictures(index).mean(-1, keepdim=True), *size)

    base = small(reference)
    y, x = torch.meshgrid(torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5, indexing="ij")
    chosen = weight.nonzero(as_tuple=True)
    points = torch.stack([x, y], -1)[chosen]
    middle = points.mean(0)
    blurred = [soften(base, sigma) for sigma, _ in _LEVELS]
    warps: dict[int, Tensor] = {reference: torch.eye(2, 3)}
    order = [*range(reference + 1, count), *range(reference - 1, -1, -1)]
    for index in order:
        start = warps[index - 1 if index > reference else index + 1]
        warps[index] = _register(small(index), blurred, points, middle, chosen, start)
    rows = []
    for index in range(count):
        linear, shift = warps[index].split([2, 1], dim=-1)
        rows.append(torch.cat([linear, scale * (shift + middle[:, None] - linear @ middle[:, None])], -1))
    return torch.stack(rows)


def _register(
    image: Float[Tensor, "h w 1"],
    blurred: list[Tensor],
    points: Float[Tensor, "M 2"],
    middle: Float[Tensor, "2"],
    chosen: tuple[Tensor, ...],
    start: Float[Tensor, "2 3"],
) -> Float[Tensor, "2 3"]:
    """The affine map about `middle` under which the picture shows the template."""
    warp = start.clone()
    size = points.std()
    offset = torch.cat([(points - middle) / size, torch.ones_like(points[:, :1])], -1)
    unit = torch.tensor([1 / size, 1 / size, 1.0])
    for (sigma, steps), template in zip(_LEVELS, blurred, strict=True):
        picture = soften(image, sigma)[..., 0]
        planes = torch.stack([picture, *torch.gradient(picture)[::-1]])[None]
        wanted = template[..., 0][chosen]
        extent = torch.tensor([picture.shape[1], picture.shape[0]])
        for _ in range(steps):
            place = offset @ (warp / unit).T + middle
            grid = 2 * place / extent - 1
            seen = torch.nn.functional.grid_sample(
                planes, grid[None, :, None], align_corners=False, padding_mode="border"
            )[0, :, :, 0]
            inside = (grid.abs() < 1).all(-1).float()
            error = seen[0] - wanted
            error = error - (error * inside).sum() / inside.sum().clamp_min(1)  # exposure may change
            trusted = inside / (1 + (error / _OUTLIER) ** 2)
            jacobian = torch.cat([seen[1][:, None] * offset, seen[2][:, None] * offset], -1)
            left = (jacobian.T @ (trusted[:, None] * jacobian)).double()
            left = left + 1e-4 * torch.diag(left.diagonal().clamp_min(1e-9))
            right = (jacobian.T @ (trusted * error)).double()
            step = torch.linalg.solve(left, right).float().reshape(2, 3)
            warp = warp - step * unit
            if float(step.abs().max()) < 0.01:
                break
    limit = math.hypot(*image.shape[:2])
    return warp if bool(warp.isfinite().all()) and float(warp[:, 2].norm()) < limit else start
