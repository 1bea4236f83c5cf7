"""A capture from one layout on disk to another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.errors import VultusError
from vultus.files import atomic_folder
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    from vultus.captures import Capture
    from vultus.heads import HeadModel


def convert(
    source: Path,
    output: Path,
    layout: str,
    *,
    head: HeadModel | None = None,
    cameras: Collection[int] | None = None,
    timesteps: Collection[int] | None = None,
    size: int = 2048,
    progress: Progress = silent,
) -> int:
    """Write the capture `source`, of any layout that can be read, as `output` in another one; returns its pictures.

    Everything is written beside `output` and takes its name at the end: there is never half a capture.

    Args:
        layout: one of `vultus.captures.LAYOUTS` that has a writer, or `gagavatar` (see `write_one_shot_data`).
        head: the model of the capture's head parameters; needed for all but the built-in one.
        cameras: which cameras to take, by number; timesteps: which instants. None: all.
        size: side of the pictures of layouts that want squares.

    Raises:
        VultusError: no such layout, an unusable capture, one that lacks what the layout holds, or an `output` that
            has files in it or lies in `source`.
    """
    from vultus.captures import LAYOUTS, WriteOptions, open_capture

    if layout == "gagavatar":
        from vultus.avatars.oneshot import require_skinned
        from vultus.workflows.one_shot_data import write_one_shot_data

        if timesteps is not None or cameras is not None:
            raise VultusError("--cameras and --timesteps have no meaning for the layout gagavatar; leave them out")
        skinned = None if head is None else require_skinned(head)
        return write_one_shot_data(source, output, head=skinned, progress=progress)
    target = LAYOUTS.get(layout)
    if target is None or target.write is None:
        known = ", ".join(name for name, each in LAYOUTS.items() if each.write is not None or name == "gagavatar")
        what = "can only be read" if target is not None else "is not known"
        raise VultusError(f"the layout {layout!r} {what}; choose {known}")
    _refuse_within(source, output)
    _refuse_files(output)
    capture = open_capture(source, head, needs_motion=False)
    if timesteps is not None or cameras is not None:
        capture = _part(capture, cameras, timesteps)
    with atomic_folder(output, may_replace=_refuse_files) as folder:
        target.write(capture, folder, WriteOptions(head, size), progress)
    return len(capture.views)


def _part(capture: Capture, cameras: Collection[int] | None, timesteps: Collection[int] | None) -> Capture:
    """The capture with the pictures of these cameras and instants only (None: all).

    Where nothing is left to train on, what was held out for validation, else for testing too, is no longer: one camera
    that was held out among many is not held out alone.
    """
    wanted = {"camera": cameras, "timestep": timesteps}
    views = capture.views
    for kind, numbers in wanted.items():
        if numbers is not None:
            views = tuple(view for view in views if getattr(view, kind) in set(numbers))
            if missing := set(numbers) - {getattr(view, kind) for view in views}:
                raise VultusError(f"{capture.root}: has no picture of {kind} {min(missing)}")
    chosen = frozenset(views)
    val, test = capture.val & chosen, capture.test & chosen
    if chosen <= val | test:
        val = frozenset()
    if chosen <= test:
        test = frozenset()
    return replace(capture, views=views, val=val, test=test)


def _refuse_within(source: Path, output: Path) -> None:
    inside, outside = output.resolve(), source.resolve()
    if outside == inside or outside in inside.parents or inside in outside.parents:
        raise VultusError(f"{output}: lies in {source} or around it; choose a folder elsewhere")


def _refuse_files(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise VultusError(f"{folder}: has files in it; choose a new or an empty folder")
