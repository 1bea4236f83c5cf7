"""What follows every fit: the hair's outline, the neutral, who turns the head; and what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from vultus.captures import CaptureWriter
from vultus.files import write_json
from vultus.heads import SkinnedHead
from vultus.motion import Motion
from vultus.tracking.hair_offset import Silhouette, fit_hair_offset
from vultus.tracking.landmark_fit import Fit
from vultus.tracking.neck import turn_neck
from vultus.tracking.neutral import neutral_of
from vultus.tracking.report import build_report
from vultus.tracking.selection import Selection
from vultus.tracking.shared_file import write_shared


def with_hair(head: SkinnedHead, fit: Fit, silhouettes: Sequence[Silhouette]) -> Fit:
    """The fit with the scalp moved out to where the hair ends, if that matches the outlines better."""
    offset = fit_hair_offset(head, silhouettes, fit.shared.offset)
    if offset is None:
        return fit
    return replace(fit, params=replace(fit.params, offset=offset), shared=replace(fit.shared, offset=offset))


def at_rest(head: SkinnedHead, fit: Fit, valid: Bool[np.ndarray, "N"]) -> Fit:
    """The fit with the person's neutral, and the head turned by the neck from the neutral's root."""
    neutral = fit.shared.neutral or neutral_of(fit.params, torch.from_numpy(valid))
    neutral = replace(neutral, identity=fit.shared.identity, offset=fit.shared.offset)
    params = turn_neck(head, fit.params, neutral.joint("root"))
    return replace(fit, params=params, shared=replace(fit.shared, neutral=neutral))


def motion_of(fit: Fit, valid: Bool[np.ndarray, "N"], times: Float64[Tensor, "N"], shots: Int[Tensor, "N"]) -> Motion:
    """The motion of a fit that is at rest (ValueError: it is not)."""
    if fit.shared.neutral is None:
        raise ValueError("the fit has no neutral yet")
    return Motion(fit.params, times, fit.shared.neutral, torch.from_numpy(valid), shots)


def write_fit(
    writer: CaptureWriter,
    fit: Fit,
    motion: Motion,
    selection: Selection,
    reasons: dict[int, str],
    valid: Bool[np.ndarray, "N"],
    seconds: dict[str, float],
    more: Mapping[str, Any],
) -> None:
    """The motion, `shared.npz` and `report.json`, which takes `more` too."""
    writer.set_motion(motion)
    write_shared(writer.folder, fit.shared)
    write_json(writer.folder / "report.json", {**build_report(fit, selection, valid, reasons, seconds), **more})
