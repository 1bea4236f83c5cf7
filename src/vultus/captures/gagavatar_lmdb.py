"""The training data of one-shot networks: pictures in an LMDB, head parameters in a pickle, splits in a JSON.

    FOLDER/img_lmdb/data.mdb    key `VIDEO_FRAME`, value JPEG (or PNG) of a square picture, black behind the person
    FOLDER/optim.pkl            key -> bbox, shapecode, expcode, posecode, eyecode, transform_matrix
                                (`smoothed.pkl` of tracked videos takes its place)
    FOLDER/dataset.json         {"train": [keys], "val": [keys], "test": [keys]}
    FOLDER/head.json            ours: which head model the codes are of; without it they are FLAME's

What the records mean is said in `gagavatar_records`.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from vultus.captures.gagavatar_records import Record, TrackedFrame, params_of, parse_record
from vultus.errors import VultusError
from vultus.files import atomic_path, read_json, read_pickle, write_json
from vultus.files.lmdb import LmdbReader
from vultus.files.lmdb_writing import write_lmdb
from vultus.heads.load import head_made_with
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams

_KEY = re.compile(r"[^/\\\x00]{1,200}_\d{1,9}")
_JPEG_QUALITY = 95
_MAX_SIDE = 4096


class TrackedPictures:
    """A folder of this layout: frames by number, in the order of their keys; `clips` are the frames of one video each,
    in the order of time.

    Args:
        folder: see the module's head.
        head: the head model of the codes; needed unless `head.json` names the built-in one.
        split: take only the keys of `train`, `val` or `test`.

    Raises:
        VultusError: missing or damaged files, malformed or missing records, or another head model.
    """

    def __init__(self, folder: str | Path, head: HeadModel | None = None, *, split: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        self.records_path = _records_path(self.folder)
        self._records = _read_records(self.records_path)
        self.head = _head_of(self.folder, head)
        self.splits = _read_splits(self.folder, set(self._records))
        keys = sorted(self._records, key=_order)
        if split is not None:
            if split not in self.splits:
                raise VultusError(f"{self.folder / 'dataset.json'}: has no split {split!r}")
            chosen = set(self.splits[split])
            keys = [key for key in keys if key in chosen]
        self.keys: tuple[str, ...] = tuple(keys)
        self._pictures = LmdbReader(self.folder / "img_lmdb")
        missing = [key for key in keys if key.encode() not in self._pictures]
        if missing:
            raise VultusError(
                f"{self.folder / 'img_lmdb'}: has no picture {missing[0]!r}, which has a record, and lacks "
                f"{len(missing) - 1} others"
            )

    def close(self) -> None:
        """Give the database's file back."""
        self._pictures.close()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def clips(self) -> list[list[int]]:
        """The numbers of each video's frames."""
        clips: dict[str, list[int]] = {}
        for number, key in enumerate(self.keys):
            clips.setdefault(video_of(key), []).append(number)
        return list(clips.values())

    @property
    def clip_names(self) -> list[str]:
        """The videos' names."""
        return list(dict.fromkeys(map(video_of, self.keys)))

    def frame_name(self, index: int) -> str:
        """The frame's key."""
        return self.keys[index]

    @property
    def pictures_path(self) -> Path:
        """The database's file."""
        return self._pictures.path

    def encoded(self, index: int) -> bytes:
        """A frame's picture as it is stored."""
        return self._pictures[self.keys[index].encode()]

    def record(self, index: int) -> Record:
        """What was tracked in a frame."""
        return self._records[self.keys[index]]

    def picture(self, index: int) -> UInt8[Tensor, "H W 3"]:
        """A frame's picture. Raises VultusError if it is damaged or not square."""
        return torch.from_numpy(decode_picture(self.encoded(index), f"{self.folder}: {self.keys[index]}"))

    def params(self, index: int) -> HeadParams:
        """A frame's head parameters; root and neck are at rest. Raises VultusError if the head lacks components."""
        return params_of(self.head, self.record(index), self.folder)

    def frame(self, index: int) -> TrackedFrame:
        """A picture with everything known about it. Raises like `picture` and `params`."""
        record = self.record(index)
        return TrackedFrame(
            self.picture(index),
            self.params(index),
            torch.from_numpy(record.transform_matrix.copy()),
            torch.from_numpy(record.bbox.copy()),
        )


def video_of(key: str) -> str:
    """The part of a key that names the video: before the first underscore, or the second part after `img_`."""
    parts = key.split("_")
    return parts[1] if parts[0] == "img" and len(parts) > 2 else parts[0]


def _order(key: str) -> tuple[str, int, str]:
    return video_of(key), int(key.rsplit("_", 1)[1]), key


def encode_picture(picture: Float[Tensor, "H W 3"]) -> bytes:
    """A picture (sRGB in [0, 1]) as the JPEG that the layout holds."""
    from PIL import Image

    from vultus.images import to_uint8

    stream = io.BytesIO()
    Image.fromarray(to_uint8(picture)).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def write_tracked(
    folder: str | Path,
    frames: Iterable[tuple[str, bytes, Record]],
    head: HeadModel,
    splits: Mapping[str, Collection[str]],
    *,
    video: bool = False,
) -> int:
    """Write a folder of this layout from (key, encoded picture, record); returns how many frames there were.

    video: one tracked video; its records are written as `smoothed.pkl`, too, by which the published program knows a
    video from pictures.

    Raises:
        VultusError: a key that is not `VIDEO_FRAME` or occurs twice, or the files cannot be written.
    """
    folder = Path(folder)
    records: dict[str, dict[str, ndarray]] = {}

    def entries() -> Iterator[tuple[bytes, bytes]]:
        for key, picture, record in frames:
            if _KEY.fullmatch(key) is None:
                raise VultusError(f"{folder}: the key {key!r} is not of the form VIDEO_FRAME")
            records[key] = {name: getattr(record, name) for name in Record.__dataclass_fields__}
            yield key.encode(), picture

    count = write_lmdb(folder / "img_lmdb", entries())
    for name in ("optim.pkl", *(("smoothed.pkl",) if video else ())):
        # Protocol 4 and plain arrays: any program with NumPy reads it.
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(pickle.dumps(records, protocol=4))
    write_json(folder / "head.json", {"name": head.name, "fingerprint": head.fingerprint})
    write_json(folder / "dataset.json", {name: sorted(keys, key=_order) for name, keys in splits.items()})
    return count


def _head_of(folder: Path, given: HeadModel | None) -> HeadModel:
    path = folder / "head.json"
    if path.is_file():
        about = read_json(path)
        if not isinstance(about, dict) or not all(isinstance(about.get(key), str) for key in ("name", "fingerprint")):
            raise VultusError(f"{path}: does not name a head model")
        return head_made_with(folder, about["name"], about["fingerprint"], given)
    if given is None:
        raise VultusError(
            f"{folder}: its parameters are FLAME's, which Vultus does not ship. Say where it is: --head PATH on the "
            "command line, head=load_head(PATH) in Python"
        )
    return given


def _records_path(folder: Path) -> Path:
    path = next((folder / name for name in ("smoothed.pkl", "optim.pkl") if (folder / name).is_file()), None)
    if path is None:
        begun = (
            " (base.pkl is what the tracker started from, not its result)" if (folder / "base.pkl").is_file() else ""
        )
        raise VultusError(
            f"{folder}: has neither optim.pkl nor smoothed.pkl{begun}, so that it is not tracked training data"
        )
    return path


def _read_records(path: Path) -> dict[str, Record]:
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise VultusError(f"{path}: does not hold records by name")
    records = {}
    for key, value in content.items():
        if not isinstance(key, str) or _KEY.fullmatch(key) is None or not isinstance(value, dict):
            raise VultusError(f"{path}: {str(key)[:60]!r} is not a record of a frame named VIDEO_FRAME")
        records[key] = parse_record(path, key, value)
    return records


def _read_splits(folder: Path, keys: set[str]) -> dict[str, list[str]]:
    path = folder / "dataset.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(part, list) for part in content.values()):
        raise VultusError(f"{path}: does not hold lists of keys")
    for name, part in content.items():
        unknown = next((key for key in part if not isinstance(key, str) or key not in keys), None)
        if unknown is not None:
            raise VultusError(f"{path}: {name} names {str(unknown)[:60]!r}, which has no record")
    return content


def decode_picture(content: bytes, where: str) -> UInt8[ndarray, "H W 3"]:
    """A square picture from JPEG or PNG. Raises VultusError naming `where`."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                if image.width != image.height or image.width > _MAX_SIDE:
                    raise VultusError(f"{where}: is a picture of {image.width}x{image.height}; it has to be square")
                return np.array(image.convert("RGB"))
    except VultusError:
        raise
    except Exception as error:  # Pillow raises whatever it stumbles over
        raise VultusError(f"{where}: is not a JPEG or PNG picture, or damaged") from error
