"""Gaussian splats: the record, its rasteriser, spherical harmonics and files."""

from vultus.splats.formats import read_ply, read_splats, write_ply, write_splats
from vultus.splats.gaussians import Gaussians
from vultus.splats.rasterize import Raster, RasterInfo, rasterize
from vultus.splats.settings import GSPLAT_1_5, INRIA, VULTUS, RasterSettings
from vultus.splats.sh import SH_C0, evaluate_sh, rgb_to_sh0, sh_basis, sh_to_rgb, turn_sh1

__all__ = [
    "GSPLAT_1_5",
    "INRIA",
    "SH_C0",
    "VULTUS",
    "Gaussians",
    "Raster",
    "RasterInfo",
    "RasterSettings",
    "evaluate_sh",
    "rasterize",
    "read_ply",
    "read_splats",
    "rgb_to_sh0",
    "sh_basis",
    "sh_to_rgb",
    "turn_sh1",
    "write_ply",
    "write_splats",
]
