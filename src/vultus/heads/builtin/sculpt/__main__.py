"""`python -m vultus.heads.builtin.sculpt OUT.npz` bakes the built-in head's data file."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .bake import pack, sculpt


def main() -> None:
    """Sculpts the head and writes the compressed data file."""
    parser = argparse.ArgumentParser(description="Bake the built-in head's data file from its source.")
    parser.add_argument("output", type=Path, help="data file to write, for example builtin_v1.npz")
    path = parser.parse_args().output
    arrays = pack(sculpt())
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)
    print(f"{path}: {len(arrays['v_template'])} vertices, {len(arrays['f'])} triangles, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
