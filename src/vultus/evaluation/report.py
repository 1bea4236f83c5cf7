"""From records of single pictures to means, tables and text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vultus.evaluation.measures import FIGURES
from vultus.evaluation.protocols import evenly

Record = Mapping[str, Any]
REGIONS = {"face": "face", "mask": "inside the mask", "image": "whole image"}
GROUPS = {
    "camera": "by_camera", "timestep": "by_timestep", "source_clip": "by_source_clip", "target_clip": "by_target_clip"
}  # fmt: skip
"""What means are taken by, and their names in `evaluation.json`."""
_PLACES = ("camera", "timestep", "source", "target")
_DECIMALS = {"psnr": 2, "psnr_channels": 2}
_SHOWN = ("psnr", "ssim", "ms_ssim", "lpips", "l1")
_OTHERS = {
    "faces": ("faces found", "", 0),
    "akd_pixels": ("AKD", "px", 2),
    "akd_eye_share": ("AKD / eye distance", "%", 2),
    "identity_similarity": ("identity similarity (CSIM)", "", 4),
    "expression_distance": ("expression distance (AED)", "", 4),
    "pose_distance": ("pose distance (APD)", "", 4),
    "tracked_expression_distance": ("AED by Vultus' tracker", "", 4),
    "tracked_pose_distance": ("APD by Vultus' tracker", "rad", 4),
    "flicker": ("flicker", "levels", 2),
    "change_ratio": ("change, render / footage", "", 3),
}


def key(record: Record) -> tuple[str, ...]:
    """What tells a picture's record from all others."""
    return tuple(str(record.get(name)) for name in ("protocol", *_PLACES) if name in record or name == "protocol")


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Means over the pictures of one protocol: of all, by camera and by timestep, or by source and by target clip.

    Every mean is one of per-picture values. `pairs` is how many consecutive pictures the temporal figures are of,
    `faces` in how many pictures keypoints were found.
    """
    used = [name for name in GROUPS if all(name in record for record in records)]
    return {
        "pictures": len(records),
        "mean": _means(records),
        **{GROUPS[name]: _grouped(records, lambda record, name=name: str(record[name])) for name in used},
    }


def rows(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """Every picture's figures, as a table's header and rows."""
    records = [record for protocol in evaluation["protocols"].values() for record in protocol["views"]]
    flat = [
        {
            f"{name}_{inner}" if isinstance(value, Mapping) else name: number
            for name, value in record.items()
            for inner, number in (value.items() if isinstance(value, Mapping) else [("", value)])
        }
        for record in records
    ]
    header = list(dict.fromkeys(name for row in flat for name in row))
    return header, [["" if row.get(name) is None else row[name] for name in header] for row in flat]


def worst(records: Iterable[Record], count: int) -> list[Record]:
    """The worst pictures: by PSNR (of the face, else inside the mask, else of all), and where colours cannot be
    compared by the first of identity, expression and keypoints that was measured."""
    return _ranked(records)[:count]


def extremes(records: Iterable[Record], count: int) -> list[tuple[str, Record]]:
    """The worst pictures (half of `count`, at least one), then as many around the median, each with what it is; of
    pictures that have no figure to rank them by, some evenly spread ones."""
    ranked = _ranked(records)
    if all(_quality(record)[0] is None for record in ranked):
        return [("some", record) for record in evenly(ranked, count)]
    half = max(1, count // 2)
    rest = ranked[half:]
    start = max(0, (len(ranked) - half) // 2 - half)
    median = rest[start : start + max(0, count - half)]
    return [("worst", record) for record in ranked[:half]] + [("median", record) for record in median]


def label(record: Record) -> str:
    """A picture's name and what it was ranked by, in lines for a sheet."""
    named, value = _quality(record)
    figure = "" if named is None else f"\n{_RANKED_BY[named].format(abs(value))}"
    if "timestep" in record:
        return f"t {record['timestep']}\ncam {record['camera']}{figure}"
    return f"{record['source']}\nby {record['target']}{figure}"


_RANKED_BY = {
    "psnr": "{:.1f} dB",
    "identity_similarity": "CSIM {:.3f}",
    "expression_distance": "AED {:.3f}",
    "tracked_expression_distance": "own AED {:.3f}",
    "akd_eye_share": "AKD {:.3f}",
}


def _ranked(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: _quality(record)[1])


def _quality(record: Record) -> tuple[str | None, float]:
    """The name of what a picture is ranked by, and the figure, greater where it is better."""
    region = next((record[name] for name in REGIONS if "psnr" in record.get(name, {})), None)
    if region is not None:
        return "psnr", float(region["psnr"])
    for name in _RANKED_BY:
        if record.get(name) is not None:
            return name, float(record[name]) * (1 if name == "identity_similarity" else -1)
    return None, -math.inf


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
        for group, key in GROUPS.items():
            title, groups = group.replace("_", " "), protocol.get(key, {})
            repeated = group == "source_clip" and name == "self-reenactment"
            table = _table_of_groups(title, groups) if len(groups) > 1 and not repeated else []
            lines += ["", f"## {name}, by {title}", "", *table] if table else []
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
    rows = [[protocol, *(_other_cell(found["mean"], name) for name in used)] for protocol, found in protocols.items()]
    return _table(["protocol", *map(_other_title, used)], rows)


def _other_title(name: str) -> str:
    title, unit, _ = _OTHERS[name]
    return f"{title} ({unit})" if unit else title


def _other_cell(values: Mapping[str, Any], name: str) -> str:
    value, (_, unit, decimals) = values.get(name), _OTHERS[name]
    return _cell(value if value is None or unit != "%" else 100 * value, decimals)


def _table_of_groups(title: str, groups: Mapping[str, Any]) -> list[str]:
    region = next((name for name in REGIONS if any(name in group for group in groups.values())), "image")
    used = [name for name in _SHOWN if any(name in group.get(region, {}) for group in groups.values())]
    others = [name for name in _OTHERS if any(name in group for group in groups.values())] if not used else []
    header = [title, "pictures", *(f"{_title(name)}, {REGIONS[region]}" for name in used)]
    header += [_other_title(name) for name in others]
    if not used and not others:
        return []
    table = []
    for name, group in groups.items():
        cells = [_cell(group.get(region, {}).get(figure), _DECIMALS.get(figure, 4)) for figure in used]
        cells += [_other_cell(group, figure) for figure in others]
        table.append([name, str(group["pictures"]), *cells])
    return _table(header, table)


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
