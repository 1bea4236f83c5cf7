"""Speed of the splat rasteriser on a CPU: `python benchmarks/rasterizer.py`.

Scenes: splats on an ellipsoid the size of a head that fills 80 % of a 512 x 512 image, opacities 0.5 to 1. "coarse",
"medium" and "fine" splats have standard deviations of 1/60, 1/120 and 1/250 of the head. Times are the least of several
frames and include everything from Gaussians to pixels, and for "fwd+bwd" all gradients. "evaluated" counts pixels that
were tested against a Gaussian; "of ceiling" compares the vector instructions this needs at least with the rate of
independent multiply-adds measured on this machine, forward pass only.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable

import torch

from vultus import kernels
from vultus.cameras import Camera
from vultus.splats import Gaussians, rasterize

# Vector instructions per segment in the inner loop: 22 for coverage, alpha and transmittance, one per channel.
_INSTRUCTIONS = 22


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


def least_time(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def forward_and_backward(scene: Gaussians, camera: Camera, backend: str, depth: bool) -> Callable[[], object]:
    tensors = [scene.means, scene.rotations, scene.scales, scene.opacities, scene.features]
    leaves = [t.detach().requires_grad_() for t in tensors if t is not None]
    cotangent = torch.rand(camera.height, camera.width, scene.channels)

    def run() -> None:
        gaussians = Gaussians(*leaves[:4], features=leaves[4])
        color = rasterize(gaussians, camera, backend=backend, depth=depth).color  # type: ignore[arg-type]
        torch.autograd.grad(color, leaves, cotangent)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 60_000, 180_000])
    parser.add_argument("--channels", type=int, nargs="+", default=[3, 32])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    library = kernels.load()
    library.vultus_multiply_add_rate.restype = ctypes.c_double
    rate = max(library.vultus_multiply_add_rate(options.threads) for _ in range(3))
    print(f"{kernels.status().message}; {options.threads} threads; {rate / 1e9:.0f} G multiply-adds/s")
    titles = {"scene": 14, "channels": 8, "fwd ms": 8, "fwd+bwd ms": 10, "evaluated": 10, "M/s": 7, "of ceiling": 10}
    print(" ".join(f"{title:>{width}}" for title, width in titles.items()))
    camera = front_camera(options.size)
    for count in options.counts:
        for name, fineness in [("coarse", 60), ("medium", 120), ("fine", 250)]:
            for channels in options.channels:
                scene = head(count, fineness, channels)

                def forward(scene: Gaussians = scene) -> object:
                    with torch.no_grad():
                        return rasterize(scene, camera, backend="cpu", depth=False)

                raster = rasterize(scene, camera, backend="cpu", depth=False)
                seconds = least_time(forward, options.repeats)
                both = least_time(forward_and_backward(scene, camera, "cpu", False), options.repeats)
                evaluated = raster.info.work.evaluated if raster.info.work else 0
                ceiling = evaluated * (_INSTRUCTIONS + channels) / rate
                print(
                    f"{count:>7} {name:>6} {channels:>8} {seconds * 1e3:>8.1f} {both * 1e3:>10.1f} "
                    f"{evaluated / 1e6:>8.1f} M {evaluated / seconds / 1e6:>7.0f} {ceiling / seconds:>10.0%}"
                )
    small, view = head(1000, 25, 3), front_camera(64)
    repeats = max(2, options.repeats // 5)
    for backend in ("cpu", "reference"):
        seconds = least_time(forward_and_backward(small, view, backend, False), repeats)
        print(f"1000 splats, 64 x 64, fwd+bwd, {backend}: {seconds * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
