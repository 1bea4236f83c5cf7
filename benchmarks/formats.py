"""What each splat file format costs and loses, on an avatar.

    python benchmarks/formats.py AVATAR [--size PIXELS]

Writes the avatar at rest in every format, reads it back, and prints a table: bytes per splat; the largest difference
of a position (mm), of a rotation (degrees), of a standard deviation (%; those below 45 µm apart, which SPZ cannot
hold), of an opacity and of a colour; and the PSNR (dB) of the worst of three pictures (yaw -30, 0 and +30
degrees, over white) against those of the avatar itself.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
import torch

from vultus import avatars
from vultus.animation.paths import head_center, orbit, yaw_to_front
from vultus.avatars import SplatAvatar
from vultus.cameras import Camera
from vultus.exports.video import sized_view
from vultus.files import write_bytes
from vultus.images.metrics import psnr
from vultus.splats import SH_C0, Gaussians, RasterSettings, rasterize, read_splats, write_splats
from vultus.splats.formats import spz
from vultus.splats.formats.arrays import arrays_of

YAWS = (-30.0, 0.0, 30.0)
THINNEST = 4.5e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    avatar = avatars.load(options.avatar)
    assert isinstance(avatar, SplatAvatar), "this avatar is not made of splats"
    torch.set_grad_enabled(False)
    gaussians = avatar.gaussians(avatar.rest)
    settings = getattr(avatar, "raster", RasterSettings())
    view = sized_view(avatar, options.size)
    front = yaw_to_front(view, avatar.head, avatar.rest)
    yaws = torch.tensor([front + math.radians(yaw) for yaw in YAWS])
    cameras = orbit(view, head_center(avatar.head, avatar.rest), yaws)
    pictures = draw(gaussians, cameras, settings)
    thin = float((gaussians.scales < THINNEST).any(-1).float().mean())
    print(f"{gaussians.count} splats of degree {gaussians.active_degree}, {100 * thin:.1f} % thinner than 45 µm")
    print("| format | bytes per splat | position | rotation | size | opacity | colour | PSNR |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, path, size, order in written(Path(folder), gaussians):
            found = read_splats(path)
            cells = differences(gaussians, found, torch.from_numpy(order))
            quality = [float(psnr(a, b)) for a, b in zip(draw(found, cameras, settings), pictures, strict=True)]
            text = " | ".join(cells)
            shown = "same picture" if min(quality) > 99 else f"{min(quality):.1f} dB"
            print(f"| {name} | {size / gaussians.count:.1f} | {text} | {shown} |")


def written(folder: Path, gaussians: Gaussians) -> list[tuple[str, Path, int, np.ndarray]]:
    """Name, path, bytes and order of every file."""
    rows = []
    for name, file, version in (
        ("`.ply`", "a.ply", 3),
        ("`.glb`", "a.glb", 3),
        ("`.splat`", "a.splat", 3),
        ("`.compressed.ply`", "a.compressed.ply", 3),
        ("`.spz` version 3", "a.spz", 3),
        ("`.spz` version 2", "b.spz", 2),
    ):
        done = write_splats(folder / file, gaussians, spz_version=version)
        rows.append((name, done.path, done.bytes, done.order))
    arrays = arrays_of("benchmark", gaussians, gaussians.active_degree or 0)
    content, _ = spz.encode(folder / "c.spz", arrays, fractional_bits=12)
    write_bytes(folder / "c.spz", content)
    rows.append(("`.spz` with the usual 12 fractional bits", folder / "c.spz", len(content), rows[-1][3]))
    return rows


def differences(wanted: Gaussians, found: Gaussians, order: torch.Tensor) -> list[str]:
    """The largest differences as text: position, rotation, size, opacity, colour."""
    position = 1000 * float((found.means - wanted.means[order]).abs().max())
    unit = torch.nn.functional.normalize(wanted.rotations[order].double(), dim=-1)
    again = torch.nn.functional.normalize(found.rotations.double(), dim=-1)
    chord = torch.minimum((unit - again).norm(dim=-1), (unit + again).norm(dim=-1))
    angle = math.degrees(4 * math.asin(min(1.0, float(chord.max()) / 2)))
    scales = wanted.scales[order]
    ratio = torch.where(scales >= THINNEST, found.scales / scales - 1, 0.0)
    size = 100 * float(ratio.abs().max())
    opacity = float((found.opacities - wanted.opacities[order]).abs().max())
    assert wanted.sh is not None
    assert found.sh is not None
    color = SH_C0 * float((found.sh[:, 0] - wanted.sh[order, 0]).abs().max())
    return [f"{position:.2g} mm", f"{angle:.2g}°", f"{size:.2g} %", f"{opacity:.2g}", f"{color:.2g}"]


def draw(gaussians: Gaussians, cameras: Camera, settings: RasterSettings) -> list[torch.Tensor]:
    return [rasterize(gaussians, cameras[i], torch.ones(3), settings).color for i in range(len(YAWS))]


if __name__ == "__main__":
    main()
