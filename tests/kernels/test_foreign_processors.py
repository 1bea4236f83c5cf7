"""The kernels of other processors, run in an emulator, draw what this processor's draw."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vultus.kernels import build

HERE = Path(__file__).parent
SOURCES = ("library.cpp", "threads.cpp", "meshes.cpp", "splats.cpp")
SCENES = [(400, 70, 3), (300, 50, 20)]  # splats, pixels a side, channels


def compile_program(compiler, flags, files, target):
    common = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", "-pthread"]
    common.append(f"-I{build.SOURCE}")
    command = [*compiler, *common, *flags, str(HERE / "drawing.cpp"), *map(str, files), "-o", str(target), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def draw(command, scene):
    done = subprocess.run([*command, *map(str, scene)], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return parts_of(np.frombuffer(done.stdout, dtype=np.float32), *scene)


def parts_of(values, count, size, channels):
    sizes = [size * size * channels, size * size, size * size, *(k * count for k in (3, 4, 3, 1, channels)), 16, 9]
    sizes += [channels, 2 * count]
    assert len(values) == sum(sizes)
    return np.split(values, np.cumsum(sizes)[:-1])


@pytest.mark.slow
def test_neon_draws_the_same(tmp_path):
    emulator = os.environ.get("QEMU_AARCH64") or shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not emulator:
        pytest.skip("needs qemu-aarch64 (Debian: qemu-user-static), or its path in QEMU_AARCH64")
    pytest.importorskip("ziglang")
    if platform.machine() != "x86_64":
        pytest.skip("compares with x86-64")
    zig = [sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=all"]
    arm = [*zig, "-target", "aarch64-linux-musl", "-DVULTUS_ISA=generic"]
    compile_program(arm, [], [build.SOURCE / name for name in SOURCES], tmp_path / "arm")
    library = Path(os.environ.get("VULTUS_KERNELS") or build.LIBRARY)
    compile_program(build.find_compiler(), [f"-Wl,-rpath,{library.parent}"], [library], tmp_path / "here")
    for scene in SCENES:
        expected, found = draw([str(tmp_path / "here")], scene), draw([emulator, str(tmp_path / "arm")], scene)
        for wanted, got in zip(expected, found, strict=True):
            assert np.isfinite(got).all()
            assert np.abs(wanted).max() > 0
            assert np.abs(got - wanted).mean() < 1e-5 * np.abs(wanted).max()
