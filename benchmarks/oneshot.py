"""What a one-shot network learned of people it never saw, against three simple answers.

    python benchmarks/oneshot.py WORK --people 1000 --steps 20000
    python benchmarks/oneshot.py WORK --weights RUN_OR_FILE --data TRAINING_DATA
    python benchmarks/oneshot.py WORK --data TRAINING_DATA --steps 800 --held-out 20 --ablations

The first makes training data in WORK/people (`vultus synth --layout gagavatar`), trains the preset `small` in
WORK/run, for at most --minutes at a time (the same command goes on), then compares; the second only compares.
--ablations trains every variant with two seeds instead, one after the other; finished ones are not made again. Held
out are made-up people of other seeds, one source and four targets each, the list fixed by a seed: every target's head
is turned by at least 15 degrees from the source, or its expression differs strongly. PSNR is taken inside the dilated
true mask. Three lists: any source; a profile source; a closed mouth as source of open ones. Where a pixel shows what
the source's picture did not, the error is also given by itself. Answers compared: the source as it is, the source
moved by the 2D similarity of the tracked landmarks, the mean of the training pictures. Intervals are 95 %,
bootstrapped over people. Writes WORK/oneshot.json, WORK/oneshot.png (pictures) and WORK/curve.svg (how the network
learned); with --ablations WORK/ablations.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vultus.animation.performance import moments
from vultus.avatars.oneshot import (
    Frame,
    LossWeights,
    OneShotModel,
    Parts,
    load_model,
    preset,
    require_skinned,
    train,
)
from vultus.avatars.oneshot.head_space import head_vertices, network_vertices, without_pose
from vultus.avatars.oneshot.options import FOCAL
from vultus.cameras import Camera, look_at
from vultus.captures.gagavatar_lmdb import TrackedPictures
from vultus.captures.gagavatar_records import record_of
from vultus.captures.studio import Studio, make_person, random_lighting
from vultus.cli.terminal import progress_bars
from vultus.files import read_json, write_bytes, write_json
from vultus.heads.load import load_head
from vultus.heads.model import SkinnedHead
from vultus.images import psnr, resize, to_uint8, write_png
from vultus.images.masks import dilate
from vultus.images.sheets import contact_sheet
from vultus.meshes import rasterize_mesh
from vultus.workflows.synth import SynthSettings, synthesize

SEED, FIRST_PERSON = 7, 5_000_000
TARGETS, TURN_DEGREES, STRONG_METRES = 4, 15.0, 0.006
LISTS = ("any", "profile", "mouth")
SEEDS = (0, 1)


@dataclass(frozen=True)
class Picture:
    """A held-out picture with all that is known about it. vertices: in the head's own space, metres."""

    frame: Frame
    alpha: Tensor
    vertices: Tensor
    camera: Camera


def pictures_of(person: int, kind: str, head: SkinnedHead, size: int) -> list[Picture]:
    """A source and its targets: the first of them is the source."""
    someone = make_person(FIRST_PERSON + person, head)
    studio = Studio(head, someone, random_lighting(FIRST_PERSON + person), wardrobe=True, size=size)
    motion = moments(head, 40, seed=FIRST_PERSON + person)
    rng = np.random.default_rng([SEED, person, LISTS.index(kind)])
    params = [replace(motion.params[index], identity=someone.identity) for index in range(40)]
    eye = torch.tensor([0.0, 0.1, 1.86]) + torch.from_numpy(rng.normal(0, 0.05, 3)).float()
    camera = Camera.from_focal(FOCAL * size / 2, size, size, look_at(eye, torch.tensor([0.0, 0.002, 0.0])))
    poses = torch.stack([head.head_to_world(each)[:3, :3] for each in params])
    shapes = torch.stack([head_vertices(head, each) for each in params])
    yaw = torch.atan2(poses[:, 0, 2], poses[:, 2, 2]).abs().rad2deg()
    jaw = torch.stack([each.joint("jaw")[0] for each in params])
    if kind == "profile":
        source = int(yaw.argmax())
        chosen = [index for index in yaw.argsort().tolist() if index != source]
    elif kind == "mouth":
        source = int(jaw.argmin())
        chosen = [index for index in jaw.argsort(descending=True).tolist() if index != source]
    else:
        source = int(rng.integers(40))
        turn = ((poses @ poses[source].T).diagonal(dim1=-2, dim2=-1).sum(-1) - 1).div(2).clamp(-1, 1).acos().rad2deg()
        moved = (shapes - shapes[source]).norm(dim=-1).quantile(0.95, dim=-1)
        differs = (turn >= TURN_DEGREES) | (moved >= STRONG_METRES)
        chosen = [index for index in rng.permutation(40).tolist() if index != source and bool(differs[index])]
    result = []
    for index in [source, *chosen[:TARGETS]]:
        with torch.no_grad():
            shot = studio.render(params[index], camera)
        record = record_of(head, params[index], camera, torch.tensor([0.2, 0.15, 0.8, 0.85]))
        frame = Frame(
            torch.from_numpy(to_uint8(shot.over(0.0))),
            without_pose(head, params[index]),
            torch.from_numpy(record.transform_matrix.copy()),
            torch.from_numpy(record.bbox.copy()),
        )
        seen = replace(camera, world_to_camera=camera.world_to_camera @ head.head_to_world(params[index]))
        result.append(Picture(frame, shot.alpha, shapes[index], seen))
    return result


def unseen(source: Picture, target: Picture, head: SkinnedHead) -> Tensor:
    """The target's pixels of the head model's surface that the source's picture does not show."""
    shown = rasterize_mesh(target.vertices, head.faces, target.camera)
    covered = shown.face_ids >= 0
    corners = source.vertices[head.faces[shown.face_ids[covered]]]
    points = (corners * shown.barycentric[covered][..., None]).sum(1)
    depth = rasterize_mesh(source.vertices, head.faces, source.camera).depth
    column, row = source.camera.project(points).long().unbind(-1)
    inside = (column >= 0) & (row >= 0) & (column < source.camera.width) & (row < source.camera.height)
    there = depth[row.clamp(0, source.camera.height - 1), column.clamp(0, source.camera.width - 1)]
    seen = inside & (there > 0) & (source.camera.to_camera(points)[:, 2] <= there + 0.004)
    mask = torch.zeros(covered.shape)
    mask[covered] = (~seen).float()
    return mask[..., None]


def similar(source: Picture, target: Picture, head: SkinnedHead) -> Tensor:
    """The source's picture moved by the similarity that brings its landmarks nearest to the target's."""
    places = [
        torch.view_as_complex(each.camera.project(head.landmarks(each.vertices, "ibug68")).contiguous())
        for each in (source, target)
    ]
    a, b = (place - place.mean() for place in places)
    factor = (a.conj() * b).sum() / (a.conj() * a).sum()
    size = source.camera.width
    line = torch.arange(size) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    back = (torch.complex(x, y) - places[1].mean()) / factor + places[0].mean()
    grid = torch.view_as_real(back) / size * 2 - 1
    picture = source.frame.picture.float().movedim(-1, 0)[None] / 255
    return torch.nn.functional.grid_sample(picture, grid[None], align_corners=False)[0].movedim(0, -1)


def mean_picture(data: Path, size: int) -> Tensor:
    """The mean of up to 500 training pictures."""
    pictures = TrackedPictures(data, split="train")
    chosen = np.random.default_rng(SEED).permutation(len(pictures))[:500]
    return torch.stack([resize(pictures.picture(int(i)).float() / 255, size, size) for i in chosen]).mean(0)


def compared(
    model: OneShotModel, head: SkinnedHead, mean: Tensor, held_out: Sequence[list[Picture]]
) -> Iterator[tuple[dict[str, list[float]], list[Tensor]]]:
    """Per person: PSNR of every answer in the whole and in the unseen part, and the pictures of the first target."""
    size = model.architecture.image_size
    for source, *targets in held_out:
        picture = source.frame.picture.float() / 255
        avatar = model.reconstruct(picture, source.frame.transform, source.frame.params, head)
        figures: dict[str, list[float]] = {}
        rows: list[Tensor] = []
        for target in targets:
            truth = target.frame.picture.float() / 255
            with torch.no_grad():
                drawn = avatar.render(target.frame.params, target.camera).color.clamp(0, 1)
            answers = {
                "network": drawn,
                "source": picture,
                "similarity": similar(source, target, head),
                "mean": mean,
            }
            mask = dilate((target.alpha > 0.5).float(), size // 64)
            hidden = unseen(source, target, head)
            for name, answer in answers.items():
                figures.setdefault(name, []).append(float(psnr(answer, truth, weight=mask)))
                if float(hidden.sum()) >= 20:
                    figures.setdefault(f"{name}, unseen", []).append(float(psnr(answer, truth, weight=hidden)))
            rows = rows or [answers["source"], truth, drawn, answers["similarity"]]
        yield figures, rows


def interval(values: np.ndarray) -> list[float]:
    """Mean and 95 % interval, bootstrapped."""
    rng = np.random.default_rng(SEED)
    means = np.sort(values[rng.integers(len(values), size=(2000, len(values)))].mean(1))
    return [float(values.mean()), float(means[50]), float(means[1949])]


def evaluate(
    model: OneShotModel,
    head: SkinnedHead,
    mean: Tensor,
    held_out: Mapping[str, Sequence[list[Picture]]],
    sheet: Path | None,
) -> dict[str, object]:
    """The given lists; with `sheet`, pictures of the first people."""
    report: dict[str, object] = {}
    shown: list[list[np.ndarray]] = []
    for kind, pictures in held_out.items():
        figures: dict[str, list[float]] = {}
        for person, (own, rows) in enumerate(compared(model, head, mean, pictures)):
            for name, values in own.items():
                figures.setdefault(name, []).append(float(np.mean(values)))
            if person < 4:
                shown.append([to_uint8(row) for row in rows])
        table = {name: interval(np.array(values)) for name, values in figures.items()}
        best = max(("source", "similarity", "mean"), key=lambda name: table[name][0])
        gain = np.array(figures["network"]) - np.array(figures[best])
        gained = interval(gain)
        report[kind] = {"psnr": table, "best_baseline": best, "gain": gained, "network_by_person": figures["network"]}
    if sheet is not None:
        labels = ["source", "truth", "network", "similarity"]
        write_png(sheet, contact_sheet(shown, column_labels=labels, row_labels=[""] * len(shown)))
    return report


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    """Median milliseconds of a call, after one to warm up."""
    work()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - start))
    return float(np.median(spent))


def speed(model: OneShotModel, head: SkinnedHead) -> dict[str, float]:
    """Milliseconds on this machine for an avatar, and for a frame of it with and without the head model."""
    source = pictures_of(0, "any", head, model.architecture.image_size)[0]
    picture, frame = source.frame.picture.float() / 255, source.frame
    with torch.no_grad():
        avatar = model.reconstruct(picture, frame.transform, frame.params, head)
        splats = avatar.splats()
        vertices = head_vertices(head, frame.params)[None] * 5
        return {
            "reconstruct_ms": timed(lambda: model.reconstruct(picture, frame.transform, frame.params, head)),
            "animate_ms": timed(lambda: avatar.render(frame.params, source.camera)),
            "animate_without_head_model_ms": timed(lambda: model.draw(splats, vertices, frame.transform[None])),
            "threads": float(torch.get_num_threads()),
        }


VARIANTS: dict[str, dict[str, object]] = {
    "whole": {},
    "no lifting loss": {"weights": LossWeights(perceptual=0.0, lifting=0.0)},
    "no expression branch": {"parts": Parts(expression=False)},
    "one lifting": {"parts": Parts(behind=False)},
    "no neural renderer": {"parts": Parts(renderer=False)},
}


def trained(data: Path, run: Path, steps: int, seed: int, variant: str, minutes: float = math.inf) -> OneShotModel:
    """A network of the preset `small`, from where its run stands, at the end of its steps or minutes."""
    frames = TrackedPictures(data, split="train")
    validation = TrackedPictures(data, split="val")
    change = VARIANTS[variant]
    parts = change.get("parts")
    settings = preset(
        "small",
        vertices=network_vertices(frames.head),
        steps=steps,
        seed=seed,
        parts=parts if isinstance(parts, Parts) else None,
    )
    weights = change.get("weights")
    if isinstance(weights, LossWeights):
        settings = replace(settings, weights=weights)
    end = time.monotonic() + 60 * minutes
    with progress_bars() as progress:
        return train(
            frames,
            run,
            settings,
            validation=validation,
            progress=progress,
            control=lambda step, task: time.monotonic() > end,
        )


def curve(run: Path, path: Path) -> None:
    """Draw the PSNR of whole pictures by step: of training pairs (means of 100 steps) and of people held out."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    groups: dict[int, list[float]] = {}
    for line in lines:
        groups.setdefault(-(-line["step"] // 100) * 100, []).append(line["psnr"])
    fullest = max(map(len, groups.values()))
    learned = [(step, float(np.mean(values))) for step, values in groups.items() if 2 * len(values) >= fullest]
    held_out = {line["held_out_psnr"]: line["step"] for line in reversed(lines) if "held_out_psnr" in line}
    measured = sorted((step, value) for value, step in held_out.items())
    values = [value for _, value in learned + measured]
    low, high, last = math.floor(min(values)), math.ceil(max(values)), max(step for step, _ in learned)

    def place(step: float, value: float) -> str:
        return f"{50 + 580 * step / last:.1f},{280 - 260 * (value - low) / (high - low):.1f}"

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 650 320" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="650" height="320" fill="white"/>')
    for value in range(low, high + 1):
        x, y = place(0, value).split(",")
        parts.append(f'<path d="M{x},{y}H630" stroke="#ddd"/><text x="42" y="{y}" text-anchor="end">{value}</text>')
    for step in range(0, last + 1, max(100, last // 500 * 100)):
        parts.append(f'<text x="{place(step, low).split(",")[0]}" y="298" text-anchor="middle">{step}</text>')
    for points, color, name, row in ((learned, "#999", "training", 200), (measured, "#c33", "held out", 220)):
        line = " ".join(place(step, value) for step, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="540" y="{row}" fill="{color}">{name}</text>')
    parts.append('<text x="340" y="315" text-anchor="middle">steps</text><text x="8" y="14">PSNR, dB</text></svg>')
    write_bytes(path, "\n".join(parts).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--people", type=int, default=1000, help="people to train on")
    parser.add_argument("--pictures", type=int, default=8, help="pictures of each")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of training, then compare")
    parser.add_argument("--held-out", type=int, default=50, help="people to compare on")
    parser.add_argument("--weights", type=Path, help="compare this network instead of training one")
    parser.add_argument("--data", type=Path, help="training data; default: made in WORK/people")
    parser.add_argument("--ablations", action="store_true")
    options = parser.parse_args()
    head = require_skinned(load_head())
    data = options.data or options.work / "people"
    size = preset("small", vertices=1).architecture.image_size
    if options.data is None:
        asked = SynthSettings(
            preset="people", people=options.people, timesteps=options.pictures, size=size, layout="gagavatar"
        )
        with progress_bars() as progress:
            synthesize(data, asked, progress=progress)
    report: dict[str, object] = {"held_out": options.held_out, "steps": options.steps}
    if options.ablations:
        report |= ablations(data, options.work, head, options.steps, options.held_out)
        result = options.work / "ablations.json"
    else:
        if options.weights is None:
            model = trained(data, options.work / "run", options.steps, 0, "whole", options.minutes)
            curve(options.work / "run", options.work / "curve.svg")
        else:
            model = load_model(options.weights)[0]
        size = model.architecture.image_size
        held_out = {kind: [pictures_of(k, kind, head, size) for k in range(options.held_out)] for kind in LISTS}
        report["speed"] = speed(model, head)
        report |= evaluate(model, head, mean_picture(data, size), held_out, options.work / "oneshot.png")
        result = options.work / "oneshot.json"
    write_json(result, rounded(report))
    print(result.read_text(encoding="utf-8"))


def ablations(data: Path, work: Path, head: SkinnedHead, steps: int, people: int) -> dict[str, object]:
    """PSNR of every variant and seed on the list `any`, and how much every variant is below the whole method: per
    person the mean over seeds, then the mean over people with its interval."""
    size = preset("small", vertices=1).architecture.image_size
    mean = mean_picture(data, size)
    held_out = {"any": [pictures_of(person, "any", head, size) for person in range(people)]}
    found: dict[str, np.ndarray] = {}
    report: dict[str, object] = {}
    for seed in SEEDS:
        for variant in VARIANTS:
            name = f"{variant.replace(' ', '-')}-{seed}"
            done = work / name / f"compared-{people}.json"
            if not done.is_file():
                model = trained(data, work / name, steps, seed, variant)
                write_json(done, evaluate(model, head, mean, held_out, None))
            figures = read_json(done)["any"]
            found[name] = np.array(figures["network_by_person"])
            report[name] = {"psnr": figures["psnr"]["network"], "gain": figures["gain"]}
    for variant in VARIANTS:
        names = [(f"whole-{seed}", f"{variant.replace(' ', '-')}-{seed}") for seed in SEEDS]
        report[f"{variant}, below the whole"] = interval(np.mean([found[a] - found[b] for a, b in names], axis=0))
    return report


def rounded(value: object) -> object:
    """The same with numbers of three decimals."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) and math.isfinite(value) else value


if __name__ == "__main__":
    main()
