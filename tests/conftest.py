"""Fixtures shared by all rooms."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Other programs may make any example slow, and a suite that passed must pass again.
settings.register_profile("vultus", deadline=None, derandomize=True)
settings.load_profile("vultus")

MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def weekly_address() -> Path:
    """Real footage: 501 frames of one person speaking, 1280x720 at 25 fps. Not part of the project."""
    path = MEDIA / "weekly_address.mp4"
    if not path.exists():
        pytest.skip(f"the clip weekly_address.mp4 is not at {path}")
    return path
