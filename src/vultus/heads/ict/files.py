"""Reading ICT-FaceKit Light: OBJ files in centimetres, or an archive of quantised displacements in metres."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.heads.ict.layout import EXPRESSIONS, EXTRA_EXPRESSIONS, N_IDENTITY, POLYGONS, TEXTURE_POINTS, VERTICES

ARCHIVE_FORMAT = "ict-facekit-light-compact/1"
NEUTRAL = "generic_neutral_mesh"
_METRES = 0.01
_MAX_OBJ_BYTES = 16 << 20
_MAX_ARCHIVE_BYTES = 256 << 20
_MAX_ABSOLUTE = 10.0


@dataclass(frozen=True)
class IctShapes:
    """The neutral mesh and the displacements of its shapes, metres. Polygons with three corners end in −1."""

    neutral: Float[np.ndarray, "V 3"]
    polygons: Int[np.ndarray, "Q 4"]
    uv: Float[np.ndarray, "T 2"]
    polygons_uv: Int[np.ndarray, "Q 4"]
    expression_names: tuple[str, ...]
    expressions: Float[np.ndarray, "E V 3"]
    identities: Float[np.ndarray, "I V 3"]
    missing: tuple[str, ...]


def read_archive(path: Path) -> IctShapes:
    """The compact archive. Raises VultusError: not this format, damaged, or of another mesh."""
    arrays = read_npz(path, max_bytes=_MAX_ARCHIVE_BYTES)
    if str(arrays.get("format")) != ARCHIVE_FORMAT:
        raise VultusError(f"{path}: is not an archive of ICT-FaceKit Light (.npz with format={ARCHIVE_FORMAT})")

    def array(key: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
        value = arrays.get(key)
        if value is None or value.dtype.kind not in kinds or value.ndim != len(shape):
            raise VultusError(f"{path}: has no proper {key!r}; it is damaged or of another mesh")
        if any(want is not None and want != size for want, size in zip(shape, value.shape, strict=True)):
            raise VultusError(f"{path}: {key} has the shape {value.shape}; it is damaged or of another mesh")
        if value.dtype.kind == "f" and not (np.isfinite(value).all() and np.abs(value).max(initial=0) < _MAX_ABSOLUTE):
            raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
        return value

    def shapes(kind: str) -> tuple[tuple[str, ...], np.ndarray]:
        names = array(f"{kind}_names", "U", (None,))
        if len(names) > 1024:
            raise VultusError(f"{path}: claims {len(names)} shapes")
        quantised = array(f"{kind}_q", "i", (len(names), VERTICES, 3))
        scale = array(f"{kind}_scale", "f", (len(names),))
        return tuple(map(str, names)), quantised.astype(np.float32) * scale[:, None, None].astype(np.float32)

    names, expressions = shapes("expression")
    identity_names, identities = shapes("identity")
    known = [index for index, name in enumerate(names) if name in (*EXPRESSIONS, *EXTRA_EXPRESSIONS)]
    return IctShapes(
        neutral=array("vertices", "f", (VERTICES, 3)).astype(np.float32),
        polygons=_corners(path, array("quads", "i", (POLYGONS, 4)), VERTICES),
        uv=array("uv", "f", (TEXTURE_POINTS, 2)).astype(np.float32),
        polygons_uv=_corners(path, array("quads_uv", "i", (POLYGONS, 4)), TEXTURE_POINTS),
        expression_names=tuple(names[index] for index in known),
        expressions=expressions[known],
        identities=identities,
        missing=_missing(names, identity_names),
    )


def read_folder(folder: Path) -> IctShapes:
    """The publisher's folder of OBJ files (`FaceXModel`). Shapes whose file is not there are listed in `missing`.

    Raises:
        VultusError: no neutral mesh, or a file that is malformed or of another mesh.
    """
    neutral, faces = _read_obj(folder / f"{NEUTRAL}.obj", with_faces=True)
    assert faces is not None

    def displacements(names: list[str]) -> np.ndarray:
        stacked = np.zeros((len(names), VERTICES, 3), np.float32)
        for index, name in enumerate(names):
            stacked[index] = _read_obj(folder / f"{name}.obj")[0] - neutral
        return stacked

    expression_names = [n for n in (*EXPRESSIONS, *EXTRA_EXPRESSIONS) if (folder / f"{n}.obj").is_file()]
    wanted = [f"identity{index:03d}" for index in range(N_IDENTITY)]
    identity_names = []
    for name in wanted:
        # Modes are numbered without gaps: what follows a missing one would get its number.
        if not (folder / f"{name}.obj").is_file():
            break
        identity_names.append(name)
    return IctShapes(
        neutral=neutral.astype(np.float32),
        polygons=faces[0],
        uv=faces[2],
        polygons_uv=faces[1],
        expression_names=tuple(expression_names),
        expressions=displacements(expression_names),
        identities=displacements(identity_names),
        missing=_missing(expression_names, identity_names),
    )


def _missing(expressions: tuple[str, ...] | list[str], identities: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    wanted = (*EXPRESSIONS, *(f"identity{index:03d}" for index in range(N_IDENTITY)))
    there = {*expressions, *identities}
    return tuple(name for name in wanted if name not in there)


def _read_obj(
    path: Path, *, with_faces: bool = False
) -> tuple[Float[np.ndarray, "V 3"], tuple[np.ndarray, np.ndarray, np.ndarray] | None]:
    """Vertices in metres (float64) and, if asked for, polygons, their texture polygons and texture points."""
    try:
        if path.stat().st_size > _MAX_OBJ_BYTES:
            raise VultusError(f"{path}: is too large for a shape of ICT-FaceKit")
        content = b"\n" + path.read_bytes()
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    vertices = _numbers(path, content, b"v", VERTICES, 3) * _METRES
    if not with_faces:
        return vertices, None
    uv = _numbers(path, content, b"vt", TEXTURE_POINTS, 2).astype(np.float32)
    polygons = np.full((2, POLYGONS, 4), -1, np.int64)
    rows = [line.split()[1:] for line in content.split(b"\n") if line.startswith(b"f ")]
    if len(rows) != POLYGONS or not all(3 <= len(row) <= 4 for row in rows):
        raise VultusError(f"{path}: has {len(rows)} polygons; ICT-FaceKit Light has {POLYGONS} of 3 or 4 corners")
    try:
        for index, row in enumerate(rows):
            for corner, text in enumerate(row):
                vertex, texture = text.split(b"/")[:2]
                polygons[:, index, corner] = int(vertex) - 1, int(texture) - 1
    except (ValueError, OverflowError) as error:
        raise VultusError(f"{path}: has polygons without vertex and texture numbers: {error}") from error
    return vertices, (_corners(path, polygons[0], VERTICES), _corners(path, polygons[1], TEXTURE_POINTS), uv)


def _numbers(path: Path, content: bytes, mark: bytes, count: int, width: int) -> Float[np.ndarray, "N D"]:
    """The numbers of all lines that begin with `mark`, which stand together in these files."""
    key = b"\n" + mark + b" "
    start, last = content.find(key), content.rfind(key)
    end = content.find(b"\n", last + 1)
    block = content[start : len(content) if end < 0 else end] if start >= 0 else b""
    if block.count(key) != count:
        raise VultusError(f"{path}: has {block.count(key)} lines {mark.decode()!r}; ICT-FaceKit Light has {count}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.fromstring(block.replace(key, b" ").decode("ascii"), dtype=np.float64, sep=" ")
    except (ValueError, UnicodeDecodeError, DeprecationWarning) as error:
        raise VultusError(f"{path}: holds something that is no number: {error}") from error
    if values.size != count * width:
        raise VultusError(f"{path}: its lines {mark.decode()!r} do not hold {width} numbers each")
    if not np.isfinite(values).all() or np.abs(values).max() > _MAX_ABSOLUTE / _METRES:
        raise VultusError(f"{path}: holds values that are not finite or absurdly large")
    return values.reshape(count, width)


def _corners(path: Path, polygons: np.ndarray, limit: int) -> Int[np.ndarray, "Q 4"]:
    corners = polygons.astype(np.int64)
    if corners[:, :3].min() < 0 or corners.min() < -1 or corners.max() >= limit:
        raise VultusError(f"{path}: has polygons whose corners are outside 0…{limit - 1}")
    return corners
