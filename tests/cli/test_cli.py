import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import vultus.heads.load as loading
from vultus.cli import COMMANDS, run
from vultus.errors import VultusError


def test_help_lists_every_command_and_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert name in text


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 100


def test_training_offers_its_strategies(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["train", "rigged", "--help"])
    text = capsys.readouterr().out
    assert "--strategy" in text
    assert "mcmc" in text


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys\nfrom vultus.cli import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules, 'help must not wait for torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vultus ")


def test_wrong_input_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "no such photo.jpg"
    assert run(["create", str(missing), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert str(missing) in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_doctor_reports_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    for part in ("python", "torch", "cpu rasteriser", "built-in head", "tracking", "video", "viewer"):
        assert part in text


def test_what_is_optional_is_not_called_missing(capsys: pytest.CaptureFixture[str]) -> None:
    from vultus.workflows.doctor import Finding

    assert Finding("a", True, "fine", "reinstall", optional=True).line().startswith("ok ")
    assert Finding("a", False, "gone", "reinstall").line().startswith("missing ")
    line = Finding("a", False, "gone", "install it", optional=True).line()
    assert line.startswith("optional ")
    assert "→ install it" in line
    assert run(["doctor"]) == 0
    (cuda,) = (line for line in capsys.readouterr().out.splitlines() if " cuda " in line)
    assert not cuda.startswith("missing")


def test_a_remark_is_one_line_without_code(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> None:
        for file in (loading.__file__, "another package.py"):
            warnings.warn_explicit("two shapes are missing", UserWarning, file, 1)
        raise VultusError("no head")

    monkeypatch.setattr(loading, "load_head", load)
    with pytest.warns(UserWarning, match="two shapes") as others:
        assert run(["inspect", "nothing", "--head", "folder"]) == 2
    assert [warning.filename for warning in others] == ["another package.py"]
    assert capsys.readouterr().err == "note: two shapes are missing\nerror: no head\n"
