"""Is a file a photo or a video? By its content, not by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vultus.errors import VultusError

_PHOTO_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_IMAGE_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P5",
    b"P6",
    b"\0\0\0\x0cjP",
)
_VIDEO_MAGIC = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"FLV",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\0\0\x01\xba",  # MPEG programme stream
    b"\0\0\x01\xb3",
    b"\0\0\0\x01",  # bare H.264, H.265
)
_QUICKTIME_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def media_kind(path: str | Path) -> Literal["image", "video"]:
    """Whether a file is a photo or a video, from its first bytes.

    Raises:
        VultusError: missing, unreadable, empty, a folder, or neither a photo nor a video.
    """
    path = Path(path)
    if path.is_dir():
        raise VultusError(f"{path}: is a folder; give a photo or a video file")
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except FileNotFoundError as error:
        raise VultusError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise VultusError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not head:
        raise VultusError(f"{path}: is empty")
    brand = head[8:12]
    if head[4:8] == b"ftyp" and brand in _HEIC_BRANDS:
        raise VultusError(f"{path}: is a HEIC photo, which is not supported; save it as JPEG or PNG")
    if head.startswith(_IMAGE_MAGIC) or (head[:4] == b"RIFF" and brand == b"WEBP"):
        return "image"
    if head[4:8] == b"ftyp" and brand in _PHOTO_BRANDS:
        return "image"
    if head.startswith(_VIDEO_MAGIC) or (head[:4] == b"RIFF" and brand == b"AVI ") or head[4:8] in _QUICKTIME_BOXES:
        return "video"
    if head[0] == 0x47 and head[188:189] in (b"\x47", b""):  # MPEG transport stream: a sync byte every 188
        return "video"
    raise VultusError(f"{path}: is neither a photo (JPEG, PNG, WebP, TIFF ...) nor a video (MP4, MOV, WebM, AVI ...)")
