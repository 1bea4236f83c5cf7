"""Killed at any moment and run again, `create` ends at the very same avatar."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mediapipe")

SCRIPT = Path(__file__).with_name("create_and_die.py")
STEPS = 60


def _run(source: Path, output: Path, moment: str, steps: int = STEPS) -> int:
    command = [sys.executable, str(SCRIPT), str(source), str(output), str(steps), moment]
    return subprocess.run(command, capture_output=True, timeout=600).returncode


@pytest.fixture(scope="module")
def uninterrupted(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "run"
    assert _run(clip, output, "never") == 0
    return output


MOMENTS = [
    "detecting faces:3",
    "fitting the head:0",
    "cutting out the head:4",
    "rename:capture.json:1",
    "train:0",
    "train:29",  # splats are split at step 30
    "train:30",
    "train:31",
    "rename:step_:1",
    "rename:avatar:1",
    "rename:preview.mp4:1",
    "interrupt:train:20",
]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_avatar(clip: Path, tmp_path: Path, uninterrupted: Path, moment: str) -> None:
    output = tmp_path / "run"
    died = _run(clip, output, moment)
    assert died == (130 if moment.startswith("interrupt") else -9), "the run was to die at this moment"
    assert _run(clip, output, "never") == 0
    tensors = sorted(path.relative_to(uninterrupted) for path in uninterrupted.glob("avatar/*.safetensors"))
    assert tensors
    for name in [*tensors, Path("avatar/gaussians.ply"), Path("avatar/motion.npz")]:
        assert (output / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert (output / "preview.mp4").stat().st_size > 0
    assert (output / "contact_sheet.png").stat().st_size > 0
    leftovers = [path for path in output.rglob(".*") if path.is_file() and "capture" not in path.parts]
    assert not leftovers or moment.startswith("rename"), leftovers
