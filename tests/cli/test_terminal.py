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


def test_a_stage_that_comes_again_starts_its_clock_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 1.0, 100.0, 102.0])
    monkeypatch.setattr("vultus.cli.terminal.time.monotonic", lambda: next(seconds))
    with progress_bars() as progress:
        for done in (0, 4, 0, 4):
            progress("fitting", done, 4, {})
    assert capsys.readouterr().err.splitlines() == [
        "fitting: 0/4",
        "fitting: 4/4 in 1 s",
        "fitting: 0/4",
        "fitting: 4/4 in 2 s",
    ]
