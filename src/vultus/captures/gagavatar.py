"""Footage that GAGAvatar's tracker worked on, as captures: its LMDB folders, and its file of single pictures.

    FOLDER/img_lmdb, optim.pkl or smoothed.pkl    see `gagavatar_lmdb`; FOLDER/VIDEO means one video of it
    tracked.pt                                    picture's file name -> record with `image` [3,512,512] (and
                                                  `vis_image`); tracked.pt/NAME means one picture of it

The head models turns in front of one camera that stands still (`motion_of`). Pictures are black behind the person.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.captures.capture import Capture
from vultus.captures.contents import FOREIGN_FPS, Contents, Shot, assembled
from vultus.captures.gagavatar_lmdb import TrackedPictures, decode_picture, video_of
from vultus.captures.gagavatar_records import SIZE, Record, motion_of, parse_record
from vultus.captures.pictures import Picture, Pixels
from vultus.errors import VultusError
from vultus.files import atomic_path, read_pickle
from vultus.heads import HeadModel

LAYOUT = "gagavatar"
_NAME = "tracked.pt"


@dataclass(frozen=True)
class StoredPicture:
    """A picture inside another file: its bytes as JPEG or PNG, or its pixels."""

    path: Path
    name: str
    content: bytes | UInt8[np.ndarray, "H W 3"] = field(repr=False)

    @property
    def place(self) -> str:
        return f"{self.name} in {self.path}"

    def read(self) -> Pixels:
        if isinstance(self.content, bytes):
            return decode_picture(self.content, f"{self.path}: {self.name}"), None
        return self.content, None

    def size(self) -> tuple[int, int]:
        height, width = self.read()[0].shape[:2]
        return width, height


def is_tracked_folder(root: Path) -> bool:
    """Whether a folder holds pictures in an LMDB with their records."""
    return (root / "img_lmdb").is_dir()


def place_in_tracked(path: Path) -> tuple[Path, str | None] | None:
    """The folder or tracked.pt that a path means, and the video or picture of it; None for any other path."""
    for place, chosen in ((path, None), (path.parent, path.name)):
        if is_tracked_folder(place) or (place.suffix.lower() == ".pt" and place.is_file()):
            # A path that is there itself means itself.
            return (place, chosen) if chosen is None or not path.exists() else None
    return None


def read_tracked(root: Path, head: HeadModel | None) -> Contents:
    """What a whole LMDB folder holds. Raises VultusError: see `TrackedPictures` and `motion_of`."""
    return _of_folder(root, head, None)


def open_tracked(path: str | Path, head: HeadModel | None) -> Capture:
    """A capture of an LMDB folder, one video of it, a tracked.pt, or one picture of it.

    Args:
        head: the head model of the codes; needed unless the folder says that it is the built-in one.

    Raises:
        VultusError: no such place, malformed files, or another head model.
    """
    found = place_in_tracked(Path(path))
    if found is None:
        raise VultusError(f"{path}: is no folder with img_lmdb, no {_NAME}, and nothing inside one")
    place, chosen = found
    return assembled(_of_folder(place, head, chosen) if place.is_dir() else _of_file(place, head, chosen))


def _of_folder(root: Path, head: HeadModel | None, video: str | None) -> Contents:
    tracked = TrackedPictures(root, head)
    numbers = [n for n, key in enumerate(tracked.keys) if video is None or video_of(key) == video]
    if not numbers:
        known = ", ".join(list(dict.fromkeys(map(video_of, tracked.keys)))[:5])
        raise VultusError(f"{root}: has no video {video!r}; it has {known} ...")
    pictures = [StoredPicture(tracked.pictures_path, tracked.keys[n], tracked.encoded(n)) for n in numbers]
    videos = [video_of(tracked.keys[n]) for n in numbers]
    return _contents(root, tracked.head, [tracked.record(n) for n in numbers], pictures, videos)


def _of_file(path: Path, head: HeadModel | None, name: str | None) -> Contents:
    if head is None:
        raise VultusError(
            f"{path}: its codes are FLAME's, which Vultus does not ship. Say where it is: --driver-head PATH"
        )
    tracked = read_tracked_images(path)
    names = [each for each in tracked if name in (None, each)]
    if not names:
        raise VultusError(f"{path}: has no picture {name!r}; it has {', '.join(list(tracked)[:5])} ...")
    pictures = [StoredPicture(path, each, tracked[each][1]) for each in names]
    return _contents(path, head, [tracked[each][0] for each in names], pictures, names)


def _contents(
    root: Path, head: HeadModel, records: Sequence[Record], pictures: Sequence[Picture], takes: Sequence[str]
) -> Contents:
    order = list(dict.fromkeys(takes))
    motion, camera = motion_of(head, records, [order.index(take) for take in takes], FOREIGN_FPS, root)
    width, height = pictures[0].size()
    seen = camera.resized(width, height)
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=[Shot(number, 0, seen, picture, None, picture.path) for number, picture in enumerate(pictures)],
        motion=motion,
        head_name=head.name,
        head_fingerprint=head.fingerprint,
        over_white=False,
    )


def read_tracked_images(path: str | Path) -> dict[str, tuple[Record, UInt8[np.ndarray, "H W 3"]]]:
    """Records and pictures by file name, of the tracker's tracked.pt.

    Raises:
        VultusError: not such a file, or a record that lacks something or is malformed.
    """
    path = Path(path)
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise VultusError(f"{path}: does not hold tracked pictures by name")
    found = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, dict):
            raise VultusError(f"{path}: {str(name)[:60]!r} is not a tracked picture")
        image = value.get("image")
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[0] != 3 or image.dtype.kind != "f":
            raise VultusError(f"{path}: {name!r} has no image of 3 x {SIZE} x {SIZE} numbers")
        if image.shape[1] != image.shape[2] or not np.isfinite(image).all():
            raise VultusError(f"{path}: the image of {name!r} is not square or holds numbers that are not finite")
        pixels = (np.moveaxis(image, 0, -1).clip(0, 1) * 255).round().astype(np.uint8)
        found[name] = parse_record(path, name, value), pixels
    return found


def write_tracked_images(
    path: str | Path, tracked: Mapping[str, tuple[Record, Float[Tensor, "H W 3"], Float[Tensor, "H W 3"]]]
) -> None:
    """Write tracked.pt: of every picture by file name the record, the picture (black behind the person, sRGB in [0, 1])
    and the picture with the fitted mesh drawn over it.

    Raises:
        VultusError: it cannot be written.
    """
    content = {
        name: {key: torch.from_numpy(np.array(value)) for key, value in vars(record).items()}
        | {"image": image.float().movedim(-1, 0).clone(), "vis_image": overlay.float().movedim(-1, 0).clone()}
        for name, (record, image, overlay) in tracked.items()
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())
