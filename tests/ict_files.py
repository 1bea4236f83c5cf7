"""The assets of ICT-FaceKit Light, which are too large for the repository."""

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("VULTUS_ASSETS", Path(__file__).resolve().parents[2] / "shared" / "assets"))


def ict_asset(name: str) -> Path:
    """Path of an asset; skips the test where it is not there."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is not there; VULTUS_ASSETS names the folder of ICT-FaceKit's files")
    return path
