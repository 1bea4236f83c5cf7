"""Pictures in order: a folder of picture files, or a video."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.images.io import read_image, to_float
from vultus.images.video import VideoReader

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


class PictureSequence(Protocol):
    """Pictures by number, sRGB in [0, 1]; reading one raises VultusError if it is missing or damaged."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Float[Tensor, "H W 3"]: ...


def open_sequence(path: str | Path) -> PictureSequence:
    """The pictures of a folder, in the order of their names, or the frames of a video.

    Raises:
        VultusError: nothing is there, no picture in it, or not a video.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise VultusError(f"{path}: holds no picture ({', '.join(_SUFFIXES)})")
        return _Files(files)
    return _Video(path)


class _Files:
    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Float[Tensor, "H W 3"]:
        return to_float(read_image(self._files[index]))


class _Video:
    """Frames are decoded in order; going back starts again at the beginning."""

    def __init__(self, path: Path) -> None:
        self._reader = VideoReader(path)
        self._count = sum(1 for _ in self._reader)
        self._frames = iter(self._reader)
        self._last: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Float[Tensor, "H W 3"]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        if self._last is not None and self._last[0] > index:
            self._frames, self._last = iter(self._reader), None
        while self._last is None or self._last[0] < index:
            number = -1 if self._last is None else self._last[0]
            self._last = number + 1, torch.from_numpy(next(self._frames).image.copy()).float() / 255
        return self._last[1]
