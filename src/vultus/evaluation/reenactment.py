"""Self-reenactment: how well an avatar shows its own person in frames it was not trained on.

The comparison frame is fixed by the target alone: its mask (matte, above the line where the head model ends), the
mask's bounding box and a tenth more on every side, white outside
the mask, resized to 512 x 512. Every method, the trivial ones included, is seen through the same mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars import Avatar
from vultus.captures import Capture, View, below_line_mask
from vultus.images.metrics import psnr, ssim
from vultus.images.resample import Box, crop, resize
from vultus.progress import Progress, counted, silent

COMPARISON_SIZE = 512
MARGIN = 0.1


@dataclass(frozen=True)
class Scores:
    """Means over the test frames. `foreground_psnr` counts only pixels of the mask, `psnr` the whole square."""

    psnr: float
    ssim: float
    foreground_psnr: float


@dataclass(frozen=True)
class Reenactment:
    """The avatar and the two trivial answers, seen through the same masks."""

    avatar: Scores
    mean_frame: Scores
    nearest_frame: Scores
    frames: int


def evaluate_reenactment(avatar: Avatar, train: Capture, test: Capture, *, progress: Progress = silent) -> Reenactment:
    """Score an avatar on the frames of `test`, whose head parameters come from a tracker that never saw the avatar.

    Baselines: the mean of the training frames, and for every test frame the training frame whose landmarks are nearest
    (root mean square over all landmarks, in pixels of the common crop).
    """
    white = torch.ones(3)
    train_images = {view: train.image(view) for view in train.views}
    mean_image = torch.stack(list(train_images.values())).mean(0)
    train_landmarks = {view: train.landmarks(view) for view in train.views}

    def rendered(view: View) -> Tensor:
        with torch.no_grad():
            rendering = avatar.render(test.motion.params[view.timestep], test.camera(view), background=white)
        return rendering.color.clamp(0, 1)

    def nearest(view: View) -> Tensor:
        points = test.landmarks(view)
        if points is None:
            return mean_image
        distances = {v: float((p - points).square().mean()) for v, p in train_landmarks.items() if p is not None}
        return train_images[min(distances, key=lambda v: distances[v])]

    methods: Mapping[str, Callable[[View], Tensor]] = {
        "avatar": rendered,
        "mean_frame": lambda view: mean_image,
        "nearest_frame": nearest,
    }
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    views = [view for view in test.views if bool(test.motion.valid[view.timestep])]
    for view in counted(views, "evaluate", len(views), progress):
        target, camera = test.image(view), test.camera(view)
        vertices = avatar.head.pose(test.motion.params[view.timestep]).vertices
        mask = test.mask(view) * below_line_mask(avatar.head, vertices, camera)[..., None]
        for name, method in methods.items():
            rows[name].append(compare(method(view), target, mask))
    scores = {name: Scores(*torch.tensor(row, dtype=torch.float64).mean(0).tolist()) for name, row in rows.items()}
    return Reenactment(**scores, frames=len(views))


def compare(
    prediction: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], mask: Float[Tensor, "H W 1"]
) -> tuple[float, float, float]:
    """PSNR, SSIM and foreground-only PSNR (dB) of one frame under the protocol above."""
    box = _box(mask)
    seen = [_square(image * mask + (1 - mask), box, 1.0) for image in (prediction, target)]
    weight = _square(mask, box, 0.0)
    return (
        float(psnr(seen[0], seen[1])),
        float(ssim(seen[0], seen[1])),
        float(psnr(seen[0], seen[1], weight=weight)),
    )


def _box(mask: Float[Tensor, "H W 1"]) -> Box:
    """The mask's bounding box, a tenth wider on every side."""
    rows, columns = (torch.nonzero(mask[..., 0].amax(axis) > 0.5)[:, 0] for axis in (1, 0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    dx, dy = round(MARGIN * (right - left)), round(MARGIN * (bottom - top))
    return Box(left - dx, top - dy, right - left + 2 * dx, bottom - top + 2 * dy)


def _square(image: Float[Tensor, "H W C"], box: Box, fill: float) -> Float[Tensor, "S S C"]:
    return resize(crop(image, box, fill=fill), COMPARISON_SIZE, COMPARISON_SIZE)
