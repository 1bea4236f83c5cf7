"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Workers that run side by side share the cores, and so do the programs they start: threads of several would wait for
# each other.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)

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
