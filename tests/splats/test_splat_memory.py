"""The memory that an image takes, measured, against what docs/rasterizer.md states."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process can only be measured on Linux"
)
MIB = 1 << 20

# Draws once in a process of its own, because memory is kept for later calls. Prints by how much resident memory had
# grown at its peak, the list entries of the image, and the bytes of the results.
PROGRAM = """
import sys
from pathlib import Path
import torch
from vultus.cameras import Camera
from vultus.splats import Gaussians, rasterize

count, size, channels = (int(word) for word in sys.argv[1:4])
backward, scale = sys.argv[4] == "1", float(sys.argv[5])
torch.set_num_threads(2)
g = torch.Generator().manual_seed(0)

def scene(count):
    means = torch.randn(count, 3, generator=g) * 0.2 + torch.tensor([0.0, 0, 2])
    rotations = torch.randn(count, 4, generator=g)
    tensors = [means, rotations, torch.full((count, 3), scale), 0.5 + 0.5 * torch.rand(count, generator=g)]
    tensors.append(torch.rand(count, channels, generator=g))
    return [t.requires_grad_(backward) for t in tensors]

def draw(tensors, size):
    camera = Camera.from_focal(1.5 * size, size, size)
    raster = rasterize(Gaussians(*tensors[:4], features=tensors[4]), camera, depth=False)
    gradients = torch.autograd.grad(raster.color.sum(), tensors) if backward else ()
    results = [raster.color, raster.alpha, raster.info.means2d, raster.info.radii, raster.info.depths, *gradients]
    if backward:
        results += [raster.color, raster.info.means2d]  # gradients of these
    return raster.info.work.entries, sum(t.numel() * t.element_size() for t in results)

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

draw(scene(10), 32)
tensors = scene(count)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
entries, results = draw(tensors, size)
print(resident("VmHWM") - before, entries, results)
"""


def measure(count, size, channels, scale, backward):
    arguments = [str(a) for a in (count, size, channels, int(backward), scale)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return (int(word) for word in done.stdout.split())


def stated(count, size, channels, entries, backward):
    """Bytes of work space, as in docs/rasterizer.md."""
    listed = min(entries, 1 << 25)
    wide = -(-channels // 16) * 16 if channels > 6 else channels  # whole vectors, at most of 16 numbers
    space = 160 * count + 4 * listed
    if wide != channels:
        space += 4 * wide * count
    if backward:
        row = 4 * (6 + wide)
        space += 4 * size * size + 12 * listed + row * count + min(row * entries, 4 << 22)
    return 1.25 * space


CASES = [
    # splats, pixels a side, channels, size of a splat, with gradients
    (300_000, 256, 3, 0.002, False),
    (300_000, 256, 3, 0.002, True),
    (100_000, 256, 20, 0.004, True),
    (40_000, 512, 3, 5.0, False),  # each covers the whole image: 41 million entries, more than are kept at once
    pytest.param(1_000_000, 1024, 3, 0.001, True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("count", "size", "channels", "scale", "backward"), CASES)
def test_memory_is_bounded_as_stated(count, size, channels, scale, backward):
    grown, entries, results = measure(count, size, channels, scale, backward)
    bound = stated(count, size, channels, entries, backward)
    if scale > 1:
        assert entries > 1 << 25
    assert grown - results < bound + 24 * MIB  # threads, scratch memory of the workers, torch
    assert grown > 0.4 * bound  # the measurement does see the work space
