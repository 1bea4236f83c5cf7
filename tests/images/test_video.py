"""Videos as phones and cutting programs make them: rotated, uneven, cut off, one frame long, in HDR."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vultus.errors import VultusError
from vultus.images import VideoReader, VideoWriter, media_kind, probe_video, read_image, write_png, write_video
from vultus.images.hdr import to_sdr

WIDTH, HEIGHT = 96, 64


def frame(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture that says which frame it is (left half's grey) and which way is up (a red corner at the top right)."""
    image = np.full((height, width, 3), 40 + 4 * (index % 50), np.uint8)
    image[: height // 4, -width // 4 :] = (200, 30, 30)
    return image


def number(image: np.ndarray) -> int:
    return round((float(image[-10:, :10].mean()) - 40) / 4)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    assert (
        write_video(path, (frame(i) for i in range(30)), fps=25, metadata={"vultus_driver": "ä顔", "comment": "c"})
        == 30
    )
    return path


def write_uneven(path: Path, milliseconds: list[int], trc: int | None = None) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if trc is not None:
            stream.codec_context.color_trc = trc
            stream.codec_context.color_primaries = stream.codec_context.colorspace = 9
        for i, time in enumerate(milliseconds):
            picture = av.VideoFrame.from_ndarray(frame(i), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def set_rotation(path: Path, degrees_clockwise: int) -> None:
    """Write the rotation into the track header's matrix, as phones do (ISO 14496-12, 8.3.2)."""
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees_clockwise]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    one, last = 1 << 16, 1 << 30
    content[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, last)
    path.write_bytes(content)


def test_round_trip(clip: Path) -> None:
    info = probe_video(clip)
    assert (info.width, info.height, info.fps, info.frame_count, info.rotation) == (WIDTH, HEIGHT, 25.0, 30, 0)
    assert info.duration == pytest.approx(1.2)
    reader = VideoReader(clip)
    frames = list(reader)
    assert [f.index for f in frames] == list(range(30))
    assert [number(f.image) for f in frames] == list(range(30))
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 25, atol=1e-6)
    assert reader.damage is None
    assert media_kind(clip) == "video"
    assert len(list(reader)) == 30  # a second pass starts again


def test_colours_survive(tmp_path: Path) -> None:
    colours = np.array([(200, 40, 30), (30, 160, 40), (40, 60, 210), (225, 180, 150)], np.uint8)
    for height in (64, 720):
        image = np.repeat(np.repeat(colours[None], height, 0), 32, 1)
        write_video(tmp_path / "c.mp4", [image], fps=25)
        seen = next(iter(VideoReader(tmp_path / "c.mp4"))).image
        assert np.abs(seen[20, 16::32].astype(int) - colours).max() <= 4


def test_metadata_is_in_the_container(clip: Path) -> None:
    with av.open(str(clip)) as container:
        assert container.metadata["vultus_driver"] == "ä顔"
        assert container.metadata["comment"] == "c"


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_metadata_is_applied(clip: Path, degrees: int) -> None:
    set_rotation(clip, degrees)
    info = probe_video(clip)
    seen = next(iter(VideoReader(clip))).image
    expected = np.rot90(frame(0), -degrees // 90)
    assert (info.height, info.width) == seen.shape[:2] == expected.shape[:2]
    assert np.abs(seen.astype(int) - expected).mean() < 4


def test_real_times_of_an_uneven_video(tmp_path: Path) -> None:
    times = [0, 33, 66, 200, 233, 500, 533]
    write_uneven(tmp_path / "uneven.mkv", times)
    frames = list(VideoReader(tmp_path / "uneven.mkv"))
    np.testing.assert_allclose([f.time for f in frames], np.array(times) / 1000, atol=2e-3)
    assert [number(f.image) for f in frames] == list(range(7))


def test_thinning_and_range(clip: Path) -> None:
    assert [f.index for f in VideoReader(clip, max_fps=12.5)] == list(range(0, 30, 2))
    assert [f.index for f in VideoReader(clip, max_fps=100)] == list(range(30))
    assert [f.index for f in VideoReader(clip, start=0.4, end=0.6)] == list(range(10, 16))
    small = next(iter(VideoReader(clip, max_side=48)))
    assert small.image.shape == (32, 48, 3)
    jitter = [0, 41, 79, 121, 159, 200, 241, 280]  # 25 fps, stamps off by a millisecond
    write_uneven(clip.with_suffix(".mkv"), jitter)
    assert len(list(VideoReader(clip.with_suffix(".mkv"), max_fps=25))) == 8


def test_cut_off_video_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    rng = np.random.default_rng(0)
    write_video(path, (rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)), fps=25)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    reader = VideoReader(path)
    frames = list(reader)
    assert 5 < len(frames) < 35
    assert [f.index for f in frames] == list(range(len(frames)))
    assert reader.damage is not None


def test_one_frame_video(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", [frame(7)], fps=30)
    frames = list(VideoReader(tmp_path / "one.mp4"))
    assert [f.time for f in frames] == [0.0]
    assert number(frames[0].image) == 7


def test_what_is_no_video(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "header.mp4").write_bytes(clip.read_bytes()[:200])
    write_png(tmp_path / "photo.mp4", frame(0))
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, message in [
        ("text.mp4", "neither"),
        ("header.mp4", "header.mp4.*cut off"),
        ("photo.mp4", "is a photo"),
        ("sound.m4a", "no picture, only audio"),
        ("missing.mp4", "no such file"),
    ]:
        with pytest.raises(VultusError, match=message):
            VideoReader(tmp_path / name)
    with pytest.raises(VultusError, match="is a video"):
        read_image(clip)


def frames_until_failure() -> Iterator[np.ndarray]:
    yield frame(0)
    raise RuntimeError("stop")


def test_writing_is_atomic(tmp_path: Path, clip: Path) -> None:
    before = clip.read_bytes()
    with pytest.raises(RuntimeError, match="stop"):
        write_video(clip, frames_until_failure(), fps=25)
    assert clip.read_bytes() == before
    with pytest.raises(VultusError, match="no frame"), VideoWriter(tmp_path / "none.mp4", fps=25):
        pass
    with pytest.raises(ValueError, match="does not fit"):
        write_video(tmp_path / "none.mp4", [frame(0), frame(0, 32, 32)], fps=25)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    (tmp_path / "file").touch()
    with pytest.raises(VultusError, match="cannot be written"), VideoWriter(tmp_path / "file" / "a.mp4", fps=25):
        pass


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mp4", [frame(3, 61, 43)] * 2, fps=29.97)
    info = probe_video(tmp_path / "odd.mp4")
    assert (info.width, info.height) == (62, 44)
    assert info.fps == pytest.approx(29.97, abs=1e-3)


def test_hdr_transfer_functions() -> None:
    """Reference white of both systems is near white, black is black, grey stays grey, order stays."""
    hlg, pq = 18, 16
    codes = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    grey = np.repeat((codes * 65535).round().astype(np.uint16)[None, :, None], 3, -1)
    shown = to_sdr(grey, hlg)[0].astype(int)
    assert np.ptp(shown, axis=-1).max() <= 1
    assert (np.diff(shown[:, 0]) > 0).all()
    assert shown[0, 0] == 0
    assert 225 < shown[3, 0] < 255  # BT.2408: HLG 75 % is reference white
    white = np.full((1, 1, 3), round(0.5807 * 65535), np.uint16)  # BT.2408: PQ 58 % is 203 cd/m2
    assert 225 < to_sdr(white, pq)[0, 0, 0] < 255
    # A colour inside BT.709 keeps its hue: pure BT.709 red in BT.2020 linear light is (.627, .069, .016).
    linear = np.array([0.6274, 0.0691, 0.0164]) * 0.1 * 203 / 10000
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    signal = ((c1 + c2 * linear**m1) / (1 + c3 * linear**m1)) ** m2
    red = to_sdr((signal * 65535).round().astype(np.uint16)[None, None], pq)[0, 0].astype(int)
    assert abs(red[0] - 255 * (1.055 * 0.1 ** (1 / 2.4) - 0.055)) <= 2
    assert red[1:].max() <= 8


def test_hdr_video_is_recognised(tmp_path: Path) -> None:
    write_uneven(tmp_path / "hlg.mkv", [0, 33], trc=18)
    reader = VideoReader(tmp_path / "hlg.mkv")
    assert reader.info.hdr
    assert next(iter(reader)).image.shape == (HEIGHT, WIDTH, 3)


def test_real_footage(weekly_address: Path) -> None:
    reader = VideoReader(weekly_address, end=1.0, max_side=320)
    assert (reader.info.width, reader.info.height, reader.info.frame_count) == (1280, 720, 501)
    frames = list(reader)
    assert len(frames) == 26
    assert frames[0].image.shape == (180, 320, 3)
    assert frames[0].image.std() > 30
