"""Pictures of errors: heat maps, and sheets of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.images import resize, to_uint8
from vultus.images.sheets import contact_sheet

FULL_SCALE = 0.16
"""Mean absolute difference of the channels that is drawn in the lightest colour."""
_RAMP = ((0, 0, 4), (60, 15, 110), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))


def error_picture(
    prediction: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], weight: Float[Tensor, "H W 1"] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The absolute difference, mean of the channels, from black (none) to light yellow (`FULL_SCALE` or more).

    Pixels that do not count are drawn grey: dark ones where the pictures agree, light ones where they do not.
    """
    error = (prediction.clamp(0, 1) - target).abs().mean(-1, keepdim=True) / FULL_SCALE
    ramp = torch.tensor(_RAMP, dtype=torch.float32) / 255
    place = error.clamp(0, 1) * (len(_RAMP) - 1)
    below = place.floor().clamp(max=len(_RAMP) - 2)
    index, share = below[..., 0].long(), place - below
    colors = (1 - share) * ramp[index] + share * ramp[index + 1]
    if weight is not None:
        colors = torch.where(weight > 0, colors, (0.12 + 0.5 * error.clamp(0, 1)).expand_as(colors))
    return to_uint8(colors)


@dataclass(frozen=True)
class SheetFrame:
    """A row of a sheet: which picture it is, its figure, and the pictures. truth: whether the target is what the
    prediction should be; else it is only what drives it."""

    label: str
    prediction: Float[Tensor, "H W 3"]
    target: Float[Tensor, "H W 3"]
    weight: Float[Tensor, "H W 1"] | None = None
    source: Float[Tensor, "h w 3"] | None = None
    truth: bool = True


def frames_sheet(frames: Sequence[SheetFrame], footer: str, *, height: int = 280) -> UInt8[np.ndarray, "H W 3"]:
    """The source where there is one, the target, what was rendered, and the error where the target is the truth; one
    frame per row, all in the size of the first."""
    first = frames[0].target
    width = max(1, round(height * first.shape[1] / first.shape[0]))
    has_source, has_error = (any(each) for each in zip(*((f.source is not None, f.truth) for f in frames), strict=True))
    blank = torch.ones(height, width, 3)
    rows, labels = [], []
    for frame in frames:
        pictures = [frame.target, frame.prediction.clamp(0, 1)]
        if has_source:
            pictures.insert(0, blank if frame.source is None else frame.source)
        if has_error:
            error = error_picture(frame.prediction, frame.target, frame.weight)
            pictures.append(torch.from_numpy(error.copy()).float() / 255 if frame.truth else blank)
        rows.append([to_uint8(resize(picture, width, height)) for picture in pictures])
        labels.append(frame.label)
    columns = ["target" if has_error else "driver", "avatar"]
    columns = ["source", *columns] if has_source else columns
    columns = [*columns, "error"] if has_error else columns
    return contact_sheet(rows, column_labels=columns, row_labels=labels, footer=footer)
