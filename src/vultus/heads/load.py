"""One door to all head models: the built-in one by name, others by file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from vultus.errors import VultusError
from vultus.heads.model import HeadModel, SkinnedHead

BUILTIN = "builtin"
_BUILTIN_NAMES = (BUILTIN, "builtin_v1")


def load_head(name_or_path: str | Path = BUILTIN) -> SkinnedHead:
    """A head model: `"builtin"`, a FLAME model pickle or its folder, or a file written by `write_head`.

    The same object is returned for the same file until the file changes, so treat it as read-only.

    Raises:
        VultusError: no such file, or not a head model; the message says what can be given.
    """
    if str(name_or_path) in _BUILTIN_NAMES:
        return _builtin()
    path = Path(name_or_path)
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise VultusError(
            f"{path}: there is no such head model; give {BUILTIN!r}, a FLAME model file (.pkl) or its folder, or a "
            "head model converted by Vultus (.npz)"
        ) from error
    return _from_file(path.resolve(), stamp)


def head_made_with(where: str | Path, name: str, fingerprint: str, given: HeadModel | None = None) -> HeadModel:
    """The head model that an avatar or a capture was made with: `given`, else the built-in one if `name` means it.

    A name found in a file is never taken for a path: which files are read, the user says.

    Raises:
        VultusError: no head given where one is needed, or one with another fingerprint; the message begins with
            `where` and says how to give the right one.
    """
    if given is None and name not in _BUILTIN_NAMES:
        raise VultusError(
            f"{where}: was made with the head model {name}, which Vultus does not ship. Say where it is: --head PATH "
            "on the command line, head=load_head(PATH) in Python"
        )
    head = _builtin() if given is None else given
    if head.fingerprint != fingerprint:
        raise VultusError(
            f"{where}: was made with the head model {name} ({fingerprint[:12]}), not with {head.name} "
            f"({head.fingerprint[:12]}). Give the one it was made with: --head PATH on the command line, "
            "head=load_head(PATH) in Python"
        )
    return head


@lru_cache(maxsize=1)
def _builtin() -> SkinnedHead:
    from vultus.heads.builtin import load_builtin

    return load_builtin()


@lru_cache(maxsize=2)
def _from_file(path: Path, stamp: int) -> SkinnedHead:
    from vultus.heads.flame import load_flame
    from vultus.heads.native import read_head

    if path.is_dir() or path.suffix.lower() == ".pkl":
        return load_flame(path)
    if path.suffix.lower() == ".npz":
        return read_head(path)
    raise VultusError(f"{path}: is not a head model; give a FLAME model file (.pkl), its folder or a converted .npz")
