"""What the writers of all layouts share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.captures.capture import Capture, View
from vultus.heads import HeadModel
from vultus.images import write_png
from vultus.progress import Progress, counted


@dataclass(frozen=True)
class WriteOptions:
    """What some layouts need beside the capture: the head model its parameters are of, the side of square pictures."""

    head: HeadModel | None = None
    size: int = 2048


def view_name(view: View, timestep: int | None = None) -> str:
    """`00012_03`: timestep (as in the view, or another one) and camera."""
    return f"{view.timestep if timestep is None else timestep:05d}_{view.camera:02d}"


def straight_colors(capture: Capture, view: View) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"]]:
    """Colours not yet composited (white where nothing shows), and the 8-bit mask that they are to be composited by."""
    over_white, mask = capture.image(view), (capture.mask(view) * 255).round() / 255
    straight = torch.where(mask > 0, (over_white - (1 - mask)) / mask.clamp_min(1 / 255), torch.ones_like(over_white))
    return straight.clamp(0, 1), mask


def save_pictures(
    capture: Capture,
    folder: Path,
    progress: Progress,
    *,
    masks: str = "masks/{}.png",
    numbers: Mapping[int, int] | None = None,
) -> Iterator[View]:
    """Write every picture over white and its mask as PNG; yields each view that is done.

    `masks` is the pattern of the masks' names; `numbers` maps the capture's timesteps to those in the names of files.
    """
    for view in counted(capture.views, "pictures", len(capture.views), progress):
        name = view_name(view, None if numbers is None else numbers[view.timestep])
        write_png(folder / masks.format(name), capture.mask(view))
        write_png(folder / "images" / f"{name}.png", capture.image(view))
        yield view
