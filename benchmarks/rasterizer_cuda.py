"""Speed on an NVIDIA GPU: `python benchmarks/rasterizer_cuda.py [--counts ...] [--channels ...]`.

The scenes of benchmarks/rasterizer.py, drawn by `rasterize(backend="cuda")` and by plain `gsplat.rasterization` with
the same tensors in the same run: what the front around gsplat costs. Then a mesh by `rasterize_mesh` on the GPU and on
the CPU. Times are the best of `--repeats`, taken in turns, each from an idle GPU to an idle GPU.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import time
from collections.abc import Callable

import torch
from rasterizer import FINENESS, front_camera, head

from vultus.cameras import Camera
from vultus.heads.load import load_head
from vultus.meshes import rasterize_mesh
from vultus.splats import GSPLAT_1_5, VULTUS, Gaussians, rasterize


def missing() -> str:
    """Why nothing can be measured here; empty if it can."""
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU, or this PyTorch has no CUDA"
    if importlib.util.find_spec("gsplat") is None or importlib.util.find_spec("warp") is None:
        return "gsplat and Warp are not installed: pip install 'vultus[cuda]'"
    return ""


def best_in_turns(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds; two rounds warm up (gsplat and Warp compile when they are first used)."""
    best = dict.fromkeys(runs, float("inf"))
    for i in range(repeats + 2):
        for name, run in runs.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if i >= 2:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def splat_runs(scene: Gaussians, camera: Camera, backward: bool) -> dict[str, Callable[[], object]]:
    """Ours and plain gsplat, drawing the same; with gradients of all that describes the Gaussians."""
    import gsplat  # pyright: ignore[reportMissingImports]

    settings = GSPLAT_1_5 if tuple(map(int, gsplat.__version__.split(".")[:2])) < (1, 6) else VULTUS
    tensors = [scene.means, scene.rotations, scene.scales, scene.opacities, scene.features]
    leaves = [t.detach().requires_grad_(backward) for t in tensors if t is not None]
    cotangent = torch.rand(camera.height, camera.width, scene.channels, device=leaves[0].device)

    def finished(color: torch.Tensor) -> None:
        if backward:
            torch.autograd.grad(color, leaves, cotangent)

    def ours() -> None:
        gaussians = Gaussians(*leaves[:4], features=leaves[4])
        finished(rasterize(gaussians, camera, settings=settings, backend="cuda", depth=False).color)

    def theirs() -> None:
        view, K, size = camera.world_to_camera[None], camera.K[None], (camera.width, camera.height)
        finished(gsplat.rasterization(*leaves, view, K, *size, packed=False)[0][0])

    return {"ours": ours, "gsplat": theirs}


def report_splats(counts: list[int], channels: list[int], repeats: int) -> None:
    print(f"{'splats':>7} {'size':>6} {'ch':>3} {'what':>8} {'ours ms':>8} {'gsplat ms':>9} {'ratio':>5}")
    camera = front_camera(512).to("cuda")
    for count in counts:
        for name, fineness in FINENESS.items():
            for c in channels:
                scene = head(count, fineness, c).to("cuda")
                for what, backward in (("forward", False), ("f+b", True)):
                    ours, theirs = best_in_turns(splat_runs(scene, camera, backward), repeats).values()
                    times = f"{ours * 1e3:>8.2f} {theirs * 1e3:>9.2f} {ours / theirs:>5.2f}"
                    print(f"{count:>7} {name:>6} {c:>3} {what:>8} {times}", flush=True)


def report_meshes(sizes: list[int], repeats: int) -> None:
    model = load_head("builtin")
    vertices = model.pose(model.neutral()).vertices
    pose = torch.eye(4)
    pose[2, 3] = 1.0
    for size in sizes:
        camera = Camera.from_focal(2.5 * size, size, size, pose)
        scenes = {d: (vertices.to(d), model.faces.to(d), camera.to(d)) for d in ("cuda", "cpu")}
        runs = {device: functools.partial(rasterize_mesh, *scene) for device, scene in scenes.items()}
        gpu, cpu = best_in_turns(runs, repeats).values()
        print(f"built-in head, {size}²: {gpu * 1e3:.2f} ms on the GPU, {cpu * 1e3:.2f} ms on the CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--counts", type=int, nargs="+", default=[60_000, 180_000])
    parser.add_argument("--channels", type=int, nargs="+", default=[3, 32])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], help="of the mesh's images")
    options = parser.parse_args()
    if reason := missing():
        sys.exit(f"NOT RUN: {reason}")
    print(torch.cuda.get_device_name())
    report_splats(options.counts, options.channels, options.repeats)
    report_meshes(options.sizes, options.repeats)


if __name__ == "__main__":
    main()
