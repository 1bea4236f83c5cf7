"""Small head models and a small capture."""

from pathlib import Path

import pytest
from capture_samples import fill, make_head, make_motion

from vultus.captures import CaptureWriter, Source
from vultus.heads import SkinnedHead


@pytest.fixture
def head() -> SkinnedHead:
    return make_head()


@pytest.fixture
def flame_like() -> SkinnedHead:
    return make_head("flame-test", identity=300, expression=100)


@pytest.fixture
def capture_folder(tmp_path: Path, head: SkinnedHead) -> Path:
    folder = tmp_path / "capture"
    with CaptureWriter(
        folder, head=head, fps=30, source=Source("clip.mp4", "ab" * 32), settings={"size": 12}
    ) as writer:
        fill(writer, make_motion(head, 5))
    return folder
