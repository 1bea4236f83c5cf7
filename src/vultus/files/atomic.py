"""Writing so that a crash, a full disk or a second process never leaves half a file behind.

Everything is written under a temporary name in the same folder, flushed to the disk and renamed over the target.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vultus.errors import VultusError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name (same folder, same suffix) to write a file to; it replaces `path` when the block succeeds.

    The parent folder is created. If the block raises, the temporary file is removed and `path` stays as it was.

    Raises:
        VultusError: the folder cannot be written to, the disk is full, or the block wrote nothing.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if not temporary.is_file():
            raise VultusError(f"{path}: nothing was written")
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | Path, may_replace: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it takes the place of `path` when the block succeeds.

    An existing folder is moved aside, replaced and only then deleted, so that at every instant either the old or the
    new one can be found on the disk.

    Args:
        may_replace: called with an existing folder, before the block and again before it is replaced; raises
            VultusError if the folder has to stay. Default: everything in it may be deleted.

    Raises:
        VultusError: like `atomic_path`; `path` is a file; or `may_replace` says no.
    """
    given = path = Path(path)
    # A link is followed, so that the folder it leads to is replaced, not the link.
    path = Path(os.path.realpath(path))
    _ask(given, path, may_replace)
    temporary, aside = _temporary_name(path), _temporary_name(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _flush(file)
        _ask(given, path, may_replace)
        if path.exists():
            os.replace(path, aside)
        try:
            os.replace(temporary, path)
        except OSError:
            if aside.exists():
                os.replace(aside, path)
            raise
        _flush(path.parent)
    except OSError as error:
        raise _unwritable(given, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes. Raises VultusError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error


def _ask(given: Path, path: Path, may_replace: Callable[[Path], None] | None) -> None:
    """Raise VultusError if what is at `path` may not be replaced by a folder."""
    try:
        if path.exists() and not path.is_dir():
            raise VultusError(f"{given}: is a file, where a folder is to be written. Choose another name")
        if may_replace is not None and path.is_dir():
            may_replace(given)
    except OSError as error:
        raise _unwritable(given, error) from error


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")


def _flush(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable. Some systems cannot flush folders: then they do not."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> VultusError:
    where = f" ({error.filename})" if error.filename else ""
    what = f"{path}: cannot be written: {error.strerror or error}{where}"
    return VultusError(f"{what}. Free some space or choose a folder you may write to")
