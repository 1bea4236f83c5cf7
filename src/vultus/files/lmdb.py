"""LMDB databases (data.mdb), read and written without LMDB's own library.

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
from vultus.files.atomic import atomic_path

_PAGE = 4096
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER, _NODE = 16, 8
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG = 1
_INTEGER_KEYS = 8
_NONE = (1 << 64) - 1
_LARGEST_INLINE = ((_PAGE - _HEADER) // 2 & ~1) - 2
_MAX_KEY = 511
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
            raise VultusError(f"{self.path}: is not an LMDB database (version {_VERSION}, 64 bits, little endian)")
        meta = max(metas, key=lambda each: each.transaction)
        self._page, self._pages = meta.page_size, len(self._bytes) // meta.page_size
        entries: dict[bytes, tuple[int, int]] = {}
        if meta.root == _NONE:
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
            count = (lower - _HEADER) // 2
            if not 0 <= count <= self._page // 4:
                raise self._damaged(f"page {number} has a broken head")
            places = struct.unpack_from(f"<{count}H", self._bytes, start + _HEADER)
            if flags & 0x1F == _BRANCH:
                # Last first, so that keys come out in their order.
                pending += [(self._child(start, place), depth + 1) for place in reversed(places)]
            elif flags & 0x1F == _LEAF:
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
        size = _PAGE
        for guess in (_PAGE, 8192, 16384, 32768, 65536, 2048, 1024, 512):
            start = index * guess
            if start + _HEADER + 136 > len(self._bytes):
                continue
            flags = struct.unpack_from("<H", self._bytes, start + 10)[0]
            magic, version = struct.unpack_from("<II", self._bytes, start + _HEADER)
            if magic == _MAGIC and version == _VERSION and flags & _META:
                size = guess
                break
        else:
            return None
        free, main = (struct.unpack_from("<IHHQQQQQ", self._bytes, start + _HEADER + at) for at in (24, 72))
        last_page, transaction = struct.unpack_from("<QQ", self._bytes, start + _HEADER + 120)
        page_size = free[0]
        if page_size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) or (index and page_size != size):
            return None
        if main[1]:
            raise VultusError(
                f"{self.path}: is an LMDB database with duplicate or reversed keys; that is not supported"
            )
        if main[7] != _NONE and not 2 <= main[7] <= last_page:
            raise self._damaged("its root is outside")
        return _Meta(page_size, main[7], transaction)

    def _start(self, number: int, pages: int = 1) -> int:
        if not 2 <= number < self._pages or number + pages > self._pages:
            raise self._damaged(f"page {number} is missing; the file was cut off")
        return number * self._page

    def _node(self, start: int, place: int) -> tuple[int, int, int, int]:
        """Place of a node in the file; low and high half word, flags, and length of its key."""
        if not _HEADER <= place <= self._page - _NODE:
            raise self._damaged("an entry lies outside its page")
        low, high, flags, key_size = struct.unpack_from("<HHHH", self._bytes, start + place)
        if place + _NODE + key_size > self._page:
            raise self._damaged("a key lies outside its page")
        return low, high, flags, key_size

    def _child(self, start: int, place: int) -> int:
        low, high, flags, _ = self._node(start, place)
        return low | high << 16 | flags << 32

    def _leaf_node(self, start: int, place: int) -> tuple[bytes, tuple[int, int]]:
        low, high, flags, key_size = self._node(start, place)
        size, at = low | high << 16, start + place + _NODE
        key = self._bytes[at : at + key_size]
        if flags & ~_BIG:
            raise VultusError(f"{self.path}: holds databases within the database, which is not supported")
        if flags & _BIG:
            if place + _NODE + key_size + 8 > self._page:
                raise self._damaged("an entry lies outside its page")
            first = struct.unpack_from("<Q", self._bytes, at + key_size)[0]
            page = self._start(first, (_HEADER + size + self._page - 1) // self._page)
            if not struct.unpack_from("<H", self._bytes, page + 10)[0] & _OVERFLOW:
                raise self._damaged(f"page {first} does not hold a large value")
            return key, (page + _HEADER, size)
        if place + _NODE + key_size + size > self._page:
            raise self._damaged("a value lies outside its page")
        return key, (at + key_size, size)


@dataclass(frozen=True)
class _Meta:
    page_size: int
    root: int
    transaction: int


def write_lmdb(folder: str | Path, entries: Iterator[tuple[bytes, bytes]]) -> int:
    """Write a database (`data.mdb`) from keys and values in any order; returns how many there were.

    Large values go to the disk as they come; keys and small values wait in memory. LMDB's own library opens the result.

    Raises:
        VultusError: a key that is empty, longer than 511 bytes or given twice, or the file cannot be written.
    """
    path = Path(folder) / "data.mdb"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(b"\0" * 2 * _PAGE)
        writer = _Writer(2)
        for key, value in entries:
            if not 1 <= len(key) <= _MAX_KEY:
                raise VultusError(f"{path}: a key of {len(key)} bytes; 1 to {_MAX_KEY} are possible")
            if len(value) >= 1 << 32:
                raise VultusError(f"{path}: a value of {len(value)} bytes is too large")
            file.write(writer.add(key, value))
        file.write(writer.tree(path))
        file.seek(0)
        file.write(writer.meta(0) + writer.meta(1))
    return len(writer.nodes)


class _Writer:
    """Builds the tree of pages; what its methods return is written one after the other."""

    def __init__(self, first_page: int) -> None:
        self.next = first_page
        self.nodes: list[tuple[bytes, bytes]] = []
        self.big = self.branches = self.leaves = self.depth = 0
        self.root = _NONE

    def add(self, key: bytes, value: bytes) -> bytes:
        """Overflow pages of a large value; nothing for a small one."""
        size = struct.pack("<HH", len(value) & 0xFFFF, len(value) >> 16)
        if _NODE + len(key) + len(value) <= _LARGEST_INLINE:
            self.nodes.append((key, size + struct.pack("<HH", 0, len(key)) + key + value))
            return b""
        count = (_HEADER + len(value) + _PAGE - 1) // _PAGE
        number = self.next
        self.nodes.append((key, size + struct.pack("<HH", _BIG, len(key)) + key + struct.pack("<Q", number)))
        self.next += count
        self.big += count
        page = struct.pack("<QHHI", number, 0, _OVERFLOW, count) + value
        return page.ljust(count * _PAGE, b"\0")

    def tree(self, path: Path) -> bytes:
        """Leaf and branch pages above everything that was added."""
        self.nodes.sort(key=lambda node: node[0])
        if any(one[0] == two[0] for one, two in zip(self.nodes, self.nodes[1:], strict=False)):
            raise VultusError(f"{path}: a key occurs twice")
        pages: list[bytes] = []
        level, kind = self.nodes, _LEAF
        while level:
            groups = _packed(level)
            if kind == _LEAF:
                self.leaves = len(groups)
            else:
                self.branches += len(groups)
            self.depth += 1
            above = []
            for group in groups:
                above.append((group[0][0], self.next))
                pages.append(_page(self.next, kind, [node for _, node in group]))
                self.next += 1
            if len(above) == 1:
                self.root = above[0][1]
                break
            # The first child of a branch page needs no key, but one does no harm until pages are made.
            level, kind = [(key, _branch_node(key, number)) for key, number in above], _BRANCH
        return b"".join(pages)

    def meta(self, index: int) -> bytes:
        """A meta page. The first one states an older, empty database, as LMDB's own first commit leaves it."""
        free = struct.pack("<IHHQQQQQ", _PAGE, _INTEGER_KEYS, 0, 0, 0, 0, 0, _NONE)
        main = struct.pack(
            "<IHHQQQQQ", 0, 0, self.depth, self.branches, self.leaves, self.big, len(self.nodes), self.root
        )
        head = struct.pack("<QHHI", index, 0, _META, 0)
        body = struct.pack("<IIQQ", _MAGIC, _VERSION, 0, self.next * _PAGE) + free + main
        return (head + body + struct.pack("<QQ", self.next - 1, index)).ljust(_PAGE, b"\0")


def _branch_node(key: bytes, number: int) -> bytes:
    return struct.pack("<HHHH", number & 0xFFFF, number >> 16 & 0xFFFF, number >> 32, len(key)) + key


def _packed(nodes: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
    """Nodes in groups that fill a page each; no group of one after a full one, as branch pages need two."""
    groups: list[list[tuple[bytes, bytes]]] = [[]]
    used = _HEADER
    for node in nodes:
        size = 2 + len(node[1]) + len(node[1]) % 2
        if used + size > _PAGE:
            groups.append([])
            used = _HEADER
        groups[-1].append(node)
        used += size
    if len(groups) > 1 and len(groups[-1]) == 1 and len(groups[-2]) > 2:
        groups[-1].insert(0, groups[-2].pop())
    return groups


def _page(number: int, kind: int, nodes: list[bytes]) -> bytes:
    """A page: places of the nodes in front, the nodes from the end backwards."""
    if kind == _BRANCH:
        nodes = [nodes[0][:6] + b"\0\0", *nodes[1:]]
    places, upper, body = [], _PAGE, b""
    for node in nodes:
        padded = node + b"\0" * (len(node) % 2)
        upper -= len(padded)
        places.append(upper)
        body = padded + body
    lower = _HEADER + 2 * len(nodes)
    head = struct.pack("<QHHHH", number, 0, kind, lower, upper) + struct.pack(f"<{len(places)}H", *places)
    return head + b"\0" * (upper - lower) + body
