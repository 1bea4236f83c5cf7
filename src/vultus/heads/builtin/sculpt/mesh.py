"""The assembled head mesh and the patches (grids of vertices) its non-skin parts consist of."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from .primitives import Points
from .skin import Skin, ring_strip


class Part(IntEnum):
    """Which component a vertex belongs to; vertices shared with the skin count as skin."""

    SKIN = 0
    LID = 1
    MOUTH_BAG = 2
    EAR = 3
    LEFT_EYE = 4
    RIGHT_EYE = 5
    TEETH_UPPER = 6
    TEETH_LOWER = 7
    TONGUE = 8


@dataclass(frozen=True)
class Patch:
    """A grid of vertices, ``grid[ring, column]``, closed around its columns.

    ``first`` and ``last`` are poles that close the first and the last ring with a fan. In the atlas a disc has its
    last ring innermost; a tube is cut open along column 0.
    """

    name: str
    part: Part
    grid: Int[ndarray, "R N"]
    chart: Literal["disc", "tube"]
    first: int | None = None
    last: int | None = None

    @property
    def width(self) -> int:
        """Texture slots per ring: tubes repeat their first column at the end."""
        return self.grid.shape[1] + (self.chart == "tube")

    def slots(self) -> Int[ndarray, "F 3"]:
        """Triangles as numbers of texture slots: ring * width + column, then the slots of the first and last pole.

        A pole has one slot per column, except that the inner pole of a disc is one slot.
        """
        rings, columns = self.grid.shape
        tube = self.chart == "tube"
        slot = np.arange(rings * self.width).reshape(rings, self.width)
        out = [ring_strip(slot[k], slot[k + 1], closed=not tube) for k in range(rings - 1)]
        i = np.arange(columns)
        j = i + 1 if tube else (i + 1) % columns
        pole = rings * self.width
        if self.first is not None:
            out.append(np.stack([slot[0][j], slot[0][i], pole + i], axis=1))
        pole += columns
        if self.last is not None:
            out.append(np.stack([slot[-1][i], slot[-1][j], pole + (i if tube else 0 * i)], axis=1))
        return np.concatenate(out)

    def slot_vertices(self) -> Int[ndarray, "T"]:
        """Vertex of every texture slot; an absent pole repeats a vertex of its ring and is used by no triangle."""
        columns = self.grid.shape[1]
        body = self.grid if self.chart == "disc" else np.concatenate([self.grid, self.grid[:, :1]], axis=1)
        first = self.grid[0, 0] if self.first is None else self.first
        last = self.grid[-1, 0] if self.last is None else self.last
        return np.concatenate(
            [body.ravel(), np.full(columns, first), np.full(columns if self.chart == "tube" else 1, last)]
        )


@dataclass
class MeshBuilder:
    """Collects vertices with their mirror image, part and lip side, and the patches between them."""

    skin: Skin
    vertices: list[Points] = field(default_factory=list)
    parts: list[Int[ndarray, "N"]] = field(default_factory=list)
    mirrors: list[Int[ndarray, "N"]] = field(default_factory=list)
    sides: list[Int[ndarray, "N"]] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    count: int = 0

    def add(
        self, points: Points, part: Part, mirror: Int[ndarray, "N"], side: Int[ndarray, "N"] | None = None
    ) -> Int[ndarray, "N"]:
        """Adds vertices; ``mirror`` is the position of each one's mirror image within ``points``."""
        ids = self.count + np.arange(len(points))
        self.vertices.append(np.asarray(points, dtype=float))
        self.parts.append(np.full(len(points), part))
        self.mirrors.append(self.count + np.asarray(mirror))
        self.sides.append(np.zeros(len(points), dtype=int) if side is None else side)
        self.count += len(points)
        return ids

    def add_pair(self, points: Points, parts: tuple[Part, Part]) -> tuple[Int[ndarray, "N"], Int[ndarray, "N"]]:
        """Adds left vertices and their mirror images."""
        n = len(points)
        left = self.count + np.arange(n)
        self.vertices += [np.asarray(points, dtype=float), points * np.array([-1.0, 1.0, 1.0])]
        self.parts += [np.full(n, parts[0]), np.full(n, parts[1])]
        self.mirrors += [left + n, left]
        self.sides += [np.zeros(2 * n, dtype=int)]
        self.count += 2 * n
        return left, left + n


@dataclass(frozen=True)
class HeadMesh:
    """The whole head in millimetres.

    ``lip`` and ``lid`` are soft masks (1 on the lip line / lid edge); ``side`` is +1 on upper-lip vertices and the
    upper half of the mouth bag, -1 on lower ones. ``lid_rings`` are [2 sides, ring, column] with the skin's lid edge
    first, ``bag_rings`` [ring, column] with the lip line first.
    """

    skin: Skin
    vertices: Points
    faces: Int[ndarray, "F 3"]
    part: Int[ndarray, "V"]
    side: Int[ndarray, "V"]
    lip: Float[ndarray, "V"]
    lid: Float[ndarray, "V"]
    mirror: Int[ndarray, "V"]
    patches: tuple[Patch, ...]
    patch_faces: tuple[Int[ndarray, "_"], ...]
    lid_rings: Int[ndarray, "2 R N"]
    bag_rings: Int[ndarray, "R N"]

    def is_part(self, *parts: Part) -> ndarray:
        """Mask of the vertices of the given parts."""
        return np.isin(self.part, parts)


def consistent_orientation(faces: Int[ndarray, "F 3"], seed: int) -> Int[ndarray, "F 3"]:
    """Turns triangles so that neighbours agree with ``seed``, whose orientation stays.

    Raises ValueError if the triangles are not one piece or an edge has more than two of them.
    """
    owners: dict[tuple[int, int], list[tuple[int, bool]]] = {}
    for i, (a, b, c) in enumerate(faces.tolist()):
        for p, q in ((a, b), (b, c), (c, a)):
            owners.setdefault((min(p, q), max(p, q)), []).append((i, p < q))
    turned = {seed: False}
    queue = deque([seed])
    while queue:
        i = queue.popleft()
        a, b, c = faces[i].tolist()
        for p, q in ((a, b), (b, c), (c, a)):
            shared = owners[(min(p, q), max(p, q))]
            if len(shared) > 2:
                raise ValueError(f"edge {p}-{q} of the sculpt has {len(shared)} triangles")
            for j, forward in shared:
                if j != i and j not in turned:
                    turned[j] = turned[i] ^ (forward == (p < q))
                    queue.append(j)
    if len(turned) != len(faces):
        raise ValueError("the sculpted skin is not one piece")
    flip = np.array(sorted(i for i, t in turned.items() if t), dtype=int)
    out = faces.copy()
    out[flip] = out[flip][:, [0, 2, 1]]
    return out
