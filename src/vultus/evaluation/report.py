"""From records of single pictures to means, tables and text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vultus.evaluation.measures import FIGURES

Record = Mapping[str, Any]
REGIONS = {"mask": "inside the mask", "image": "whole image"}
_DECIMALS = {"psnr": 2, "psnr_channels": 2}
_SHOWN = ("psnr", "ssim", "ms_ssim", "lpips", "l1")
_OTHERS = {
    "akd_pixels": ("AKD", "px", 2),
    "akd_eye_share": ("AKD / eye distance", "%", 2),
    "identity_similarity": ("identity similarity (CSIM)", "", 4),
    "expression_distance": ("expression distance (AED)", "", 4),
    "flicker": ("flicker", "levels", 2),
    "change_ratio": ("change, render / footage", "", 3),
}


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Means over the pictures of one protocol: of all, by camera, by timestep.

    Every mean is one of per-picture values. `pairs` is how many consecutive pictures the temporal figures are of,
    `faces` in how many pictures keypoints were found.
    """
    return {
        "pictures": len(records),
        "mean": _means(records),
        "by_camera": _grouped(records, lambda record: str(record["camera"])),
        "by_timestep": _grouped(records, lambda record: str(record["timestep"])),
    }


def worst(records: Iterable[Record], count: int) -> list[Record]:
    """The pictures with the lowest PSNR, inside the mask where there is one."""

    def quality(record: Record) -> float:
        return float(record.get("mask", record["image"]).get("psnr", math.inf))

    return sorted(records, key=quality)[:count]


def markdown(evaluation: Mapping[str, Any]) -> str:
    """The evaluation as a page of Markdown tables."""
    lines = [f"# Evaluation of {evaluation['subject']}", ""]
    lines += [f"- {name}: {text}" for name, text in evaluation["about"].items()]
    lines += ["", "## Means over the pictures", ""]
    lines += _table_of_means(evaluation["protocols"])
    extra = _table_of_others(evaluation["protocols"])
    if extra:
        lines += ["", *extra]
    for name, protocol in evaluation["protocols"].items():
        for title, key in (("camera", "by_camera"), ("timestep", "by_timestep")):
            groups = protocol[key]
            if len(groups) > 1:
                lines += ["", f"## {name}, by {title}", "", *_table_of_groups(title, groups)]
    if evaluation["not_measured"]:
        lines += ["", "## Not measured", ""]
        lines += [f"- {name}: {why}" for name, why in evaluation["not_measured"].items()]
    lines += ["", "Each figure is the mean of per-picture values. Figures of other programs or papers are comparable"]
    lines += ["only under the same protocol, mask, background and image size.", ""]
    return "\n".join(lines)


def lines(evaluation: Mapping[str, Any]) -> list[str]:
    """The means, a few lines for a terminal."""
    text = []
    for name, protocol in evaluation["protocols"].items():
        text.append(f"{name:<14} {protocol['pictures']} pictures")
        for region, values in _regions(protocol["mean"]).items():
            shown = [key for key in _SHOWN if key in values]
            cells = [f"{FIGURES[key].title} {_cell(values[key], _DECIMALS.get(key, 4))}" for key in shown]
            text.append(f"  {REGIONS[region] + ':':<18}{'  '.join(cells)}")
        others = [
            f"{_OTHERS[key][0]} {_cell(protocol['mean'][key], _OTHERS[key][2])} {_OTHERS[key][1]}".rstrip()
            for key in _OTHERS
            if key in protocol["mean"] and key != "akd_eye_share"
        ]
        if others:
            text.append(f"  {'  '.join(others)}")
    return text + [f"{'not measured':<14} {name}: {why}" for name, why in evaluation["not_measured"].items()]


def _means(records: Sequence[Record]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for region in REGIONS:
        rows = [record[region] for record in records if region in record]
        if rows:
            found[region] = {name: mean for name in FIGURES if (mean := _mean(rows, name)) is not None}
    plain = [name for name in _OTHERS if name != "change_ratio"]
    found |= {name: mean for name in plain if (mean := _mean(records, name)) is not None}
    moved = _mean(records, "change"), _mean(records, "target_change")
    if moved[0] is not None and moved[1]:
        found["change_ratio"] = moved[0] / moved[1]
    pairs = sum("flicker" in record for record in records)
    faces = sum("akd_pixels" in record for record in records)
    return found | ({"pairs": pairs} if pairs else {}) | ({"faces": faces} if faces else {})


def _mean(rows: Sequence[Record], name: str) -> float | None:
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else None


def _grouped(records: Sequence[Record], key: Callable[[Record], str]) -> dict[str, Any]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    ordered = sorted(groups, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    return {name: {"pictures": len(groups[name]), **_means(groups[name])} for name in ordered}


def _table_of_means(protocols: Mapping[str, Any]) -> list[str]:
    used = [name for name in _SHOWN if any(name in m for p in protocols.values() for m in _regions(p["mean"]).values())]
    rows = []
    for protocol, found in protocols.items():
        for region, values in _regions(found["mean"]).items():
            cells = [_cell(values.get(name), _DECIMALS.get(name, 4)) for name in used]
            rows.append([protocol, str(found["pictures"]), REGIONS[region], *cells])
    return _table(["protocol", "pictures", "where", *(_title(name) for name in used)], rows)


def _table_of_others(protocols: Mapping[str, Any]) -> list[str]:
    used = [name for name in _OTHERS if any(name in protocol["mean"] for protocol in protocols.values())]
    if not used:
        return []
    rows = []
    for protocol, found in protocols.items():
        values = dict(found["mean"])
        if "akd_eye_share" in values:
            values["akd_eye_share"] *= 100
        rows.append([protocol, *(_cell(values.get(name), _OTHERS[name][2]) for name in used)])
    titles = [f"{_OTHERS[name][0]} ({_OTHERS[name][1]})" if _OTHERS[name][1] else _OTHERS[name][0] for name in used]
    return _table(["protocol", *titles], rows)


def _table_of_groups(title: str, groups: Mapping[str, Any]) -> list[str]:
    region = "mask" if any("mask" in group for group in groups.values()) else "image"
    used = [name for name in _SHOWN if any(name in group.get(region, {}) for group in groups.values())]
    header = [title, "pictures", *(f"{_title(name)}, {REGIONS[region]}" for name in used)]
    rows = [
        [
            name,
            str(group["pictures"]),
            *(_cell(group.get(region, {}).get(figure), _DECIMALS.get(figure, 4)) for figure in used),
        ]
        for name, group in groups.items()
    ]
    return _table(header, rows)


def _regions(means: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {region: means[region] for region in REGIONS if region in means}


def _title(name: str) -> str:
    figure = FIGURES[name]
    arrow = "↑" if figure.more_is_better else "↓"
    return f"{figure.title} ({figure.unit}) {arrow}" if figure.unit else f"{figure.title} {arrow}"


def _cell(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
