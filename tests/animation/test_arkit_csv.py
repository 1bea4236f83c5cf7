"""Recordings of face-capture apps: columns in any order and spelling, gaps, bad time codes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.animation import load_driver
from vultus.animation.arkit_motion import read_arkit_csv
from vultus.errors import VultusError
from vultus.heads.arkit import ARKIT_NAMES
from vultus.heads.builtin import load_builtin

LIVE_LINK = [name[0].upper() + name[1:] for name in ARKIT_NAMES if name not in ("jawLeft", "mouthLeft")]
LIVE_LINK.insert(LIVE_LINK.index("JawRight") + 1, "JawLeft")
LIVE_LINK.insert(LIVE_LINK.index("MouthRight") + 1, "MouthLeft")
LIVE_LINK += ["HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll"]
LIVE_LINK += ["RightEyeYaw", "RightEyePitch", "RightEyeRoll"]


def write(path: Path, rows: list[list[str]], header: list[str] | None = None) -> Path:
    lines = [",".join(header or ["Timecode", "BlendShapeCount", *LIVE_LINK])] + [",".join(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def row(index: int, jaw: float = 0.0, yaw: float = 0.0, timecode: str | None = None) -> list[str]:
    code = timecode if timecode is not None else f"10:59:{59 + index // 60:02d}:{index % 60:02d}.500"
    values = dict.fromkeys(LIVE_LINK, "0.01") | {"JawOpen": str(jaw), "HeadYaw": str(yaw), "MouthLeft": "0.25"}
    return [code, "61", *values.values()]


def weight(take, name: str) -> torch.Tensor:
    return take.weights[:, ARKIT_NAMES.index(name)]


def test_live_link_face(tmp_path: Path) -> None:
    path = write(tmp_path / "take.csv", [row(i, jaw=i / 100, yaw=0.5 + i / 1000) for i in range(20)])
    take = read_arkit_csv(path)
    np.testing.assert_allclose(take.times, np.arange(20) / 60, atol=1e-5)
    np.testing.assert_allclose(weight(take, "jawOpen"), np.arange(20) / 100, atol=1e-6)
    assert float(weight(take, "mouthLeft")[0]) == pytest.approx(0.25)
    assert float(weight(take, "mouthRight")[0]) == pytest.approx(0.01)
    np.testing.assert_allclose(take.head_angles[:, 0], np.arange(20) / 1000, atol=1e-6)  # calibrated on the first row
    assert take.valid.all()


def test_blank_rows_hold_the_last_values(tmp_path: Path) -> None:
    blank = ["10:59:59:02.5", "0"] + [""] * len(LIVE_LINK)
    path = write(tmp_path / "gap.csv", [row(0, 0.4), row(1, 0.5), blank, ["10:59:59:03.5", "0"], row(4, 0.6)])
    take = read_arkit_csv(path)
    assert take.valid.tolist() == [True, True, False, False, True]
    np.testing.assert_allclose(weight(take, "jawOpen"), [0.4, 0.5, 0.5, 0.5, 0.6], atol=1e-6)


@pytest.mark.parametrize("codes", [["x", "y", "z"], ["10:00:00:05", "10:00:00:05", "10:00:00:06"], ["", "", ""]])
def test_bad_time_codes_fall_back_to_rows(tmp_path: Path, codes: list[str]) -> None:
    path = write(tmp_path / "t.csv", [row(i, timecode=code) for i, code in enumerate(codes)])
    np.testing.assert_allclose(read_arkit_csv(path).times, np.arange(3) / 60, atol=1e-6)
    np.testing.assert_allclose(read_arkit_csv(path, fps=30).times, np.arange(3) / 30, atol=1e-6)


def test_thirty_frames_a_second_are_recognised(tmp_path: Path) -> None:
    rows = [row(i, timecode=f"00:00:{i // 30:02d}:{i % 30:02d}.000") for i in range(90)]
    np.testing.assert_allclose(read_arkit_csv(write(tmp_path / "t.csv", rows)).times, np.arange(90) / 30, atol=1e-5)


def test_any_order_any_spelling_seconds_and_semicolons(tmp_path: Path) -> None:
    names = [name.replace("Left", "_L").replace("Right", "_R") for name in reversed(ARKIT_NAMES)]
    names = [
        name if not name.startswith(("jaw_", "mouth_")) else name.replace("_L", "Left").replace("_R", "Right")
        for name in names
    ]
    lines = [";".join(["time", *names, "comment"])]
    lines += [";".join([str(t), *(str(round(i / 52, 4)) for i in range(52)), "hi"]) for t in (0.5, 0.75, 1.5)]
    (tmp_path / "own.csv").write_text("﻿" + "\n".join(lines), encoding="utf-8")
    take = read_arkit_csv(tmp_path / "own.csv")
    assert take.times.tolist() == [0.0, 0.25, 1.0]
    np.testing.assert_allclose(take.weights[0], np.arange(51, -1, -1) / 52, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"a,b,c\n1,2,3\n", "0 columns"),
        (b"\xff\xfe\x00\x01" * 50, "not a text file"),
        (",".join(ARKIT_NAMES).encode() + b"\n" + b",".join([b"0.1"] * 51 + [b"x"]) + b"\n", "line 2.*'x'"),
        (",".join(ARKIT_NAMES).encode() + b"\n" + b",".join([b""] * 52) + b"\n", "lost the face"),
        (",".join(ARKIT_NAMES).encode() + b"\n", "no rows"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(VultusError, match=message):
        read_arkit_csv(tmp_path / "bad.csv")
    with pytest.raises(VultusError, match="cannot be read"):
        read_arkit_csv(tmp_path / "absent.csv")


def test_as_a_driver(tmp_path: Path) -> None:
    head = load_builtin()
    driver = load_driver(write(tmp_path / "take.csv", [row(i, 0.5, yaw=i * 0.1) for i in range(4)]), head)
    assert driver.sha256 is not None
    motion = driver.motion
    torch.testing.assert_close(motion.params.joints["jaw"][:, 0], torch.full((4,), 0.2))
    torch.testing.assert_close(motion.params.joints["neck"][:, 1], torch.arange(4) * 0.1)
