"""Speed of the splat rasteriser on a CPU: `python benchmarks/rasterizer.py [--only PART]`.

Scenes: splats on an ellipsoid the size of a head that fills 80 % of a 512 x 512 image, opacities 0.5 to 1. "coarse",
"medium" and "fine" splats have standard deviations of 1/60, 1/120 and 1/250 of the head.

Efficiency compares with the machine's ceiling (benchmarks/ceiling.py, measured in the same run): the pairs of a pixel
and a Gaussian that a plain rasteriser in rows of 16 pixels evaluates for the scene (a fixed number, `PAIRS`; ours
evaluates fewer), divided by the time and by the ceiling. "compositing" is that phase alone, "frame" everything from
Gaussians to pixels, "f+b" forward and all gradients, "f+b/f" that divided by the frame.

Times are the best of `--repeats`, taken in turns so that a disturbance hits all cases. A repeat during which the
process got less processor time than its threads asked for (a core was taken away) is thrown out and counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from ceiling import ceiling, multiply_add_rate

from vultus import kernels
from vultus.cameras import Camera
from vultus.splats import Gaussians, Raster, rasterize

FINENESS = {"coarse": 60, "medium": 120, "fine": 250}
PAIRS = {
    (60_000, "coarse"): 34e6,
    (60_000, "medium"): 19e6,
    (60_000, "fine"): 16e6,
    (180_000, "coarse"): 70e6,
    (180_000, "medium"): 38e6,
    (180_000, "fine"): 25e6,
}
"""Pairs in 16-pixel segments of rows that the ellipse of a Gaussian reaches in a tile that is not finished, at 512²."""


def head(count: int, fineness: int, channels: int, seed: int = 0) -> Gaussians:
    """Splats on an ellipsoid shell of about 15 x 21 x 18 cm."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    direction = torch.nn.functional.normalize(normal(count, 3), dim=-1)
    radii = torch.tensor([0.075, 0.105, 0.09])
    return Gaussians(
        means=direction * radii * (1 + 0.02 * normal(count, 1)),
        rotations=normal(count, 4),
        scales=0.21 / fineness * torch.exp(0.3 * normal(count, 3)),
        opacities=0.5 + 0.5 * torch.rand(count, generator=generator),
        features=torch.rand(count, channels, generator=generator),
    )


def front_camera(size: int) -> Camera:
    pose = torch.eye(4)
    pose[2, 3] = 1.0
    return Camera.from_focal(0.8 * size / 0.21, size, size, pose)


def forward(scene: Gaussians, camera: Camera, backend: str = "cpu") -> Callable[[], Raster]:
    def run() -> Raster:
        with torch.no_grad():
            return rasterize(scene, camera, backend=backend, depth=False)  # type: ignore[arg-type]

    return run


def forward_and_backward(scene: Gaussians, camera: Camera, backend: str = "cpu") -> Callable[[], Raster]:
    tensors = [scene.means, scene.rotations, scene.scales, scene.opacities, scene.features]
    leaves = [t.detach().requires_grad_() for t in tensors if t is not None]
    cotangent = torch.rand(camera.height, camera.width, scene.channels)

    def run() -> Raster:
        gaussians = Gaussians(*leaves[:4], features=leaves[4])
        raster = rasterize(gaussians, camera, backend=backend, depth=False)  # type: ignore[arg-type]
        torch.autograd.grad(raster.color, leaves, cotangent)
        return raster

    return run


@dataclass
class Case:
    """Something to time, and what was measured."""

    run: Callable[[], Raster]
    threads: int = 0
    samples: list[tuple[float, float, float]] = field(default_factory=list)  # seconds, share of a core, compositing
    evaluated: int = 0
    thrown_out: int = 0

    def measure(self) -> None:
        torch.set_num_threads(self.threads)
        start, used = time.perf_counter(), time.process_time()
        raster = self.run()
        seconds = time.perf_counter() - start
        work = raster.info.work
        self.evaluated = work.evaluated if work else 0
        self.samples.append((seconds, (time.process_time() - used) / seconds, work.seconds[3] if work else 0.0))

    def best(self) -> tuple[float, float]:
        """Seconds of the whole and of its compositing; the first repeat only warms up."""
        samples = self.samples[1:]
        usual = sorted(share for _, share, _ in samples)[-max(1, len(samples) // 4)]
        kept = [s for s in samples if s[1] > 0.9 * usual]
        self.thrown_out = len(samples) - len(kept)
        return min(s[0] for s in kept), min(s[2] for s in kept)


def measure(cases: list[Case], repeats: int) -> None:
    for _ in range(repeats + 1):
        for case in cases:
            case.measure()


def report_scenes(
    counts: list[int], sizes: list[str], channels: list[int], threads: int, repeats: int, rate: float
) -> None:
    titles = {"splats": 7, "size": 6, "ch": 3, "frame ms": 9, "of ceiling": 10, "compositing": 11, "of ceiling ": 11}
    titles |= {"f+b ms": 7, "f+b/f": 5, "pairs": 7, "discarded": 9}
    print(" ".join(f"{title:>{width}}" for title, width in titles.items()))
    camera = front_camera(512)
    for count in counts:
        for name in sizes:
            cases = {}
            for c in channels:
                scene = head(count, FINENESS[name], c)
                cases[c] = (
                    Case(forward(scene, camera), threads),
                    Case(forward_and_backward(scene, camera), threads),
                )
            measure([case for pair in cases.values() for case in pair], repeats)
            for c, (plain, both) in cases.items():
                (frame, compositing), (total, _) = plain.best(), both.best()
                limit = PAIRS[count, name] / ceiling(rate, c)
                columns = [f"{count:>7} {name:>6} {c:>3} {frame * 1e3:>9.1f} {limit / frame:>10.0%}"]
                columns += [f"{compositing * 1e3:>11.1f} {limit / compositing:>11.0%}"]
                columns += [f"{total * 1e3:>7.1f} {total / frame:>5.2f} {plain.evaluated / 1e6:>5.1f} M"]
                columns += [f"{plain.thrown_out + both.thrown_out:>9}"]
                print(*columns, flush=True)


def report_scaling(threads: int, repeats: int) -> None:
    """How the forward frame grows with splats, pixels, channels and threads (fine splats)."""
    rows: dict[str, Case] = {}
    for count in (10_000, 60_000, 180_000):
        rows[f"{count} splats, 512², 3 channels, {threads} threads"] = Case(
            forward(head(count, 250, 3), front_camera(512)), threads
        )
    for size in (256, 1024):
        rows[f"60000 splats, {size}², 3 channels, {threads} threads"] = Case(
            forward(head(60_000, 250, 3), front_camera(size)), threads
        )
    for channels in (1, 6, 16, 32, 64):
        rows[f"60000 splats, 512², {channels} channels, {threads} threads"] = Case(
            forward(head(60_000, 250, channels), front_camera(512)), threads
        )
    for name, fineness in FINENESS.items():
        scene = head(60_000, fineness, 3)
        for n in (1, threads):
            rows[f"60000 {name} splats, 512², 3 channels, {n} thread{'s' if n > 1 else ''} *"] = Case(
                forward(scene, front_camera(512)), n
            )
    measure(list(rows.values()), repeats)
    for name, case in rows.items():
        print(f"{name}: {case.best()[0] * 1e3:.1f} ms")


def report_reference(threads: int, repeats: int) -> None:
    """Against the reference backend: the same mathematics as plain PyTorch operations, every pixel with every splat."""
    scene, camera = head(1000, 25, 3), front_camera(64)
    for kind, make in (("forward", forward), ("forward and backward", forward_and_backward)):
        cases = [Case(make(scene, camera, backend), threads) for backend in ("cpu", "reference")]
        measure(cases, max(2, repeats // 5))
        ours, torch_only = (case.best()[0] for case in cases)
        print(
            f"1000 splats, 64², {kind}: compiled {ours * 1e3:.2f} ms, plain PyTorch {torch_only * 1e3:.1f} ms, "
            f"{torch_only / ours:.0f} times as long"
        )


def report_gsplat(threads: int, sizes: list[str], repeats: int) -> None:
    """Against gsplat's own PyTorch code, as far as it runs on a CPU (benchmarks/gsplat_torch.py)."""
    import gsplat_torch

    if reason := gsplat_torch.missing():
        print(f"gsplat's own PyTorch code was not measured: {reason}")
        return
    torch.set_num_threads(threads)

    def best(run: Callable[[], object], tries: int) -> float:
        times = []
        for _ in range(tries):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    for name in sizes:
        scene, camera = head(60_000, FINENESS[name], 3), front_camera(512)
        theirs = gsplat_torch.TorchPath(scene, camera)
        kinds = {
            "forward": (forward, theirs.forward),
            "forward and backward": (forward_and_backward, theirs.forward_and_backward),
        }
        for kind, (make, their_run) in kinds.items():
            ours, other = best(make(scene, camera), repeats), best(their_run(), 1 if name == "coarse" else 2)
            print(
                f"60000 {name} splats, 512², {kind}: ours, the whole frame, {ours * 1e3:.1f} ms; "
                f"gsplat in PyTorch, only projection and compositing, {other:.2f} s, {other / ours:.0f} times as long",
                flush=True,
            )
        if name == "fine":
            print(f"  its tile lists, which come on top: {best(theirs.tile_lists, 1):.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--counts", type=int, nargs="+", default=[60_000, 180_000], choices=[60_000, 180_000])
    parser.add_argument("--channels", type=int, nargs="+", default=[3, 32])
    parser.add_argument("--sizes", nargs="+", default=list(FINENESS), choices=list(FINENESS), help="of the splats")
    parser.add_argument("--only", choices=["scenes", "scaling", "reference", "gsplat"], help="one of the four parts")
    options = parser.parse_args()
    rate = multiply_add_rate(options.threads)
    limits = ", ".join(f"{ceiling(rate, c) / 1e9:.2f} G at {c} channels" for c in options.channels)
    print(f"{kernels.status().message}; {options.threads} threads; ceiling in pairs/s: {limits}")
    if options.only in (None, "scenes"):
        report_scenes(options.counts, options.sizes, options.channels, options.threads, options.repeats, rate)
    if options.only in (None, "scaling"):
        report_scaling(options.threads, options.repeats)
    if options.only in (None, "reference"):
        report_reference(options.threads, options.repeats)
    if options.only in (None, "gsplat"):
        report_gsplat(options.threads, [name for name in options.sizes if name != "medium"], options.repeats)


if __name__ == "__main__":
    main()
