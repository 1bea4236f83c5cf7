"""LMDB databases (data.mdb), read without LMDB's own library (written: `lmdb_writing`).

That library maps a file into memory and follows the page numbers in it without question: a crafted file can crash the
process. Here every number is checked against the bytes that are there before it is followed. Format: version 1 of the
64-bit little-endian layout, as described by the comments of LMDB's source (OpenLDAP, mdb.c); one unnamed database
without duplicate keys.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vultus.errors import VultusError
from vultus.files.lmdb_pages import (
    BIG,
    BRANCH,
    HEADER,
    LEAF,
    MAGIC,
    META,
    NODE,
    NONE,
    OVERFLOW,
    PAGE,
    VERSION,
)

_MAX_DEPTH = 32
_MAX_ENTRIES = 50_000_000


class LmdbReader(Mapping[bytes, bytes]):
    """The entries of a database, by key, in the order of their bytes. A context manager; values are copies.

    Args:
        folder: holds `data.mdb`.

    Raises:
        VultusError: missing, not an LMDB database of this layout, or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "data.mdb"
        try:
            with open(self.path, "rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise VultusError(f"{self.path}: is missing, empty or not readable") from error
        try:
            self._entries = self._all_entries()
        except VultusError:
            self._bytes.close()
            raise
        except (struct.error, IndexError) as error:
            self._bytes.close()
            raise self._damaged("a page ends too early") from error

    def __enter__(self) -> LmdbReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._bytes.close()

    def __getitem__(self, key: bytes) -> bytes:
        start, size = self._entries[key]
        return self._bytes[start : start + size]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _damaged(self, what: str) -> VultusError:
        return VultusError(f"{self.path}: is not a sound LMDB database: {what}. Copy it again from where it came")

    def _all_entries(self) -> dict[bytes, tuple[int, int]]:
        """Where every value lies, found by walking the tree once."""
        metas = [meta for meta in (self._meta(0), self._meta(1)) if meta is not None]
        if not metas:
            raise VultusError(f"{self.path}: is not an LMDB database (version {VERSION}, 64 bits, little endian)")
        meta = max(metas, key=lambda each: each.transaction)
        self._page, self._pages = meta.page_size, len(self._bytes) // meta.page_size
        entries: dict[bytes, tuple[int, int]] = {}
        if meta.root == NONE:
            return entries
        seen: set[int] = set()
        pending = [(meta.root, 0)]
        while pending:
            number, depth = pending.pop()
            if number in seen or depth > _MAX_DEPTH:
                raise self._damaged("its pages form a circle")
            seen.add(number)
            start = self._start(number)
            flags, lower = struct.unpack_from("<HH", self._bytes, start + 10)
            count = (lower - HEADER) // 2
            if not 0 <= count <= self._page // 4:
                raise self._damaged(f"page {number} has a broken head")
            places = struct.unpack_from(f"<{count}H", self._bytes, start + HEADER)
            if flags & 0x1F == BRANCH:
                # Last first, so that keys come out in their order.
                pending += [(self._child(start, place), depth + 1) for place in reversed(places)]
            elif flags & 0x1F == LEAF:
                for place in places:
                    key, value = self._leaf_node(start, place)
                    if key in entries or len(entries) >= _MAX_ENTRIES:
                        raise self._damaged("a key occurs twice, or there are too many")
                    entries[key] = value
            else:
                raise self._damaged(f"page {number} is of an unknown or unsupported kind")
        return entries

    def _meta(self, index: int) -> _Meta | None:
        """A meta page. The second one's place depends on the page size that the first one states."""
        size = PAGE
        for guess in (PAGE, 8192, 16384, 32768, 65536, 2048, 1024, 512):
            start = index * guess
            if start + HEADER + 136 > len(self._bytes):
                continue
            flags = struct.unpack_from("<H", self._bytes, start + 10)[0]
            magic, version = struct.unpack_from("<II", self._bytes, start + HEADER)
            if magic == MAGIC and version == VERSION and flags & META:
                size = guess
                break
        else:
            return None
        free, main = (struct.unpack_from("<IHHQQQQQ", self._bytes, start + HEADER + at) for at in (24, 72))
        last_page, transaction = struct.unpack_from("<QQ", self._bytes, start + HEADER + 120)
        page_size = free[0]
        if page_size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) or (index and page_size != size):
            return None
        if main[1]:
            raise VultusError(
                f"{self.path}: is an LMDB database with duplicate or reversed keys; that is not supported"
            )
        if main[7] != NONE and not 2 <= main[7] <= last_page:
            raise self._damaged("its root is outside")
        return _Meta(page_size, main[7], transaction)

    def _start(self, number: int, pages: int = 1) -> int:
        if not 2 <= number < self._pages or number + pages > self._pages:
            raise self._damaged(f"page {number} is missing; the file was cut off")
        return number * self._page

    def _node(self, start: int, place: int) -> tuple[int, int, int, int]:
        """Place of a node in the file; low and high half word, flags, and length of its key."""
        if not HEADER <= place <= self._page - NODE:
            raise self._damaged("an entry lies outside its page")
        low, high, flags, key_size = struct.unpack_from("<HHHH", self._bytes, start + place)
        if place + NODE + key_size > self._page:
            raise self._damaged("a key lies outside its page")
        return low, high, flags, key_size

    def _child(self, start: int, place: int) -> int:
        low, high, flags, _ = self._node(start, place)
        return low | high << 16 | flags << 32

    def _leaf_node(self, start: int, place: int) -> tuple[bytes, tuple[int, int]]:
        low, high, flags, key_size = self._node(start, place)
        size, at = low | high << 16, start + place + NODE
        key = self._bytes[at : at + key_size]
        if flags & ~BIG:
            raise VultusError(f"{self.path}: holds databases within the database, which is not supported")
        if flags & BIG:
            if place + NODE + key_size + 8 > self._page:
                raise self._damaged("an entry lies outside its page")
            first = struct.unpack_from("<Q", self._bytes, at + key_size)[0]
            page = self._start(first, (HEADER + size + self._page - 1) // self._page)
            if not struct.unpack_from("<H", self._bytes, page + 10)[0] & OVERFLOW:
                raise self._damaged(f"page {first} does not hold a large value")
            return key, (page + HEADER, size)
        if place + NODE + key_size + size > self._page:
            raise self._damaged("a value lies outside its page")
        return key, (at + key_size, size)


@dataclass(frozen=True)
class _Meta:
    page_size: int
    root: int
    transaction: int
