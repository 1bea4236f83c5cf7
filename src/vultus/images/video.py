"""Videos in and out, through PyAV (imported on first use)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import atomic_path
from vultus.images.hdr import is_hdr, to_sdr
from vultus.images.io import to_uint8
from vultus.images.kind import media_kind

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame as AvFrame
    from av.video.stream import VideoStream

_BT601, _BT709 = 5, 1
_UNSPECIFIED = 2


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself. Sizes are as displayed; `frame_count` is an estimate, 0 if unknown."""

    path: Path
    width: int
    height: int
    fps: float
    frame_count: int
    duration: float
    rotation: int
    hdr: bool


@dataclass(frozen=True)
class VideoFrame:
    """One frame: its number in the file, its time in seconds since the first frame, its picture as displayed."""

    index: int
    time: float
    image: UInt8[np.ndarray, "H W 3"]


def probe_video(path: str | Path) -> VideoInfo:
    """Size, rate and length of a video, decoding only its first frame. Raises VultusError like `VideoReader`."""
    return VideoReader(path).info


class VideoReader:
    """The frames of a video, upright, in square pixels, in sRGB, with their real times. Iterate over it once or often.

    A video that is damaged part-way gives the frames before the damage; afterwards `damage` says what happened.

    Args:
        start, end: seconds since the first frame; frames outside are left out.
        max_fps: leave out frames so that no more than this many per second remain.
        max_side: shrink frames whose longer side has more pixels.

    Raises:
        VultusError: missing, not a video, without a picture, or damaged before its first frame.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: float = 0.0,
        end: float | None = None,
        max_fps: float | None = None,
        max_side: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.start, self.end, self.max_fps, self.max_side = start, end, max_fps, max_side
        self.damage: str | None = None
        if media_kind(self.path) != "video":
            raise VultusError(f"{self.path}: is a photo, where a video was expected")
        container, stream = self._open()
        with container:
            frames = self._decode(container, stream)
            first = next(frames, None)
            if first is None:
                why = self.damage or "it contains no frames"
                raise VultusError(f"{self.path}: no frame can be read: {why}")
            self.info = _describe(self.path, container, stream, first)
        self.damage = None

    def __iter__(self) -> Iterator[VideoFrame]:
        self.damage = None
        container, stream = self._open()
        origin: float | None = None
        last_time = -1.0
        next_time = self.start
        decoded = 0
        with container:
            for index, frame in enumerate(self._decode(container, stream)):
                stamp = frame.time if frame.time is not None else index / self.info.fps
                origin = stamp if origin is None else origin
                # Players show frames in order even where a broken recorder repeated a time stamp.
                time = max(stamp - origin, last_time + 1e-3 if index else 0.0)
                last_time, decoded = time, index + 1
                if self.end is not None and time > self.end + 1e-6:
                    return
                # A quarter of a step early is on time: otherwise jitter in the stamps would drop every second frame.
                step = 0.0 if self.max_fps is None else 1 / self.max_fps
                if time < next_time - max(step / 4, 1e-6):
                    continue
                next_time = max(next_time + step, time + step / 2)
                yield VideoFrame(index, time, self._picture(frame))
        if self.damage is None and decoded < 0.9 * self.info.frame_count:
            self.damage = f"it ends after {decoded} of about {self.info.frame_count} frames"

    def _open(self) -> tuple[InputContainer, VideoStream]:
        import av

        try:
            container = av.open(str(self.path), metadata_errors="replace")
        except av.FFmpegError as error:
            raise VultusError(
                f"{self.path}: cannot be opened as a video ({_reason(error)}). If the recording or the download was "
                "cut off, repeat it; otherwise convert it to MP4"
            ) from error
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            container.close()
            if not {"audio", "subtitle"} & set(kinds):
                raise VultusError(f"{self.path}: is cut off before its first frame; repeat the recording or download")
            raise VultusError(f"{self.path}: has no picture, only {' and '.join(kinds)}")
        stream = container.streams.video[0]
        with contextlib.suppress(AttributeError, RuntimeError):  # no decoder for this codec: decoding will say so
            stream.thread_type = "AUTO"
        return container, stream

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[AvFrame]:
        """Frames until the end or until the first damage, which is noted."""
        import av

        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError("damaged picture data")
                yield frame
        except (av.FFmpegError, RuntimeError, ValueError, MemoryError) as error:
            self.damage = _reason(error)

    def _picture(self, frame: AvFrame) -> UInt8[np.ndarray, "H W 3"]:
        width, height = _square_pixels(frame.width, frame.height, self.info)
        if self.max_side is not None and max(width, height) > self.max_side:
            factor = self.max_side / max(width, height)
            width, height = max(1, round(width * factor)), max(1, round(height * factor))
        options: dict[str, Any] = {"width": width, "height": height, "interpolation": "AREA"}
        if (width, height) == (frame.width, frame.height):
            options["interpolation"] = "BILINEAR"
        if int(frame.colorspace) == _UNSPECIFIED:
            # Files that do not say follow the custom of their size: BT.709 from 720 lines on.
            options["src_colorspace"] = _BT709 if frame.height >= 720 else _BT601
        if self.info.hdr:
            deep = frame.reformat(format="rgb48le", **options).to_ndarray()
            image = to_sdr(deep, int(frame.color_trc))
        else:
            image = frame.reformat(format="rgb24", **options).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, self.info.rotation // 90))


def _describe(path: Path, container: InputContainer, stream: VideoStream, frame: AvFrame) -> VideoInfo:
    rotation = round(getattr(frame, "rotation", 0) / 90) * 90 % 360
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    fps = float(rate) if rate else 25.0
    if not 0.01 < fps < 1000:
        fps = 25.0
    duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if duration <= 0 and container.duration:
        duration = container.duration / 1e6
    count = stream.frames or round(duration * fps)
    aspect = _pixel_aspect(stream)
    width, height = max(1, round(frame.width * aspect)), frame.height
    if rotation % 180:
        width, height = height, width
    hdr = is_hdr(int(getattr(frame, "color_trc", _UNSPECIFIED)))
    return VideoInfo(path, width, height, fps, count, duration, rotation, hdr)


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel divided by its height; 1 where the file says nothing sensible."""
    ratio = stream.sample_aspect_ratio
    aspect = float(ratio) if ratio else 1.0
    return aspect if 0.1 < aspect < 10 else 1.0


def _square_pixels(width: int, height: int, info: VideoInfo) -> tuple[int, int]:
    """The size, before rotation, that makes pixels square: that of the whole video even if a frame differs."""
    return (info.height, info.width) if info.rotation % 180 else (info.width, info.height)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).split("\n")[0]


class VideoWriter:
    """Writes an H.264 MP4 that every browser and phone plays. Use it in a `with` block.

    The file appears under its name only when the block ends without an exception. All frames have the size of the
    first; an odd width or height gets one repeated row or column more, because the format needs even ones.

    Args:
        fps: frames per second.
        quality: x264's constant rate factor, 0 (lossless) to 51; 18 looks like the original.
        metadata: provenance and titles, stored in the container under their own names.
    """

    def __init__(
        self, path: str | Path, *, fps: float, quality: int = 18, metadata: Mapping[str, str] | None = None
    ) -> None:
        self.path = Path(path)
        self.fps, self.quality, self.metadata = fps, quality, dict(metadata or {})
        self.frames_written = 0
        self._size: tuple[int, int] | None = None
        self._atomic: Any = None
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        import av

        self._atomic = atomic_path(self.path)
        temporary = self._atomic.__enter__()
        try:
            self._container = av.open(
                str(temporary), "w", format="mp4", options={"movflags": "use_metadata_tags+faststart"}
            )
        except BaseException as error:
            self._abandon(error)
            raise
        return self

    def write(self, image: UInt8[np.ndarray, "H W 3"] | Float[Tensor, "H W 3"]) -> None:
        """Add a frame: `uint8`, or float in [0, 1].

        Raises:
            ValueError: its size differs from the first frame's.
        """
        import av

        pixels = to_uint8(image) if isinstance(image, Tensor) else image
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"a frame is uint8 [H, W, 3], not {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[:2]
        if self._size is None:
            self._size = (height, width)
            self._start(height, width)
        elif self._size != (height, width):
            raise ValueError(f"a frame of {width}x{height} does not fit a video of {self._size[1]}x{self._size[0]}")
        even = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=1)
        frame.pts = self.frames_written
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self.frames_written += 1

    def _start(self, height: int, width: int) -> None:
        rate = Fraction(self.fps).limit_denominator(1001)
        self._container.metadata.update(self.metadata)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": str(self.quality)})
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / rate
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
            return
        try:
            if self.frames_written == 0:
                raise VultusError(f"{self.path}: there is no frame to write")
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()
        except BaseException as failure:
            self._abandon(failure)
            raise
        self._atomic.__exit__(None, None, None)

    def _abandon(self, error: BaseException) -> None:
        """Remove the temporary file. What goes wrong while closing a half-written file is no news."""
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()
        self._atomic.__exit__(type(error), error, error.__traceback__)


def write_video(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "H W 3"] | Float[Tensor, "H W 3"]],
    *,
    fps: float,
    quality: int = 18,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write all frames of an iterable; returns how many. Atomic like `VideoWriter`."""
    with VideoWriter(path, fps=fps, quality=quality, metadata=metadata) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.frames_written
