"""Avatars from synthetic multi-camera captures, of which everything is known: quality on held-out pictures, ablations.

    python benchmarks/synthetic_multiview.py -o FOLDER
    python benchmarks/synthetic_multiview.py -o FOLDER --ablations --size 192 --cameras 8 --timesteps 20 --steps 1500

Protocol. `vultus synth` makes a capture (by default 16 cameras, 60 timesteps, 512 x 512; `clean`, then `hard`). One
camera (the middle one) and the last 20 % of the timesteps are held out. Novel view: the held-out camera at training
instants, with the fine-tuned head parameters. Self-reenactment: all cameras at the held-out instants, with the
capture's own parameters. PSNR and SSIM inside the true mask dilated by 8 pixels (at 512, in proportion otherwise), and
over the whole picture; means over pictures.

Ablations train on a `hard` capture, whose head parameters are mistaken, so that there is something to fine-tune: the
method as it is, without fine-tuning, densification, the scale loss and the position loss; same steps, three seeds. For
each: PSNR on training, novel and reenacted pictures, and the 99.9th percentile of splat length and of the local mean's
length, in triangle sizes.

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
    parser.add_argument("--preset", default=None, choices=["fast", "multiview", "paper"], help="fast; ablations: paper")
    parser.add_argument("--steps", type=int, default=None, help="training steps; default: the preset's")
    parser.add_argument("--most", type=int, default=60, help="pictures measured per protocol, evenly spread; 0: all")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with progress_bars() as progress:
        if options.ablations:
            _ablations(options, progress)
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
    """The avatar, and the seconds that training it took, added up over interruptions that ended with an answer."""
    start = time.monotonic()
    avatar = train(capture, run, settings, progress=progress)
    path, spent = run / "seconds.json", time.monotonic() - start
    if path.is_file():
        return avatar, float(read_json(path)["seconds"])
    write_json(path, {"seconds": spent})
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


def _ablations(options: argparse.Namespace, progress: Progress) -> None:
    capture = _capture(options, "hard", progress)
    base = preset(options.preset or "paper", steps=options.steps or 3000)
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
