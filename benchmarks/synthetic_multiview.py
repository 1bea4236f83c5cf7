"""Avatars from synthetic multi-camera captures, of which everything is known: quality on held-out pictures, ablations.

    python benchmarks/synthetic_multiview.py -o FOLDER
    python benchmarks/synthetic_multiview.py -o FOLDER --ablations --size 192 --cameras 8 --timesteps 20 --steps 1500
    python benchmarks/synthetic_multiview.py -o FOLDER --race --size 128 --cameras 8 --timesteps 12

Protocol. `vultus synth` makes a capture (by default 16 cameras, 60 timesteps, 512 x 512; `clean`, then `hard`). One
camera (the middle one) and the last 20 % of the timesteps are held out. Novel view: the held-out camera at training
instants, with the fine-tuned head parameters. Self-reenactment: all cameras at the held-out instants, with the
capture's own parameters. PSNR and SSIM inside the true mask dilated by 8 pixels (at 512, in proportion otherwise), and
over the whole picture; means over pictures.

Ablations train on a `hard` capture, whose head parameters are mistaken, so that there is something to fine-tune: the
method as it is, without fine-tuning, densification, the scale loss and the position loss; same steps, three seeds. For
each: PSNR on training, novel and reenacted pictures, and the 99.9th percentile of splat length and of the local mean's
length, in triangle sizes. The method is `paper` with what its 600,000 steps do in few: it densifies 15 times, never
resets opacities, holds at most 60,000 Gaussians, and fine-tunes poses at 20 times the published rates.

The race: `paper` at schedule scale 0.02 is trained to its end; then `fast` until its mean PSNR (inside the mask, of
pictures of the held-out camera and of held-out instants) is what that of `paper` ended at, looked at every 50 steps.
Times are those of training alone, both of the clock and of the processor.

Everything lies in FOLDER and is not done twice: the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from vultus.avatars.rigged import RiggedAvatar, RiggedSettings, preset, train
from vultus.captures import Capture, open_capture
from vultus.cli.terminal import progress_bars
from vultus.evaluation.comparisons import MaskRule, avatar_comparisons
from vultus.evaluation.report import markdown
from vultus.files import read_json, write_json
from vultus.heads.load import load_head
from vultus.progress import Progress
from vultus.workflows.evaluate import EvaluateRequest, evaluate
from vultus.workflows.synth import SynthSettings, synthesize

Change = Callable[[RiggedSettings], RiggedSettings]

ABLATIONS: dict[str, Change] = {
    "as it is": lambda settings: settings,
    "without fine-tuning": lambda settings: replace(settings, finetune=False),
    "without densification": lambda settings: replace(settings, densify=replace(settings.densify, every=0)),
    "without scale loss": lambda settings: replace(settings, weights=replace(settings.weights, scale=0.0)),
    "without position loss": lambda settings: replace(settings, weights=replace(settings.weights, position=0.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=["clean", "hard"], choices=["clean", "hard"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--timesteps", type=int, default=60)
    parser.add_argument("--person", type=int, default=0, help="seed of the made-up person")
    parser.add_argument("--preset", default=None, choices=["fast", "paper"], help="fast; ablations: paper")
    parser.add_argument("--steps", type=int, default=None, help="training steps; default: the preset's")
    parser.add_argument("--most", type=int, default=60, help="pictures measured per protocol, evenly spread; 0: all")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--race", action="store_true", help="fast against paper at schedule scale 0.02")
    parser.add_argument("--kind", choices=["clean", "hard"], default="clean", help="capture of the race")
    parser.add_argument("--scale", type=float, default=0.02, help="schedule scale of paper in the race")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with progress_bars() as progress:
        if options.ablations:
            _ablations(options, progress)
        elif options.race:
            _race(options, progress)
        else:
            for kind in options.kinds:
                _quality(options, kind, progress)


def _capture(options: argparse.Namespace, kind: Literal["clean", "hard"], progress: Progress) -> Capture:
    name = f"{kind}_{options.person}_{options.cameras}x{options.timesteps}x{options.size}"
    folder = options.output / "captures" / name
    settings = SynthSettings(
        preset=kind,
        cameras=options.cameras,
        timesteps=options.timesteps,
        size=options.size,
        seed=options.person,
        truth="motion",
    )
    if not (folder / "capture.json").is_file():
        start = time.monotonic()
        synthesize(folder, settings, progress=progress)
        print(f"{name}: made in {time.monotonic() - start:.0f} s")
    capture = open_capture(folder, load_head("builtin"))
    held = round(0.2 * options.timesteps)
    return capture.hold_out(
        cameras=[options.cameras // 2], timesteps=range(options.timesteps - held, options.timesteps)
    )


def _trained(capture: Capture, run: Path, settings: RiggedSettings, progress: Progress) -> tuple[RiggedAvatar, float]:
    """The avatar, and the seconds that training it took, added up over interruptions by Ctrl-C."""
    path, before = run / "seconds.json", 0.0
    if path.is_file():
        about = read_json(path)
        before = float(about["seconds"])
        if about["finished"]:
            return train(capture, run, settings, progress=progress), before
    start, finished = time.monotonic(), False
    try:
        avatar = train(capture, run, settings, progress=progress)
        finished = True
    finally:
        spent = before + time.monotonic() - start
        write_json(path, {"seconds": spent, "finished": finished})
    return avatar, spent


def _measured(
    avatar: RiggedAvatar, capture: Capture, folder: Path, options: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """PSNR and SSIM by protocol."""
    request = EvaluateRequest(
        protocol="all",
        hold_out_cameras=tuple(sorted({view.camera for view in capture.val})),
        hold_out_timesteps=tuple(sorted({view.timestep for view in capture.test})),
        dilation=max(1, round(8 * options.size / 512)),
        most=options.most,
        heat_maps=False,
        overwrite=True,
    )
    evaluate(avatar, capture, folder, request, progress=progress)
    return read_json(folder / "evaluation.json")


def _quality(options: argparse.Namespace, kind: Literal["clean", "hard"], progress: Progress) -> None:
    capture = _capture(options, kind, progress)
    name = options.preset or "fast"
    settings = preset(name, steps=options.steps)
    run = options.output / f"{capture.root.name}_{name}_{settings.steps}"
    avatar, seconds = _trained(capture, run, settings, progress)
    evaluation = _measured(avatar, capture, run / "evaluation", options, progress)
    print(f"\n{kind}, preset {name}, {settings.steps} steps in {seconds:.0f} s, {avatar.count} Gaussians")
    print(markdown(evaluation))


def _race(options: argparse.Namespace, progress: Progress) -> None:
    capture = _capture(options, options.kind, progress)
    folder = options.output / f"race_{capture.root.name}_{options.scale}"
    goal_path, path = folder / "paper.json", folder / "fast.json"
    if not goal_path.is_file():
        settings = replace(preset("paper", schedule_scale=options.scale), tensorboard=False)
        watch = _Watch(settings.steps)
        avatar = train(capture, folder / "paper", settings, progress=progress, control=watch)
        watch.stop()
        figures = {"wall": watch.wall, "cpu": watch.cpu, "steps": settings.steps, "splats": avatar.count}
        write_json(goal_path, {**figures, "psnr": _held_out_psnr(avatar, capture, options)})
    goal = read_json(goal_path)
    if not path.is_file():
        settings = replace(preset("fast"), tensorboard=False)
        curve: list[dict[str, float]] = []

        def look(step: int, avatar: RiggedAvatar) -> bool:
            psnr = _held_out_psnr(avatar, capture, options)
            curve.append({"step": step, "wall": watch.wall, "cpu": watch.cpu, "psnr": psnr, "splats": avatar.count})
            return psnr >= goal["psnr"]

        watch = _Watch(50, look)
        train(capture, folder / "fast", settings, progress=progress, control=watch)
        write_json(path, {"curve": curve})
    curve = read_json(path)["curve"]
    end, reached = curve[-1], curve[-1]["psnr"] >= goal["psnr"]
    print("| | steps | clock | processor | Gaussians | held-out PSNR |")
    print("|---|---|---|---|---|---|")
    for name, row, steps in (("paper", goal, goal["steps"]), ("fast", end, end["step"])):
        print(
            f"| {name} | {steps} | {row['wall']:.0f} s | {row['cpu']:.0f} s | {row['splats']} | {row['psnr']:.2f} dB |"
        )
    verdict = "reached" if reached else "NOT reached"
    cpu, wall = end["cpu"] / goal["cpu"], end["wall"] / goal["wall"]
    print(f"{verdict} in {cpu:.1%} of the processor time, {wall:.1%} by the clock")


class _Watch:
    """Called between training steps: counts the seconds of training, and looks at the avatar now and then."""

    def __init__(self, every: int, look: Callable[[int, RiggedAvatar], bool] | None = None) -> None:
        self._every, self._look = every, look
        self.wall = self.cpu = 0.0
        self._start()

    def _start(self) -> None:
        self._began = time.monotonic(), time.process_time()

    def stop(self) -> None:
        self.wall += time.monotonic() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def __call__(self, step: int, task: Any) -> bool:
        if self._look is None or step == 0 or step % self._every:
            return False
        self.stop()
        done = self._look(step, task.avatar)
        self._start()
        return done


@torch.no_grad()
def _held_out_psnr(avatar: RiggedAvatar, capture: Capture, options: argparse.Namespace) -> float:
    """Mean PSNR inside the mask of pictures of both held-out protocols, with the capture's own parameters."""
    rule = MaskRule(max(1, round(8 * options.size / 512)))
    most = min(options.most or 12, 12)
    values = []
    for comparison in avatar_comparisons(
        avatar, capture, ["novel-view", "self-reenactment"], mask=rule, most=most, tracked=True
    ):
        shown = comparison.show()
        weight = torch.ones_like(shown.target[..., :1]) if shown.weight is None else shown.weight.to(shown.target)
        error = ((shown.prediction - shown.target).square() * weight).sum() / (3 * weight.sum())
        values.append(-10 * float(error.log10()))
    return sum(values) / len(values)


def _short(settings: RiggedSettings) -> RiggedSettings:
    """`paper` in few steps; see the module."""
    steps = settings.steps
    densify = replace(
        settings.densify,
        start=steps // 15,
        stop=steps,
        every=max(1, steps // 15),
        reset_every=0,
        reset_at=0,
        limit=60_000,
    )
    rates = settings.rates
    rates = replace(rates, pose=20 * rates.pose, translation=20 * rates.translation, expression=rates.expression)
    return replace(settings, densify=densify, rates=rates)


def _ablations(options: argparse.Namespace, progress: Progress) -> None:
    capture = _capture(options, "hard", progress)
    base = preset(options.preset or "paper", steps=options.steps or 3000)
    if base.preset == "paper":
        base = _short(base)
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, change in ABLATIONS.items():
            run = (
                options.output
                / f"ablation_{base.preset}_{base.steps}_{capture.root.name}_{seed}"
                / name.replace(" ", "_")
            )
            result = run / "row.json"
            if not result.is_file():
                settings = replace(change(replace(base, seed=seed)), tensorboard=False)
                avatar, _ = _trained(capture, run, settings, progress)
                evaluation = _measured(avatar, capture, run / "evaluation", options, progress)
                write_json(result, {**_psnr(evaluation), **_spread(avatar)})
            rows.setdefault(name, []).append(read_json(result))
    write_json(options.output / "ablations.json", rows)
    _print_table(rows)


def _psnr(evaluation: dict[str, Any]) -> dict[str, float]:
    """PSNR inside the mask by protocol."""
    return {name: float(about["mean"]["mask"]["psnr"]) for name, about in evaluation["protocols"].items()}


def _spread(avatar: RiggedAvatar) -> dict[str, float]:
    """99.9th percentiles of length and of distance from the triangle's centre, in triangle sizes."""
    with torch.no_grad():
        length, place = avatar.log_scales.exp().amax(-1), avatar.means.norm(dim=-1)
    return {"length": float(length.quantile(0.999)), "distance": float(place.quantile(0.999))}


def _print_table(rows: dict[str, list[dict[str, float]]]) -> None:
    columns = list(next(iter(rows.values()))[0])
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, seeds in rows.items():
        cells = []
        for column in columns:
            values = torch.tensor([row[column] for row in seeds])
            spread = f" ± {float(values.std()):.2f}" if len(seeds) > 1 else ""
            cells.append(f"{float(values.mean()):.2f}{spread}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(json.dumps({name: len(seeds) for name, seeds in rows.items()}))


if __name__ == "__main__":
    main()
