"""Self-reenactment on a real clip: train on the first frames, show the rest.

    python benchmarks/self_reenactment.py CLIP -o FOLDER

Protocol. Identity, focal length, texture, lights and offsets are estimated from frames 0-399 and frozen; for the
test frames 400-500 only expression, joint rotations and translation are fitted, by the tracker, which never sees the
avatar. The mask comes from the target frame alone (matte, above the line below the neck). Crop: the mask's bounding
box and 10 %, resized to 512 x 512, white outside the mask, mean of per-frame values. Baselines under the same mask:
the mean training frame, and the training frame nearest in landmarks. The figures go to
FOLDER/self_reenactment.json; a second run continues an interrupted one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch
from PIL import Image

from vultus.avatars.rigged import preset, train
from vultus.cli.terminal import progress_bars
from vultus.evaluation.reenactment import evaluate_reenactment
from vultus.files import write_json
from vultus.heads.load import load_head
from vultus.tracking.shared_file import read_shared
from vultus.tracking.track import TrackSettings, track


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--split", type=int, default=400, help="first test frame")
    parser.add_argument("--end", type=int, default=501, help="end of the test frames (exclusive)")
    parser.add_argument("--steps", type=int, default=None)
    options = parser.parse_args()
    torch.set_num_threads(2)
    head = load_head("builtin")
    seconds: dict[str, float] = {}
    with progress_bars() as progress:
        start = time.monotonic()
        settings = TrackSettings(last=options.split - 1)
        fitted = track(options.clip, options.output / "train", head=head, settings=settings, progress=progress)
        seconds["track_train"] = time.monotonic() - start

        start = time.monotonic()
        settings = TrackSettings(first=options.split, last=options.end - 1)
        shared = read_shared(options.output / "train", head)
        held_out = track(
            options.clip, options.output / "test", head=head, settings=settings, shared=shared, progress=progress
        )
        seconds["track_test"] = time.monotonic() - start

        start = time.monotonic()
        training = preset("monocular", steps=options.steps)
        avatar = train(fitted, options.output / "run", training, progress=progress)
        seconds["train"] = time.monotonic() - start
        result = evaluate_reenactment(avatar, fitted, held_out, progress=progress)
    record = {**dataclasses.asdict(result), "seconds_in_this_run": seconds}
    write_json(options.output / "self_reenactment.json", record)
    print(json.dumps(record, indent=2))
    sheet = []
    for view in held_out.views[:: max(1, len(held_out.views) // 6)]:
        with torch.no_grad():
            shown = avatar.render(
                held_out.motion.params[view.timestep], held_out.camera(view), background=torch.ones(3)
            ).color
        sheet.append(torch.cat([held_out.image(view), shown.clamp(0, 1)], dim=0))
    picture = (torch.cat(sheet, dim=1) * 255).round().to(torch.uint8)
    Image.fromarray(picture.numpy()).save(options.output / "self_reenactment.png")


if __name__ == "__main__":
    main()
