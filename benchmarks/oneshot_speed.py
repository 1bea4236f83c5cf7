"""How long one-shot avatars take: making one, and drawing a frame.

    python benchmarks/oneshot_speed.py                          # published sizes, random weights, the CPU
    python benchmarks/oneshot_speed.py --weights runs/network   # a network of yours
    python benchmarks/oneshot_speed.py --device cuda --precision bfloat16 --layout channels-last --compile

Batch 1, warm, the best and the median of the repeats. On CUDA every repeat is timed by device events and the device is
synchronised before and after. A frame is measured with the head model's forward (parameters to image, what `animate`
does) and without it (vertices to image, what papers state); the neural renderer is also measured alone. Splats of
random weights overlap more than those of trained networks: with --weights the splatting is what it is in use. The
CUDA path has not been run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vultus.animation.builtin_motions import talking
from vultus.avatars.oneshot import Architecture, OneShotModel, load_model
from vultus.avatars.oneshot.geometry import camera_to_transform, metres_to_native, transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices, network_vertices
from vultus.avatars.oneshot.model import autocast, draw, native_gaussians
from vultus.avatars.oneshot.options import UNITS
from vultus.cameras import Camera, look_at
from vultus.heads.load import load_head
from vultus.splats import rasterize


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of a call, warm."""
    call()
    taken = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            taken.append(start.elapsed_time(end))
        else:
            before = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - before))
    return {"best": round(min(taken), 2), "median": round(statistics.median(taken), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="GAGAvatar.pt, or what training wrote; default: random ones")
    parser.add_argument("--head", default="builtin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32")
    parser.add_argument("--layout", choices=["channels-first", "channels-last"], default="channels-first")
    parser.add_argument("--compile", action="store_true", help="torch.compile with CUDA graphs for the neural renderer")
    parser.add_argument("--skip-reconstruction", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    head = load_head(options.head)
    if options.weights is not None:
        model, _ = load_model(options.weights)
    else:
        model = OneShotModel(replace(Architecture(), vertices=network_vertices(head))).eval()
    architecture = model.architecture
    precision = torch.bfloat16 if options.precision == "bfloat16" else None
    if options.precision == "tf32":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    eye = torch.tensor([0.0, 0.03, 1.86])
    place = camera_to_transform(Camera.from_focal(1.0, 1, 1, look_at(eye, torch.tensor([0.0, -0.02, 0.0]))))
    picture = torch.rand(1, 3, architecture.source_size, architecture.source_size)
    figures: dict[str, object] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {options.threads} threads",
        "settings": f"{options.precision}, {options.layout}, {'compiled' if options.compile else 'eager'}",
        "weights": str(options.weights or "random, published sizes"),
    }
    model = model.to(device)
    model.precision = precision
    motion = talking(head)
    with torch.no_grad():
        source, transform = picture.to(device), place[None].to(device)
        splats = model.splats(source, transform)
        if not options.skip_reconstruction:
            figures["reconstruction"] = timed(lambda: model.splats(source, transform), options.repeats, device)
        figures["splats"] = splats.attributes.features.shape[1]
        renderer = model.upsampler
        if options.layout == "channels-last":
            for module in renderer.modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if options.compile:
            renderer = torch.compile(renderer, mode="reduce-overhead")
        camera = metres_to_native(transform_to_camera(transform, architecture.image_size))
        params = motion.params[0]
        vertices = head_vertices(head, params)[None].to(device) * UNITS
        raster = architecture.quirks.raster

        def drawn(points: torch.Tensor) -> object:
            return draw(splats, points, camera, renderer, architecture, None, precision)  # pyright: ignore

        def features() -> torch.Tensor:
            gaussians = native_gaussians(splats, vertices, architecture)
            return rasterize(gaussians, camera, settings=raster, depth=False).color.movedim(-1, -3)

        given = features()
        if options.layout == "channels-last":
            given = given.contiguous(memory_format=torch.channels_last)

        def rendered() -> object:
            with autocast(device, precision):
                return renderer(given)

        frames = iter(range(10**9))

        def whole() -> object:
            row = motion.params[next(frames) % len(motion)]
            return drawn(head_vertices(head, row)[None].to(device) * UNITS)

        figures["frame with the head model"] = timed(whole, options.repeats, device)
        figures["frame without the head model"] = timed(lambda: drawn(vertices), options.repeats, device)
        figures["splatting"] = timed(features, options.repeats, device)
        figures["neural renderer"] = timed(rendered, options.repeats, device)
        if device.type == "cpu" and precision is None:
            plain = model.upsampler.plain_logits
            figures["neural renderer, plain"] = timed(lambda: plain(given), options.repeats, device)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
