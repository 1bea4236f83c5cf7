"""Writing LMDB databases: pages packed full, keys in ascending order. The format is described in `lmdb`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from vultus.errors import VultusError
from vultus.files.atomic import atomic_path
from vultus.files.lmdb_pages import (
    BIG,
    BRANCH,
    HEADER,
    INTEGER_KEYS,
    LEAF,
    MAGIC,
    MAX_KEY,
    META,
    NODE,
    NONE,
    OVERFLOW,
    PAGE,
    VERSION,
)

_LARGEST_INLINE = ((PAGE - HEADER) // 2 & ~1) - 2


def write_lmdb(folder: str | Path, entries: Iterator[tuple[bytes, bytes]]) -> int:
    """Write a database (`data.mdb`) from keys and values in any order; returns how many there were.

    Large values go to the disk as they come; keys and small values wait in memory. LMDB's own library opens the result.

    Raises:
        VultusError: a key that is empty, longer than 511 bytes or given twice, or the file cannot be written.
    """
    path = Path(folder) / "data.mdb"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(b"\0" * 2 * PAGE)
        writer = _Writer(2)
        for key, value in entries:
            if not 1 <= len(key) <= MAX_KEY:
                raise VultusError(f"{path}: a key of {len(key)} bytes; 1 to {MAX_KEY} are possible")
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
        self.root = NONE

    def add(self, key: bytes, value: bytes) -> bytes:
        """Overflow pages of a large value; nothing for a small one."""
        size = struct.pack("<HH", len(value) & 0xFFFF, len(value) >> 16)
        if NODE + len(key) + len(value) <= _LARGEST_INLINE:
            self.nodes.append((key, size + struct.pack("<HH", 0, len(key)) + key + value))
            return b""
        count = (HEADER + len(value) + PAGE - 1) // PAGE
        number = self.next
        self.nodes.append((key, size + struct.pack("<HH", BIG, len(key)) + key + struct.pack("<Q", number)))
        self.next += count
        self.big += count
        page = struct.pack("<QHHI", number, 0, OVERFLOW, count) + value
        return page.ljust(count * PAGE, b"\0")

    def tree(self, path: Path) -> bytes:
        """Leaf and branch pages above everything that was added."""
        self.nodes.sort(key=lambda node: node[0])
        if any(one[0] == two[0] for one, two in zip(self.nodes, self.nodes[1:], strict=False)):
            raise VultusError(f"{path}: a key occurs twice")
        pages: list[bytes] = []
        level, kind = self.nodes, LEAF
        while level:
            groups = _packed(level)
            if kind == LEAF:
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
            level, kind = [(key, _branch_node(key, number)) for key, number in above], BRANCH
        return b"".join(pages)

    def meta(self, index: int) -> bytes:
        """A meta page. The first one states an older, empty database, as LMDB's own first commit leaves it."""
        free = struct.pack("<IHHQQQQQ", PAGE, INTEGER_KEYS, 0, 0, 0, 0, 0, NONE)
        main = struct.pack(
            "<IHHQQQQQ", 0, 0, self.depth, self.branches, self.leaves, self.big, len(self.nodes), self.root
        )
        head = struct.pack("<QHHI", index, 0, META, 0)
        body = struct.pack("<IIQQ", MAGIC, VERSION, 0, self.next * PAGE) + free + main
        return (head + body + struct.pack("<QQ", self.next - 1, index)).ljust(PAGE, b"\0")


def _branch_node(key: bytes, number: int) -> bytes:
    return struct.pack("<HHHH", number & 0xFFFF, number >> 16 & 0xFFFF, number >> 32, len(key)) + key


def _packed(nodes: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
    """Nodes in groups that fill a page each; no group of one after a full one, as branch pages need two."""
    groups: list[list[tuple[bytes, bytes]]] = [[]]
    used = HEADER
    for node in nodes:
        size = 2 + len(node[1]) + len(node[1]) % 2
        if used + size > PAGE:
            groups.append([])
            used = HEADER
        groups[-1].append(node)
        used += size
    if len(groups) > 1 and len(groups[-1]) == 1 and len(groups[-2]) > 2:
        groups[-1].insert(0, groups[-2].pop())
    return groups


def _page(number: int, kind: int, nodes: list[bytes]) -> bytes:
    """A page: places of the nodes in front, the nodes from the end backwards."""
    if kind == BRANCH:
        nodes = [nodes[0][:6] + b"\0\0", *nodes[1:]]
    places, upper, body = [], PAGE, b""
    for node in nodes:
        padded = node + b"\0" * (len(node) % 2)
        upper -= len(padded)
        places.append(upper)
        body = padded + body
    lower = HEADER + 2 * len(nodes)
    head = struct.pack("<QHHHH", number, 0, kind, lower, upper) + struct.pack(f"<{len(places)}H", *places)
    return head + b"\0" * (upper - lower) + body
