"""One door to all head models: the built-in one by name, others by file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from vultus.errors import VultusError
from vultus.files import npz_names
from vultus.heads.model import HeadModel, SkinnedHead

BUILTIN = "builtin"
_BUILTIN_NAMES = (BUILTIN, "builtin_v1")
_ACCEPTED = (
    f"give {BUILTIN!r}, a FLAME model file (.pkl) or its folder, the folder or archive of ICT-FaceKit Light, "
    "gnm_head.npz, BFM09_model_info.mat, or a head model converted by Vultus (.npz)"
)


def load_head(name_or_path: str | Path = BUILTIN) -> SkinnedHead:
    """A head model: `"builtin"`, a FLAME model pickle or its folder, the folder or archive of ICT-FaceKit Light,
    `gnm_head.npz`, `BFM09_model_info.mat`, or a file written by `write_head`. What a file is, its content decides.

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
        raise VultusError(f"{path}: there is no such head model; {_ACCEPTED}") from error
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
    """By content: a file's name says little about the model in it."""
    if path.is_dir():
        return _from_folder(path)
    if path.suffix.lower() == ".npz":
        return _from_archive(path)
    if path.suffix.lower() == ".mat":
        from vultus.heads.bfm import load_bfm

        return load_bfm(path)
    if path.suffix.lower() == ".pkl":
        from vultus.heads.flame import load_flame

        return load_flame(path)
    raise VultusError(f"{path}: is not a head model; {_ACCEPTED}")


def _from_folder(folder: Path) -> SkinnedHead:
    from vultus.heads.bfm import load_bfm
    from vultus.heads.flame import load_flame
    from vultus.heads.gnm import load_gnm
    from vultus.heads.ict import load_ict

    if any((place / "generic_neutral_mesh.obj").is_file() for place in (folder, folder / "FaceXModel")):
        return load_ict(folder)
    if (folder / "gnm_head.npz").is_file():
        return load_gnm(folder)
    if (folder / "BFM09_model_info.mat").is_file():
        return load_bfm(folder)
    return load_flame(folder)


def _from_archive(path: Path) -> SkinnedHead:
    from vultus.heads.gnm import load_gnm
    from vultus.heads.ict import load_ict
    from vultus.heads.native import read_head

    names = npz_names(path)
    if {"quads", "expression_q", "identity_q"} <= names:
        return load_ict(path)
    if {"vertex_identity_basis", "template_vertex_positions"} <= names:
        return load_gnm(path)
    return read_head(path)
