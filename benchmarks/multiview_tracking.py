"""Tracking from pictures alone, against the truth: synthetic captures by many cameras, and one of these by itself.

    python benchmarks/multiview_tracking.py -o FOLDER
    python benchmarks/multiview_tracking.py -o FOLDER --size 256 --cameras 8 --timesteps 8 --mono

`vultus synth` makes a capture (default: `clean`, 16 cameras, 60 timesteps, 512 x 512). The tracker gets the pictures,
the masks and the cameras, not the head parameters: with landmarks alone, then with the pictures' refinement, and with
`--offsets` also with static offsets of the surface. Then the frames of the middle camera alone are a video whose camera
is not known (`--mono`).

Figures, over all instants that were tracked: distance between the true and the tracked vertices of the region `face`,
in millimetres, median / mean / 95 %: as it is in the world (several cameras; nothing is aligned), and with the best
rigid motion of every instant taken off. One camera shows depth and size only together, so for it also with the best
scale of every instant taken off, and the focal length's error. The head's rotation error in degrees is that of the best
rigid motion relative to its mean. Expression: correlation of all components, and their mean absolute error. `hard` has
an unknown displacement of the surface, which the true vertices have too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.captures import Capture, open_capture, read_motion
from vultus.cli.terminal import progress_bars
from vultus.files import read_json, write_json
from vultus.heads import SkinnedHead
from vultus.heads.load import load_head
from vultus.images import VideoWriter, to_uint8
from vultus.motion import HeadParams
from vultus.progress import Progress
from vultus.tracking.settings import TrackSettings
from vultus.tracking.track import track
from vultus.workflows.synth import SynthSettings, synthesize


@dataclass(frozen=True)
class Errors:
    """Distances in millimetres: median, mean, 95 %."""

    median: float
    mean: float
    p95: float

    @staticmethod
    def of(distances: Float[Tensor, "N V"]) -> Errors:
        order = 1000 * distances.flatten().sort().values
        return Errors(float(order[len(order) // 2]), float(order.mean()), float(order[int(0.95 * len(order))]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--kind", default="clean", choices=["clean", "hard", "people"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--timesteps", type=int, default=60)
    parser.add_argument("--person", type=int, default=0, help="seed of the made-up person")
    parser.add_argument("--skip-landmarks", action="store_true", help="only with the pictures' refinement")
    parser.add_argument("--offsets", action="store_true", help="also with static offsets of the surface")
    parser.add_argument("--mono", action="store_true", help="also the middle camera alone")
    options = parser.parse_args()
    head = load_head("builtin")
    with progress_bars() as progress:
        source = (
            options.output / f"{options.kind}_{options.person}_{options.cameras}x{options.timesteps}x{options.size}"
        )
        if not (source / "capture.json").is_file():
            settings = SynthSettings(
                preset=options.kind,
                cameras=options.cameras,
                timesteps=options.timesteps,
                size=options.size,
                seed=options.person,
                truth="motion",
            )
            synthesize(source, settings, progress=progress)
        capture = open_capture(source, head)
        # A `hard` capture hands out mistaken parameters.
        capture = replace(capture, motion=read_motion(source / "truth" / "motion.npz", head))
        plain = TrackSettings(hair=False)
        ways = {"pictures": plain}
        if not options.skip_landmarks:
            ways = {"landmarks": replace(plain, photometric=False)} | ways
        if options.offsets:
            ways["offsets"] = replace(plain, offsets=True)
        rows = {}
        for name, way in ways.items():
            rows[name] = _rig(capture, source, options.output / f"{source.name}_{name}", head, way, progress)
            print(name, rows[name])
        if options.mono:
            rows["one camera"] = _mono(capture, options.output / f"{source.name}_mono", head, progress)
            print("one camera", rows["one camera"])
    write_json(options.output / f"{source.name}.json", rows)


def _rig(
    capture: Capture, source: Path, folder: Path, head: SkinnedHead, settings: TrackSettings, progress: Progress
) -> dict[str, object]:
    if not (folder / "capture.json").is_file():
        track(source, folder, head=head, settings=settings, progress=progress)
    found = open_capture(folder, head)
    return {**_compared(capture, found, head, in_world=True), "seconds": read_json(folder / "report.json")["seconds"]}


def _mono(capture: Capture, folder: Path, head: SkinnedHead, progress: Progress) -> dict[str, object]:
    middle = capture.camera_indices[len(capture.camera_indices) // 2]
    views = [view for view in sorted(capture.views) if view.camera == middle]
    video = folder / "middle.mp4"
    if not video.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with VideoWriter(video, fps=capture.fps, quality=8) as writer:
            for view in views:
                writer.write(to_uint8(capture.image(view)))
    if not (folder / "capture" / "capture.json").is_file():
        track(video, folder / "capture", head=head, settings=TrackSettings(hair=False), progress=progress)
    found = open_capture(folder / "capture", head)
    report = read_json(folder / "capture" / "report.json")
    true = float(capture.camera(views[0]).K[0, 0])
    focal = 100 * abs(report["focal_pixels"] / true - 1)
    result = _compared(capture, found, head, in_world=False)
    return {**result, "focal_error_percent": focal, "seconds": report["seconds"]}


def _compared(true: Capture, found: Capture, head: SkinnedHead, *, in_world: bool) -> dict[str, object]:
    """Errors of the instants that both have."""
    count = min(len(true.motion), len(found.motion))
    rows = [index for index in range(count) if bool(found.motion.valid[index])]
    chosen = torch.tensor(rows)
    params = true.motion.params[chosen], found.motion.params[chosen]
    a, b = (_face(head, part) for part in params)
    moved, turns = _aligned(b, a, scaled=False)
    result: dict[str, object] = {"instants": f"{len(rows)} of {count}"}
    if in_world:
        result["mm in the world"] = vars(Errors.of((a - b).norm(dim=-1)))
    result["mm, rigid motion taken off"] = vars(Errors.of((a - moved).norm(dim=-1)))
    if not in_world:
        result["mm, scale taken off"] = vars(Errors.of((a - _aligned(b, a, scaled=True)[0]).norm(dim=-1)))
    middle = turns.sum(0)
    u, _, vt = torch.linalg.svd(middle)
    off = (u @ vt).T @ turns
    angle = torch.acos(((off.diagonal(dim1=-1, dim2=-2).sum(-1) - 1) / 2).clamp(-1, 1))
    result["rotation degrees, mean turn taken off"] = float(torch.rad2deg(angle).mean())
    expression = torch.stack([part.expression.flatten() for part in params])
    result["expression correlation"] = float(torch.corrcoef(expression)[0, 1])
    result["expression mean error"] = float((expression[0] - expression[1]).abs().mean())
    return result


def _face(head: SkinnedHead, params: HeadParams) -> Float[Tensor, "N V 3"]:
    with torch.no_grad():
        return head.pose(params).vertices[:, head.regions["face"]].double()


def _aligned(
    points: Float[Tensor, "N V 3"], target: Float[Tensor, "N V 3"], *, scaled: bool
) -> tuple[Float[Tensor, "N V 3"], Float[Tensor, "N 3 3"]]:
    """Points moved rigidly (and scaled) onto the target, each instant by itself, and by which rotations."""
    middle, goal = points.mean(1, keepdim=True), target.mean(1, keepdim=True)
    u, _, vt = torch.linalg.svd((target - goal).transpose(1, 2) @ (points - middle))
    sign = torch.ones(len(points), 3, dtype=points.dtype)
    sign[:, 2] = torch.det(u @ vt)
    rotation = u @ (sign[..., None] * vt)
    moved = (points - middle) @ rotation.transpose(1, 2)
    if scaled:
        moved = moved * ((moved * (target - goal)).sum((1, 2)) / moved.square().sum((1, 2)))[:, None, None]
    return moved + goal, rotation


if __name__ == "__main__":
    main()
