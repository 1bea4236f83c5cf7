"""How long one-shot avatars take: making one, drawing a frame, and a whole video.

    python benchmarks/oneshot_speed.py                                  # published sizes, random weights, the CPU
    python benchmarks/oneshot_speed.py --only reconstruction            # parts: see --help
    python benchmarks/oneshot_speed.py --only tracking video --video clip.mp4 --frames 20
    python benchmarks/oneshot_speed.py --weights runs/network           # a network of yours
    python benchmarks/oneshot_speed.py --device cuda --precision bfloat16 --channels-last --compile

Batch 1, warm, milliseconds: the least, the median and the most of the repeats; what is compared is called in turns. On
CUDA every repeat is timed by device events and the device is synchronised before and after. Of the CPU's parts GFLOP
are those of the plain layers, and the share is that of the fastest product or convolution here (`--only peak`), which
fewer multiplications can exceed. A frame is measured with the head model's forward (parameters to image, what `animate`
does) and without it (vertices to image, what papers state). Splats of random weights overlap more than those of trained
networks: with --weights the splatting is what it is in use. The CUDA path has not been run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vultus.animation import Driver, load_driver
from vultus.animation.builtin_motions import talking
from vultus.avatars import load
from vultus.avatars.oneshot import Architecture, Compute, OneShotModel, load_model
from vultus.avatars.oneshot.generators import harmonic_embedding
from vultus.avatars.oneshot.geometry import camera_to_transform, metres_to_native, transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices, network_vertices, require_skinned
from vultus.avatars.oneshot.model import SourceSplats, draw, native_gaussians
from vultus.avatars.oneshot.options import UNITS
from vultus.cameras import Camera, look_at
from vultus.exports.video import animate
from vultus.heads.load import load_head
from vultus.heads.model import SkinnedHead
from vultus.networks.feature_distance import imagenet_normalized
from vultus.splats import rasterize
from vultus.tracking import TrackSettings

_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, out_shape=None, **__: (
        sdpa_flop_count(q, k, v)
    )
}
"""What PyTorch's counter does not count."""


@dataclass
class Bench:
    """A network, a source and a camera, and how they are timed."""

    model: OneShotModel
    head: SkinnedHead
    device: torch.device
    repeats: int
    video: Path | None
    frames: int
    cache: Path | None
    figures: dict[str, object] = field(default_factory=dict)

    @cached_property
    def peak(self) -> float:
        """GFLOP per second of the fastest product or convolution of this network's kind."""
        a, b = torch.randn(1370, 768), torch.randn(768, 3072)
        image = torch.randn(1, 256, 148, 148).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
        work = {
            "product": (lambda: a @ b, 2 * 1370 * 768 * 3072),
            "convolution": (
                lambda: torch.nn.functional.conv2d(image, weight, padding=1),
                2 * 9 * 256**2 * 148**2,
            ),
        }
        with torch.backends.nnpack.flags(enabled=False):
            rates = {name: count / 1e6 / min(self._times(call, 9)) for name, (call, count) in work.items()}
        self.figures["peak, GFLOP per second"] = {name: round(rate, 1) for name, rate in rates.items()}
        return max(rates.values())

    @cached_property
    def transform(self) -> Tensor:
        eye = torch.tensor([0.0, 0.03, 1.86])
        place = Camera.from_focal(1.0, 1, 1, look_at(eye, torch.tensor([0.0, -0.02, 0.0])))
        return camera_to_transform(place)[None].to(self.device)

    @cached_property
    def picture(self) -> Tensor:
        size = self.model.architecture.source_size
        return torch.rand(1, 3, size, size).to(self.device)

    @cached_property
    def splats(self) -> SourceSplats:
        return self.model.splats(self.picture, self.transform)

    @cached_property
    def camera(self) -> Camera:
        return metres_to_native(transform_to_camera(self.transform, self.model.architecture.image_size))

    @cached_property
    def vertices(self) -> Tensor:
        params = talking(self.head).params[0]
        return head_vertices(self.head, params)[None].to(self.device) * UNITS

    def driver(self, **options: Any) -> Driver:
        """The video's first frames, tracked or from the cache."""
        if self.video is None:
            raise SystemExit("tracking and video need --video")
        settings = TrackSettings(limit=self.frames)
        return load_driver(self.video, self.head, settings=settings, cache=self.cache, **options)

    def features(self) -> Tensor:
        gaussians = native_gaussians(self.splats, self.vertices, self.model.architecture)
        raster = self.model.architecture.quirks.raster
        return rasterize(gaussians, self.camera, settings=raster, depth=False).color.movedim(-1, -3)

    def drawn(self, points: Tensor) -> object:
        model = self.model
        return draw(self.splats, points, self.camera, model.upsampler, model.architecture, None, model.compute)

    def time(self, calls: Mapping[str, Callable[[], object]], counted: bool = True) -> None:
        """Time calls in turns, after each was made once."""
        for call in calls.values():
            call()
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(self.repeats):
            for name, call in calls.items():
                taken[name] += self._times(call, 1, warm=False)
        for name, times in taken.items():
            found = {"least": min(times), "median": statistics.median(times), "most": max(times)}
            if counted and self.device.type == "cpu":
                with (
                    torch.backends.nnpack.flags(enabled=False),
                    FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter,
                ):
                    calls[name]()
                if counter.get_total_flops():
                    found["GFLOP"] = counter.get_total_flops() / 1e9
                    found["share of peak"] = found["GFLOP"] / found["median"] * 1000 / self.peak
            self.figures[name] = {key: round(value, 2) for key, value in found.items()}

    def _times(self, call: Callable[[], object], repeats: int, warm: bool = True) -> list[float]:
        """Milliseconds."""
        if warm:
            call()
        taken = []
        for _ in range(repeats):
            if self.device.type == "cuda":
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
        return taken


def plainly(call: Callable[[], object]) -> Callable[[], object]:
    """A call in which convolutions have all their multiplications."""

    def called() -> object:
        with torch.backends.nnpack.flags(enabled=False):
            return call()

    return called


def peak(bench: Bench) -> None:
    assert bench.peak


def reconstruction(bench: Bench) -> None:
    """A picture to splats."""
    call = lambda: bench.model.splats(bench.picture, bench.transform)  # noqa: E731
    bench.time({"reconstruction": call, "reconstruction, plain convolutions": plainly(call)}, counted=False)


def encoder(bench: Bench) -> None:
    """The parts of a reconstruction."""
    model, architecture = bench.model, bench.model.architecture
    network, normalized = model.base_model, imagenet_normalized(bench.picture)
    direction = harmonic_embedding(bench.transform[..., 2])
    tokens = network.dino_model(normalized, architecture.taps)
    patches = [level[:, 1:] for level in tokens]
    plane = network.fuse(normalized, patches)
    fuse = lambda: network.fuse(normalized, patches)  # noqa: E731
    sheet = lambda: model.gs_generator_l0(plane, direction)  # noqa: E731
    bench.time(
        {
            "vision transformer": lambda: network.dino_model(normalized, architecture.taps),
            "fusion": fuse,
            "fusion, plain convolutions": plainly(fuse),
            "one sheet's generator": sheet,
            "one sheet's generator, plain convolutions": plainly(sheet),
            "vertices' generator": lambda: model.vertex_splats(tokens[-1][:, 0], direction),
        }
    )


def renderer(bench: Bench) -> None:
    """The neural renderer."""
    given, network = bench.features(), bench.model.upsampler

    def rendered() -> object:
        with bench.model.compute.running(bench.device):
            return network(given)

    calls = {"neural renderer": rendered}
    if bench.device.type == "cpu" and bench.model.compute.precision == "float32":
        calls["neural renderer, plain convolutions"] = plainly(rendered)
        calls["neural renderer, layer by layer"] = lambda: network.plain_logits(given)
    bench.time(calls)


def frame(bench: Bench) -> None:
    """A frame and its parts but the neural renderer."""
    motion, frames = talking(bench.head), iter(range(10**9))
    posed = lambda: head_vertices(bench.head, motion.params[next(frames) % len(motion)])[None]  # noqa: E731
    bench.time(
        {
            "head model": posed,
            "splatting": bench.features,
            "frame without the head model": lambda: bench.drawn(bench.vertices),
            "frame with the head model": lambda: bench.drawn(posed().to(bench.device) * UNITS),
        },
        counted=False,
    )


def tracking(bench: Bench) -> None:
    """A video's first frames as driver: tracked, and found again."""
    stages: dict[str, float] = {}
    last = time.perf_counter()

    def note(stage: str, done: int, total: int, figures: object) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now

    before, processor = time.perf_counter(), time.process_time()
    driver = bench.driver(retrack=True, progress=note)
    first, busy = time.perf_counter() - before, time.process_time() - processor
    bench.driver()
    again = time.perf_counter() - before - first
    bench.figures["tracking"] = {
        "frames": len(driver.motion),
        "seconds": round(first, 1),
        "processor seconds": round(busy, 1),
        "seconds when known": round(again, 2),
        "seconds by stage": {name: round(value, 1) for name, value in stages.items()},
    }


def video(bench: Bench) -> None:
    """`vultus animate` on a video's first frames: driver, avatar's folder, frames, MP4. Tracking counts where the cache
    does not know the video."""
    with tempfile.TemporaryDirectory() as work:
        size = bench.model.architecture.image_size
        picture = torch.rand(size, size, 3)
        avatar = bench.model.reconstruct(picture, bench.transform[0].cpu(), bench.head.neutral(), bench.head)
        avatar.save(Path(work) / "avatar", standalone=True)
        before = time.perf_counter()
        opened = load(Path(work) / "avatar")
        driver = bench.driver()
        ready = time.perf_counter()
        animate(opened, driver, Path(work) / "video.mp4")
        done = time.perf_counter()
    bench.figures["video"] = {
        "frames": len(driver.motion),
        "seconds": round(done - before, 1),
        "seconds before the first frame": round(ready - before, 1),
        "ms per frame afterwards": round(1000 * (done - ready) / len(driver.motion)),
    }


PARTS = {part.__name__: part for part in (peak, reconstruction, encoder, renderer, frame, tracking, video)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="default: all that need no --video")
    parser.add_argument("--weights", type=Path, help="GAGAvatar.pt, or what training wrote; default: random ones")
    parser.add_argument("--head", default="builtin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile with CUDA graphs for the neural renderer")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--frames", type=int, default=60, help="of the video, from its start")
    parser.add_argument("--cache", type=Path, help="folder of tracked videos; default: the one that animate uses")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    head = require_skinned(load_head(options.head))
    if options.weights is not None:
        model, _ = load_model(options.weights)
    else:
        model = OneShotModel(replace(Architecture(), vertices=network_vertices(head))).eval()
    model = (
        model.requires_grad_(False).to(device).use(Compute(options.precision, options.channels_last, options.compile))
    )
    bench = Bench(model, head, device, options.repeats, options.video, options.frames, options.cache)
    bench.figures |= {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {options.threads} threads",
        "compute": vars(model.compute),
        "weights": str(options.weights or "random, published sizes"),
        "splats": model.architecture.count,
    }
    with torch.no_grad():
        for name, part in PARTS.items():
            if name in (options.only or PARTS) and (options.only or options.video or name not in ("tracking", "video")):
                part(bench)
    print(json.dumps(bench.figures, indent=2))


if __name__ == "__main__":
    main()
