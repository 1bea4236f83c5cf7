"""Paths that a file names, which must not lead out of the folder the file belongs to."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from vultus.errors import VultusError


def safe_path(root: str | Path, relative: object, *, source: str | Path | None = None) -> Path:
    """The path `relative` inside `root`, as named by the file `source` (for the message).

    Symbolic links are followed before the test, so that a link inside the folder cannot lead out of it either.

    Raises:
        VultusError: `relative` is not text, is empty or absolute, or leads out of `root`.
    """
    where = f"{source}: " if source is not None else ""
    if not isinstance(relative, str) or not relative or "\0" in relative or len(relative) > 4096:
        raise VultusError(f"{where}{str(relative)[:80]!r} is not a file name")
    text = relative.replace("\\", "/")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive:
        raise VultusError(f"{where}the path {relative!r} is absolute; paths have to be relative to {root}")
    try:
        base = Path(root).resolve()
        target = (base / text).resolve()
    except (OSError, RuntimeError) as error:
        raise VultusError(f"{where}the path {relative!r} cannot be followed: {error}") from error
    if target != base and base not in target.parents:
        raise VultusError(f"{where}the path {relative!r} leads out of {root}")
    return target
