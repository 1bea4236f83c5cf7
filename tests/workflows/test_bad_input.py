"""What people really feed to such a program: each ends in success or in one clear message."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from vultus.cli import run
from vultus.errors import VultusError
from vultus.heads.load import load_head
from vultus.tracking.track import TrackSettings, track
from vultus.workflows.create import CreateSettings, create_avatar

pytest.importorskip("mediapipe")

FAST = TrackSettings(size=128, hair=False, overlay=False)


def _astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


def _not_an_image(path: Path) -> None:
    path.write_text("this is a letter, not a photograph")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated_photo(path: Path) -> None:
    _astronaut().save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def _no_face(path: Path) -> None:
    Image.fromarray(data.coffee()).save(path, format="PNG")


def _video_of_nothing(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(500))


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("letter.jpg", _not_an_image, "photo|image|video"),
        ("empty.png", _empty, "empty|photo|image"),
        ("cut.jpg", _truncated_photo, "truncated|damaged|incomplete|photo|image"),
        ("coffee.png", _no_face, "face"),
        ("broken.mp4", _video_of_nothing, "video"),
    ],
)
def test_unusable_input_is_one_clear_message(
    tmp_path: Path, name: str, make, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    make(path)
    assert run(["create", str(path), "-o", str(tmp_path / "run")]) == 2
    message = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(message) == 1
    assert name in message[0]
    assert any(word in message[0].lower() for word in says.split("|")), message[0]


def _grey(path: Path) -> None:
    _astronaut().convert("L").save(path)


def _sixteen_bit(path: Path) -> None:
    grey = np.asarray(_astronaut().convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path)


def _alpha(path: Path) -> None:
    photo = _astronaut().convert("RGBA")
    photo.putalpha(255)
    photo.save(path)


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways: turn a quarter clockwise to show
    _astronaut().rotate(90, expand=True).save(path, exif=exif)


def _huge(path: Path) -> None:
    _astronaut().resize((3840, 3840)).crop((0, 0, 3840, 2160)).save(path, quality=80)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("grey.png", _grey),
        ("deep.png", _sixteen_bit),
        ("alpha.png", _alpha),
        ("phone.jpg", _rotated),
        ("4k.jpg", _huge),
        ("Zoë 写真.png", lambda path: _astronaut().save(path)),
    ],
)
def test_odd_photos_are_tracked(tmp_path: Path, name: str, make) -> None:
    path = tmp_path / name
    make(path)
    capture = track(path, tmp_path / "capture", head=load_head("builtin"), settings=FAST)
    assert bool(capture.motion.valid.all())
    view = capture.views[0]
    image, mask = capture.image(view), capture.mask(view)
    assert 0.1 < float(mask.mean()) < 0.9
    skin = image[(mask[..., 0] > 0.9)]
    assert float(skin.std()) > 0.05, "the head is not a blank"
    up = capture.motion.params[0].joint("root")
    assert abs(float(up[2])) < 0.5, "the head stands upright"


def test_two_faces_are_reported_and_one_is_followed(tmp_path: Path) -> None:
    photo = data.astronaut()[:300, 60:380]
    small = np.asarray(Image.fromarray(photo).resize((240, 225)))
    scene = np.full((320, 600, 3), 200, np.uint8)
    scene[:300, :320] = photo
    scene[40:265, 340:580] = small
    path = tmp_path / "two.png"
    Image.fromarray(scene).save(path)
    capture = track(path, tmp_path / "capture", head=load_head("builtin"), settings=FAST)
    assert bool(capture.motion.valid.all())
    report = json.loads((tmp_path / "capture" / "report.json").read_text())
    assert [shot["people"] for shot in report["shots"]] == [2]


def test_an_output_that_cannot_be_written(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert run(["create", str(photo), "-o", str(blocked / "run")]) == 2
    message = capsys.readouterr().err
    assert "error: " in message
    assert "Traceback" not in message


def test_a_folder_with_another_run_is_not_overwritten(tmp_path: Path, photo: Path) -> None:
    from vultus.config import to_yaml
    from vultus.workflows.create import CreateConfig

    (tmp_path / "config.yaml").write_text(to_yaml(CreateConfig("other.mp4", "0" * 64, "0.1.0")))
    with pytest.raises(VultusError, match=r"other\.mp4"):
        create_avatar(photo, tmp_path, CreateSettings(steps=1))
