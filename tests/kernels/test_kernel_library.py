"""Loading, building, threads and processes of the compiled library."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from vultus import kernels
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.kernels import build, library
from vultus.splats import Gaussians, rasterize


def scene(seed=0, count=3000):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=g) * 0.3 + torch.tensor([0.0, 0, 2]),
        torch.randn(count, 4, generator=g),
        torch.rand(count, 3, generator=g) * 0.03,
        torch.rand(count, generator=g),
        features=torch.rand(count, 3, generator=g),
    )


CAMERA = Camera.from_focal(150.0, 130, 110)


def image_and_gradients(seed=0):
    gaussians = scene(seed)
    leaves = [t.clone().requires_grad_() for t in (gaussians.means, gaussians.rotations, gaussians.features)]
    moved = Gaussians(leaves[0], leaves[1], gaussians.scales, gaussians.opacities, features=leaves[2])
    pose = CAMERA.world_to_camera.clone().requires_grad_()
    raster = rasterize(moved, Camera(pose, CAMERA.K, CAMERA.width, CAMERA.height), backend="cpu")
    raster.color.square().sum().backward()
    return [raster.color.detach(), *(leaf.grad for leaf in leaves), pose.grad]


def test_the_library_is_there():
    status = kernels.status()
    assert status.available, status.message
    assert status.instruction_set in ("v2", "v3", "v4", "generic")


def test_results_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(image_and_gradients())
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_calls_from_many_threads_do_not_disturb_each_other():
    alone = [image_and_gradients(seed) for seed in range(4)]
    wrong = []

    def work(seed):
        for _ in range(5):
            found = image_and_gradients(seed)
            if not all(torch.equal(a, b) for a, b in zip(found, alone[seed], strict=True)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_works_in_a_forked_process():
    # In a process of its own, because torch's own thread pool does not survive a fork everywhere.
    program = """
import os, sys, torch
torch.set_num_threads(2)
sys.path.insert(0, sys.argv[1])
from test_kernel_library import image_and_gradients
with torch.no_grad():
    pass
before = image_and_gradients()[0]
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    from vultus.splats import rasterize
    from test_kernel_library import scene, CAMERA
    torch.get_num_threads = lambda: 3  # the kernel's threads, not torch's
    with torch.no_grad():
        again = rasterize(scene(), CAMERA, backend="cpu").color
    os._exit(0 if torch.equal(again, before) else 3)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("level", ["v2", "v3"])
def test_older_instruction_sets_draw_the_same(level, tmp_path):
    expected = image_and_gradients()
    program = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_kernel_library import image_and_gradients
torch.save(image_and_gradients(), sys.argv[2])
"""
    path = tmp_path / "result.pt"
    environment = {**os.environ, "VULTUS_ISA": level}
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    for found, wanted in zip(torch.load(path, weights_only=True), expected, strict=True):
        assert (found - wanted).abs().mean() < 1e-5 * wanted.abs().max()


def test_a_missing_or_foreign_library_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("VULTUS_KERNELS", str(tmp_path / "none.so"))
    library.load.cache_clear()
    try:
        with pytest.raises(VultusError, match=r"none\.so.*vultus\.kernels\.build"):
            library.load()
        assert not kernels.status().available
        (tmp_path / "none.so").write_bytes(b"not a library")
        with pytest.raises(VultusError, match="cannot be loaded"):
            library.load()
        with pytest.raises(VultusError, match="cannot be loaded"):
            rasterize(scene(count=3), CAMERA, backend="cpu")
        picture = rasterize(scene(count=3), CAMERA, backend="auto")  # falls back to the reference
        assert picture.color.shape == (110, 130, 3)
    finally:
        library.load.cache_clear()


def test_a_failing_compiler_is_reported_and_leaves_the_old_library(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", sys.executable + " -c 'raise SystemExit(\"no compiler today\")'")
    target = tmp_path / "kernels.so"
    target.write_bytes(b"old")
    with pytest.raises(build.BuildError, match="no compiler today"):
        build.build(target)
    assert target.read_bytes() == b"old"
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    with pytest.raises(build.BuildError, match="cannot be started"):
        build.build(target)


def test_on_windows_only_a_compiler_that_was_named_or_the_wheel_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(build.sys, "platform", "win32")
    monkeypatch.setattr(build.shutil, "which", lambda name: str(tmp_path / name))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert build.find_compiler() is None
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: object())
    assert build.find_compiler() == [sys.executable, "-m", "ziglang", "c++"]
    monkeypatch.setenv("CXX", "clang++ -O3")
    assert build.find_compiler() == ["clang++", "-O3"]


@pytest.mark.slow
def test_the_zig_wheel_builds_a_library_that_draws_the_same(tmp_path, monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ziglang" in (build.find_compiler() or [])
    path = build.build(tmp_path / "zig.so")
    monkeypatch.setenv("VULTUS_KERNELS", str(path))
    expected = image_and_gradients()
    library.load.cache_clear()
    try:
        found = image_and_gradients()
    finally:
        monkeypatch.delenv("VULTUS_KERNELS")
        library.load.cache_clear()
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().mean() < 1e-5 * b.abs().max()
