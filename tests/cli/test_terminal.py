import pytest

from vultus.cli.terminal import progress_bars


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        for done in range(6):
            progress("train", done, 5, {"psnr": 20.0 + done})
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("train: 0/5")
    assert lines[-1].startswith("train: 5/5 in ")
    assert "psnr 25" in lines[-1]
