"""Splat files: .ply, compressed .ply, .splat, SPZ and GLB."""

from vultus.splats.formats.axes import Axes, rdf_to_rub, rub_to_rdf
from vultus.splats.formats.dispatch import SUFFIXES, WrittenSplats, format_suffix, read_splats, write_splats
from vultus.splats.formats.ply import StoredSplats, read_ply, write_ply

__all__ = [
    "SUFFIXES",
    "Axes",
    "StoredSplats",
    "WrittenSplats",
    "format_suffix",
    "rdf_to_rub",
    "read_ply",
    "read_splats",
    "rub_to_rdf",
    "write_ply",
    "write_splats",
]
