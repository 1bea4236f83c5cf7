"""Opening captures, whatever their layout."""

from __future__ import annotations

from pathlib import Path

from vultus.captures.capture import Capture
from vultus.captures.contents import Contents, assembled
from vultus.captures.layouts import LAYOUTS, layout_of
from vultus.errors import VultusError
from vultus.heads import HeadModel


def open_capture(folder: str | Path, head: HeadModel | None = None, *, needs_motion: bool = True) -> Capture:
    """Open a capture folder, one of ours or a foreign one; pictures are read later, when they are asked for.

    With `head`, the parameters are checked against it and placed by name. `needs_motion=False` also opens folders
    that hold pictures and cameras without head parameters (see `Capture.has_motion`).

    Raises:
        VultusError: no such folder, not (or not completely) a capture, malformed or inconsistent files, missing
            pictures, no head parameters where they are needed, or parameters of another head model.
    """
    return assembled(read_contents(folder, head), needs_motion=needs_motion)


def read_contents(folder: str | Path, head: HeadModel | None = None) -> Contents:
    """What a folder of any known layout holds, not yet checked for duplicates and missing files.

    Raises:
        VultusError: like `open_capture`, but for what only `assembled` checks.
    """
    root = Path(folder)
    try:
        if not root.is_dir():
            raise VultusError(f"{root}: is not a folder")
        layout = layout_of(root)
        if layout is None:
            known = "; ".join(f"{each.title}: {each.marks}" for each in LAYOUTS.values())
            raise VultusError(f"{root}: is not a capture of a layout that is known. {known}")
        return layout.read(root, head)
    except OSError as error:
        raise VultusError(f"{folder}: cannot be read: {error.strerror or error}") from error
