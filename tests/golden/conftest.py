"""Where golden vectors are read from."""

import os
from pathlib import Path

import numpy as np
import pytest


class Golden:
    """One topic's folder of golden vectors. A missing folder or file fails the test; it is never skipped."""

    def __init__(self, topic: str) -> None:
        self.folder = Path(os.environ.get("VULTUS_GOLDEN", Path(__file__).parent)) / topic
        if not self.folder.is_dir():
            pytest.fail(f"no golden vectors at {self.folder}")
        self.salt = int((self.folder / "salt.txt").read_text().strip())

    def load(self, name: str) -> dict[str, np.ndarray]:
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            pytest.fail(f"no golden vectors at {path}")
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The topic `x-y` of a test module named `test_x_y.py`, or the one that the module names in `TOPIC`."""
    module = request.path.stem.removeprefix("test_")
    return Golden(getattr(request.module, "TOPIC", module.replace("_", "-")))
