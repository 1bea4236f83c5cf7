"""What a track is worth, as numbers that a person and a program can read."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool

from vultus.tracking.landmark_fit import Fit
from vultus.tracking.landmark_regions import TRUSTED, regions
from vultus.tracking.selection import Selection

MISFIT = 0.08
"""A frame whose mean residual on trusted points is more than this share of the eye distance is not exported."""


def build_report(
    fit: Fit, selection: Selection, valid: Bool[np.ndarray, "N"], reasons: dict[int, str], timings: dict[str, float]
) -> dict[str, Any]:
    """Share of valid frames, residuals per region in % of the outer eye distance, shots, reasons, seconds spent."""
    names = np.array(regions(fit.set_name, fit.ids))
    residuals = fit.residual[valid] * 100
    by_region = {}
    for region in ("eyes", "iris", "nose", "mouth", "brows", "jaw", "other"):
        values = residuals[..., names == region]
        values = values[np.isfinite(values)]
        if values.size:
            by_region[region] = {"mean": float(values.mean()), **_percentiles(values)}
    trusted = fit.mean_error(TRUSTED)[valid] * 100
    shots = [
        {"shot": int(shot), "first": int(members[0]), "last": int(members[-1]), "people": count}
        for shot, count in zip(np.unique(selection.shots), selection.face_counts, strict=True)
        if len(members := np.flatnonzero(selection.shots == shot))
    ]
    summary: dict[str, int] = {}
    for reason in reasons.values():
        summary[reason] = summary.get(reason, 0) + 1
    return {
        "frames": len(valid),
        "valid_percent": float(100 * valid.mean()),
        "error_percent_of_eye_distance": {"mean": float(np.nanmean(trusted)), **_percentiles(trusted)},
        "error_by_region": by_region,
        "shots": shots,
        "invalid": summary,
        "invalid_frames": {str(frame): reason for frame, reason in sorted(reasons.items())},
        "focal_pixels": fit.shared.focal,
        "image_size": [fit.shared.width, fit.shared.height],
        "largest_identity_coefficient": float(fit.shared.identity.abs().max()),
        "landmark_set": fit.set_name,
        "converged": fit.converged,
        "iterations": fit.iterations,
        "seconds": {stage: round(seconds, 3) for stage, seconds in timings.items()},
    }


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{level}": float(np.nanpercentile(values, level)) for level in (50, 90, 99)}
