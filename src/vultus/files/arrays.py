"""NumPy files (.npy, .npz) read without pickle and without trusting the sizes they claim."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from vultus.errors import VultusError
from vultus.files.atomic import atomic_path

_MAX_BYTES = 4 << 30
# Deflate cannot shrink data by more than this; a member that claims more is a bomb or damaged.
_MAX_RATIO = 1040
_PLAIN_KINDS = "biufcUS"


def read_npz(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name.

    Nothing is unpickled. The sizes in the zip directory are checked against the file, the cap and every array's own
    header before memory is allocated.

    Raises:
        VultusError: missing, not a zip file, damaged, holding anything but plain arrays, or larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_directory(path, archive.infolist(), Path(path).stat().st_size, max_bytes)
            arrays = {}
            for member in archive.infolist():
                with archive.open(member) as stream:
                    content = stream.read()
                arrays[member.filename.removesuffix(".npy")] = _parse(content, f"{path}: {member.filename}")
            return arrays
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except VultusError:
        raise
    except Exception as error:  # what the zip reader raises on hostile files is not documented
        raise VultusError(f"{path}: is not a readable .npz file: {error}") from error


def npz_names(path: str | Path) -> set[str]:
    """Names of the arrays in an .npz file, none of which is read. Raises VultusError: not a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what the zip reader raises on hostile files is not documented
        raise VultusError(f"{path}: is not a readable .npz file: {error}") from error


def read_npy(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> np.ndarray:
    """The array of an .npy file without pickled objects. Raises VultusError like `read_npz`."""
    try:
        size = Path(path).stat().st_size
        if size > max_bytes:
            raise VultusError(f"{path}: {size} bytes is more than the limit of {max_bytes}")
        return _parse(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error


def write_npz(path: str | Path, /, **arrays: np.ndarray) -> None:
    """Write arrays atomically. The same arrays always give the same bytes: sorted names, no dates.

    Raises:
        VultusError: the file cannot be written.
        ValueError: an array holds Python objects.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(arrays[name]), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            file.writestr(member, content.getvalue())


def _check_directory(path: str | Path, members: list[zipfile.ZipInfo], file_size: int, max_bytes: int) -> None:
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise VultusError(f"{path}: names one array twice")
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise VultusError(f"{path}: unpacks to {total} bytes, more than the limit of {max_bytes}")
    if sum(member.compress_size for member in members) > file_size:
        raise VultusError(f"{path}: its directory claims more bytes than the file has; it is damaged")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise VultusError(f"{path}: holds {member.filename!r}, which is not an array")
        if member.file_size > member.compress_size * _MAX_RATIO + 1024:
            raise VultusError(f"{path}: {member.filename} claims an impossible size of {member.file_size} bytes")


def _parse(content: bytes, name: str) -> np.ndarray:
    """An array from the bytes of an .npy file."""
    shape, column_major, dtype, start = read_npy_header(content, name)
    if dtype.kind not in _PLAIN_KINDS:
        raise VultusError(f"{name}: holds {dtype} values; only plain numbers and text are read (no pickled objects)")
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - start != expected:
        raise VultusError(
            f"{name}: the header announces {expected} bytes for shape {shape} but {len(content) - start} are there; "
            "the file is damaged or cut off"
        )
    if expected == 0:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(content, dtype, offset=start)
    return flat.reshape(shape, order="F" if column_major else "C").copy(order="K")


def read_npy_header(content: bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether column-major, dtype and the offset of the data, from the bytes of an .npy file.

    Raises:
        VultusError: not an .npy file, or its header is malformed.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, column_major, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, column_major, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} of the format")
        if any(size < 0 for size in shape):
            raise ValueError(f"negative shape {shape}")
    except Exception as error:  # the parser's failures on hostile headers are not documented
        raise VultusError(f"{name}: is not a readable .npy array: {error}") from error
    return shape, column_major, dtype, stream.tell()
