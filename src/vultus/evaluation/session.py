"""The loop that measures one comparison after the other, remembers what is done, and writes the report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vultus import __version__
from vultus.evaluation import report
from vultus.evaluation.embeddings import FaceNetwork, code_distance, identity_similarity
from vultus.evaluation.keypoints import keypoint_distance
from vultus.evaluation.measures import PerceptualSettings, measure
from vultus.evaluation.pictures import FULL_SCALE, SheetFrame, error_picture, frames_sheet
from vultus.evaluation.records import RecordFile
from vultus.evaluation.temporal import Shown, temporal_change
from vultus.evaluation.tracked_faces import tracked_distance
from vultus.files import write_bytes, write_json, write_table
from vultus.images import to_uint8, write_png
from vultus.progress import Progress, silent
from vultus.tracking.detectors import Detector

FORMAT, VERSION = "vultus-evaluation", 1
Key = tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """One picture to measure. show: renders (or reads) it, beside its target.

    place: what tells it from the protocol's others: `camera` and `timestep`, or `source` and `target`. follows: the
    comparison of the instant before, where it is one of the same camera and take. groups: further names under which
    means are taken (`report.GROUPS`).
    """

    protocol: str
    place: Mapping[str, str | int]
    show: Callable[[], Shown]
    follows: Comparison | None = field(default=None, repr=False)
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return report.key({"protocol": self.protocol, **self.place})

    @property
    def file_name(self) -> str:
        """Its error picture's, below the protocol's folder."""
        if "timestep" in self.place:
            return f"{self.place['timestep']:05d}_{self.place['camera']}.png"
        name = "_to_".join(re.sub(r"[^\w.-]+", "-", str(part)) for part in self.place.values())
        return f"{name[:120]}_{hashlib.sha256(repr(self.key).encode()).hexdigest()[:8]}.png"


@dataclass(frozen=True)
class Instruments:
    """What is measured beside colours; None: not measured. tracker: finds the points that our own fit of expression
    and pose is made to."""

    perceptual: PerceptualSettings | None = None
    detector: Detector | None = None
    identity: FaceNetwork | None = None
    expression: FaceNetwork | None = None
    pose: FaceNetwork | None = None
    tracker: Detector | None = None


@dataclass(frozen=True)
class Outputs:
    """What is written. worst: rows of the sheet of worst frames. overwrite: replace what is of something else."""

    folder: Path
    heat_maps: bool = True
    worst: int = 6
    overwrite: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The content of `evaluation.json`, and the folder it is in."""

    folder: Path
    content: Mapping[str, Any]


def run_comparisons(
    comparisons: Sequence[Comparison],
    outputs: Outputs,
    instruments: Instruments,
    *,
    subject: str,
    decided_by: Mapping[str, Any],
    described: Mapping[str, str],
    not_measured: Mapping[str, str],
    progress: Progress = silent,
) -> Evaluation:
    """Measure comparisons and write `evaluation.json`, `evaluation.md`, `figures.csv`, sheets, `errors/` and
    `views.jsonl`.

    What `views.jsonl` holds already is not measured again.

    Args:
        subject: the report's title. decided_by: everything a record depends on; a `views.jsonl` under another one is
            refused. described: lines for people. not_measured: figures that are missing, and what they need.

    Raises:
        VultusError: a picture cannot be read, or the folder holds something else or cannot be written.
    """
    about = {"format": FORMAT, "version": VERSION, "vultus": __version__, **decided_by}
    with closing(RecordFile(outputs.folder / "views.jsonl", about, overwrite=outputs.overwrite)) as records:
        _measure_all(comparisons, outputs, instruments, records, progress)
        done = {report.key(record): record for record in records.records}
    protocols: dict[str, Any] = {}
    for protocol in dict.fromkeys(item.protocol for item in comparisons):
        rows = [done[item.key] for item in comparisons if item.protocol == protocol]
        protocols[protocol] = {**report.summary(rows), "views": rows}
    content = {
        **about,
        "subject": subject,
        "about": dict(described),
        "protocols": protocols,
        "not_measured": {**not_measured, **_absent(protocols)},
    }
    if outputs.worst > 0:
        _write_sheets(comparisons, done, outputs)
    write_table(outputs.folder / "figures.csv", *report.rows(content))
    write_json(outputs.folder / "evaluation.json", content)
    write_bytes(outputs.folder / "evaluation.md", report.markdown(content).encode("utf-8"))
    return Evaluation(outputs.folder, content)


def _measure_all(
    comparisons: Sequence[Comparison],
    outputs: Outputs,
    instruments: Instruments,
    records: RecordFile,
    progress: Progress,
) -> None:
    done = {report.key(record) for record in records.records}
    last: tuple[Key, Shown] | None = None
    for index, item in enumerate(comparisons):
        picture = outputs.folder / "errors" / item.protocol / item.file_name
        wants_picture = outputs.heat_maps and item.protocol != "cross-reenactment" and not picture.is_file()
        if item.key in done and not wants_picture:
            continue
        progress("evaluate", index, len(comparisons), {})
        now = item.show()
        if wants_picture:
            write_png(picture, error_picture(now.prediction, now.target, now.weight))
        if item.key not in done:
            before = None
            if item.follows is not None:
                before = last[1] if last is not None and last[0] == item.follows.key else item.follows.show()
            records.add(_measured(item, now, before, instruments))
            done.add(item.key)
        last = item.key, now
    progress("evaluate", len(comparisons), len(comparisons), {})


def _measured(item: Comparison, now: Shown, before: Shown | None, instruments: Instruments) -> dict[str, Any]:
    record: dict[str, Any] = {"protocol": item.protocol, **item.place, **item.groups}
    perceptual, faces = instruments.perceptual, now.faces
    if now.truth:
        if faces is not None:
            record["face"] = measure(faces.prediction, faces.target, perceptual=perceptual)
        if now.weight is not None:
            record["mask"] = measure(now.prediction, now.target, now.weight, perceptual=perceptual)
        record["image"] = measure(now.prediction, now.target, perceptual=perceptual)
    if before is not None:
        record |= asdict(temporal_change(before, now))
    seen = faces or now
    picture, target = to_uint8(seen.prediction), to_uint8(seen.target)
    if instruments.detector is not None:
        distance = keypoint_distance(instruments.detector, picture, target)
        if distance is not None:
            record |= {"akd_pixels": distance.pixels, "akd_eye_share": distance.eye_share}
    if instruments.identity is not None:
        person = target if now.truth or seen.source is None else to_uint8(seen.source)
        record["identity_similarity"] = identity_similarity(instruments.identity, picture, person)
    for name, network in (("expression", instruments.expression), ("pose", instruments.pose)):
        if network is not None:
            record[f"{name}_distance"] = code_distance(network, picture, target)
    if instruments.tracker is not None and faces is not None:
        tracked = tracked_distance(instruments.tracker, faces)
        if tracked is not None:
            record |= {"tracked_expression_distance": tracked.expression, "tracked_pose_distance": tracked.pose}
    return record


def _absent(protocols: Mapping[str, Any]) -> dict[str, str]:
    """Figures that the pictures themselves do not have."""
    means = [protocol["mean"] for protocol in protocols.values()]
    absent = {}
    if not any("mask" in mean or "face" in mean for mean in means):
        absent["figures inside the mask"] = "there are no masks"
    if not any("ms_ssim" in mean.get(region, {}) for mean in means for region in report.REGIONS):
        absent["MS-SSIM"] = "needs pictures of at least 176 pixels per side"
    if not any("pairs" in mean for mean in means):
        absent["temporal stability"] = "needs consecutive instants of one camera"
    if "cross-reenactment" in protocols:
        absent["colours in cross-reenactment"] = "nobody knows how the source would look in the driving picture"
    return absent


def _write_sheets(comparisons: Sequence[Comparison], done: Mapping[Key, Mapping[str, Any]], outputs: Outputs) -> None:
    """The worst frames of an avatar; of pairs, the worst and the median ones of every protocol."""
    by_key = {item.key: item for item in comparisons}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for key, item in by_key.items():
        groups.setdefault(item.protocol if "source" in item.place else "worst_frames", []).append(done[key])
    for name, records in groups.items():
        chosen = [("", row) for row in report.worst(records, outputs.worst)]
        if name != "worst_frames":
            chosen = [(f"{kind}\n", row) for kind, row in report.extremes(records, outputs.worst)]
        frames = []
        for kind, row in chosen:
            now = by_key[report.key(row)].show()
            label = kind + report.label(row)
            frames.append(SheetFrame(label, now.prediction, now.target, now.weight, now.source, now.truth))
        shows_error = any(frame.truth for frame in frames)
        footer = f"error: black 0, light {round(255 * FULL_SCALE)} of 255 or more · " if shows_error else ""
        write_png(outputs.folder / f"{name}.png", frames_sheet(frames, f"{footer}Vultus {__version__}"))
