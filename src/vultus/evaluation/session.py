"""The loop that measures one comparison after the other, remembers what is done, and writes the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vultus import __version__
from vultus.evaluation import report
from vultus.evaluation.embeddings import FaceNetwork, expression_distance, identity_similarity
from vultus.evaluation.keypoints import keypoint_distance
from vultus.evaluation.measures import PerceptualSettings, measure
from vultus.evaluation.pictures import FULL_SCALE, WorstFrame, error_picture, worst_sheet
from vultus.evaluation.records import RecordFile
from vultus.evaluation.temporal import Shown, temporal_change
from vultus.files import write_bytes, write_json
from vultus.images import to_uint8, write_png
from vultus.progress import Progress, silent
from vultus.tracking.detectors import Detector

FORMAT, VERSION = "vultus-evaluation", 1
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Comparison:
    """One picture to measure. show: renders (or reads) it, beside its target.

    follows: the comparison of the instant before, where it is one of the same camera and take.
    """

    protocol: str
    camera: str
    timestep: int
    show: Callable[[], Shown]
    follows: Comparison | None = field(default=None, repr=False)

    @property
    def key(self) -> Key:
        return self.protocol, self.camera, self.timestep


@dataclass(frozen=True)
class Instruments:
    """What is measured beside colours; None: not measured."""

    perceptual: PerceptualSettings | None = None
    detector: Detector | None = None
    identity: FaceNetwork | None = None
    expression: FaceNetwork | None = None


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
    """Measure comparisons and write `evaluation.json`, `evaluation.md`, `worst_frames.png`, `errors/`, `views.jsonl`.

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
        done = {_key(record): record for record in records.records}
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
        _write_worst(comparisons, done, outputs)
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
    done = {_key(record) for record in records.records}
    last: tuple[Key, Shown] | None = None
    for index, item in enumerate(comparisons):
        picture = outputs.folder / "errors" / item.protocol / f"{item.timestep:05d}_{item.camera}.png"
        wants_picture = outputs.heat_maps and not picture.is_file()
        if item.key in done and not wants_picture:
            continue
        progress("evaluate", index, len(comparisons), {})
        now = item.show()
        if outputs.heat_maps:
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
    record: dict[str, Any] = {"protocol": item.protocol, "camera": item.camera, "timestep": item.timestep}
    if now.weight is not None:
        record["mask"] = measure(now.prediction, now.target, now.weight, perceptual=instruments.perceptual)
    record["image"] = measure(now.prediction, now.target, perceptual=instruments.perceptual)
    if before is not None:
        record |= asdict(temporal_change(before, now))
    picture, target = to_uint8(now.prediction), to_uint8(now.target)
    if instruments.detector is not None:
        distance = keypoint_distance(instruments.detector, picture, target)
        if distance is not None:
            record |= {"akd_pixels": distance.pixels, "akd_eye_share": distance.eye_share}
    if instruments.identity is not None:
        record["identity_similarity"] = identity_similarity(instruments.identity, picture, target)
    if instruments.expression is not None:
        record["expression_distance"] = expression_distance(instruments.expression, picture, target)
    return record


def _key(record: Mapping[str, Any]) -> Key:
    return str(record.get("protocol")), str(record.get("camera")), int(record.get("timestep", -1))


def _absent(protocols: Mapping[str, Any]) -> dict[str, str]:
    """Figures that the pictures themselves do not have."""
    means = [protocol["mean"] for protocol in protocols.values()]
    absent = {}
    if not any("mask" in mean for mean in means):
        absent["figures inside the mask"] = "there are no masks"
    if not any("ms_ssim" in mean["image"] for mean in means):
        absent["MS-SSIM"] = "needs pictures of at least 176 pixels per side"
    if not any("pairs" in mean for mean in means):
        absent["temporal stability"] = "needs consecutive instants of one camera"
    return absent


def _write_worst(comparisons: Sequence[Comparison], done: Mapping[Key, Mapping[str, Any]], outputs: Outputs) -> None:
    by_key = {item.key: item for item in comparisons}
    frames = []
    for row in report.worst([done[key] for key in by_key], outputs.worst):
        shown = by_key[_key(row)].show()
        quality = row.get("mask", row["image"]).get("psnr")
        label = f"t {row['timestep']}\ncam {row['camera']}" + (f"\n{quality:.1f} dB" if quality is not None else "")
        frames.append(WorstFrame(label, shown.prediction, shown.target, shown.weight))
    footer = f"error: black 0, light {round(255 * FULL_SCALE)} of 255 or more · Vultus {__version__}"
    write_png(outputs.folder / "worst_frames.png", worst_sheet(frames, footer))
