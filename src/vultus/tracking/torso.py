"""The torso: what is below the neck, followed through a video of one still camera, as the root joint's rotation.

Landmarks say where the skull is. Whether the shoulders came along is for the pictures to say: a `TorsoTemplate` is
what one of them shows below the neck, `torso_motion` finds it again in the others, and `turn_body` turns the root joint
so that the head model's bust goes where it was found, as far as a rotation about the neck can bring it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.below_line import above_shoulders, neck_border
from vultus.heads import HeadModel, SkinnedHead
from vultus.images.masks import dilate, soften
from vultus.images.resample import resize
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams
from vultus.progress import Progress, counted, silent
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from vultus.tracking.neck import turn_neck

_SIDE = 256
_LEVELS = ((6.0, 15), (3.0, 10), (1.5, 10))
"""Blur (standard deviation in pixels of the small picture) and Gauss-Newton steps, coarse first."""
_OUTLIER = 0.1
_FEWEST_PIXELS = 500
_OUTLINE, _CUT = 0.016, 0.036
_BUST = 0.9
_LIKENESS = 0.7
"""Correlation with the template from which a registration is believed."""
_TURN, _MISFIT = 0.05, 0.004
"""Standard deviations: how far bodies turn (radians), and how far off a rotation leaves them (metres)."""
_FARTHEST = 0.3


@dataclass(frozen=True)
class TorsoTemplate:
    """What one picture of a capture shows below the neck.

    picture: brightness in [0, 1] over white; region: the pixels that go with the torso. vertices: indices of the head
    model's bust that it shows, and `places`, where they are in it, in pixels of the capture's own size `size` (width
    and height).
    """

    picture: Float[Tensor, "h w 1"]
    region: Bool[Tensor, "h w 1"]
    vertices: Int[Tensor, "K"]
    places: Float[Tensor, "K 2"]
    size: tuple[int, int]


def bust_share(head: HeadModel) -> Float[Tensor, "V"]:
    """How far a vertex goes with the bust: the root joint's skinning weight."""
    assert isinstance(head, SkinnedHead), "only a skinned head has a bust that follows a joint"
    return head.weights[:, head.joint_names.index("root")]


def follows_root(share: Float[Tensor, "V"]) -> Bool[Tensor, "V"]:
    """Vertices that follow hardly anything but the root joint, of everyone's share."""
    return share > _BUST


def torso_template(
    head: SkinnedHead,
    params: HeadParams,
    camera: Camera,
    picture: Float[Tensor, "H W 3"],
    mask: Float[Tensor, "H W 1"],
) -> TorsoTemplate | None:
    """The template of a picture over white, from an unbatched pose; None where it shows too little of a torso."""
    border = neck_border(head)
    if border is None:
        return None
    with torch.no_grad():
        vertices = head.pose(params).vertices
        faces = rasterize_mesh(vertices, head.faces, camera).face_ids
        places = camera.project(vertices)
    width = max(camera.width, camera.height)
    bust = follows_root(bust_share(head))
    seen = torch.zeros_like(bust)
    seen[head.faces[faces[faces >= 0].unique()].flatten()] = True
    skull = ((bust_share(head)[head.faces].mean(-1) < 0.5)[faces.clamp_min(0)] & (faces >= 0)).float()[..., None]
    shown = (mask > 0.5).float()
    low = ~above_shoulders(head, camera, vertices, border)
    rows = torch.arange(camera.height)[:, None, None]
    # The mask's lower end is a cut that goes with the head, no outline.
    last = (shown * rows).amax(0, keepdim=True) - round(_CUT * width)
    outline, neck = dilate(shown, round(_OUTLINE * width)), dilate(skull, round(_OUTLINE * width / 2))
    region = ((outline > 0) & low & (neck == 0) & (rows < last)).float()
    chosen = torch.nonzero(seen & bust)[:, 0]
    size = _small_size(camera.width, camera.height)
    small = resize(region, *size) > 0.5
    if int(small.sum()) < _FEWEST_PIXELS or len(chosen) < 3:
        return None
    return TorsoTemplate(_brightness(picture, size), small, chosen, places[chosen], (camera.width, camera.height))


def _small_size(width: int, height: int) -> tuple[int, int]:
    scale = _SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _brightness(picture: Float[Tensor, "H W 3"], size: tuple[int, int]) -> Float[Tensor, "h w 1"]:
    return resize(picture.mean(-1, keepdim=True), *size)


def torso_motion(
    template: TorsoTemplate,
    pictures: Callable[[int], Float[Tensor, "H W 3"]],
    frames: Sequence[int],
    first: int,
    progress: Progress = silent,
) -> tuple[Float[Tensor, "N 2 3"], Float[Tensor, "N"]]:
    """How the template moves through a video: an affine map of pixels, and how alike it was found, per frame.

    Lucas and Kanade's registration on brightness. It starts at the frame at position `first`, which should look most
    like the template, from the identity, and every other frame from its neighbour's result. Likeness is the correlation
    of what is there with the template, from -1 to 1. `pictures` are over white, all of the template's size.
    """
    (height, width), full = template.picture.shape[:2], template.size[0]
    chosen = template.region[..., 0].nonzero(as_tuple=True)
    points = torch.stack([chosen[1], chosen[0]], -1) + 0.5
    middle = points.mean(0)
    blurred = [soften(template.picture, sigma) for sigma, _ in _LEVELS]
    still = torch.eye(2, 3)
    warps: dict[int, Tensor] = {}
    likeness: dict[int, float] = {}
    order = [*range(first, len(frames)), *range(first - 1, -1, -1)]
    for index in counted(order, "following the torso", len(order), progress):
        start = still if index == first else warps[index - 1 if index > first else index + 1]
        image = _brightness(pictures(frames[index]), (width, height))
        warps[index], likeness[index] = _register(image, blurred, points, middle, chosen, start)
    scale = full / width
    rows = []
    for index in range(len(frames)):
        linear, shift = warps[index].split([2, 1], dim=-1)
        rows.append(torch.cat([linear, scale * (shift + middle[:, None] - linear @ middle[:, None])], -1))
    return torch.stack(rows), torch.tensor([likeness[index] for index in range(len(frames))])


def _register(
    image: Float[Tensor, "h w 1"],
    blurred: list[Tensor],
    points: Float[Tensor, "M 2"],
    middle: Float[Tensor, "2"],
    chosen: tuple[Tensor, ...],
    start: Float[Tensor, "2 3"],
) -> tuple[Float[Tensor, "2 3"], float]:
    """The affine map about `middle` under which the picture shows the template, and the correlation with it."""
    warp = start.clone()
    size = points.std()
    offset = torch.cat([(points - middle) / size, torch.ones_like(points[:, :1])], -1)
    unit = torch.tensor([1 / size, 1 / size, 1.0])
    likeness = -1.0
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
            likeness = _correlation(seen[0], wanted, inside)
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
    found = bool(warp.isfinite().all()) and float(warp[:, 2].norm()) < limit
    return (warp, likeness) if found else (start, -1.0)


def _correlation(values: Float[Tensor, "M"], wanted: Float[Tensor, "M"], weight: Float[Tensor, "M"]) -> float:
    weight = weight / weight.sum().clamp_min(1)
    values, wanted = values - (weight * values).sum(), wanted - (weight * wanted).sum()
    spread = ((weight * values**2).sum() * (weight * wanted**2).sum()).sqrt().clamp_min(1e-9)
    return float((weight * values * wanted).sum() / spread)


def turn_body(
    head: SkinnedHead,
    params: HeadParams,
    camera: Camera,
    template: TorsoTemplate,
    warps: Float[Tensor, "N 2 3"],
    likeness: Float[Tensor, "N"],
) -> HeadParams:
    """The same N poses of the skull with the root joint turned so that the bust is where the pictures show it.

    Least squares in the picture with a prior that keeps the body as it is, and does so entirely where the template was
    not found.
    """
    with torch.no_grad():
        pose = head.pose(params)
        points = pose.vertices[:, template.vertices]
        pivot = pose.joints[:, head.joint_names.index("neck"), None]

        def shown(turn: Tensor) -> Tensor:
            turned = (points - pivot) @ axis_angle_to_matrix(turn).transpose(-1, -2) + pivot
            return camera.project(turned)

        still = torch.zeros(len(points), 3)
        columns = [torch.func.jvp(shown, (still,), (axis.expand_as(still),))[1] for axis in torch.eye(3)]
        metres = camera.to_camera(points)[..., 2:].mean(1, keepdim=True) / camera.K[0, 0]
        jacobian = (torch.stack(columns, -1) * metres[..., None]).flatten(1, 2)
        wanted = template.places @ warps[:, :, :2].transpose(1, 2) + warps[:, None, :, 2]
        residual = ((wanted - shown(still)) * metres).flatten(1)
        share = len(template.vertices) * (_MISFIT / _TURN) ** 2
        left = jacobian.transpose(1, 2) @ jacobian + share * torch.eye(3)
        turn = torch.linalg.solve(left, (jacobian.transpose(1, 2) @ residual[..., None])[..., 0])
        turn = turn * (_FARTHEST / turn.norm(dim=-1, keepdim=True).clamp_min(_FARTHEST))
        turn = torch.where(likeness[:, None] >= _LIKENESS, turn, 0.0)
        body = axis_angle_to_matrix(turn) @ axis_angle_to_matrix(params.joint("root"))
    return turn_neck(head, params, matrix_to_axis_angle(body))
