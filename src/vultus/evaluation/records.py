"""The list of what was measured, one line per picture, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vultus.errors import VultusError


class RecordFile:
    """Lines of JSON under a first line that says what they are of.

    Args:
        path: the file; its folder is created.
        about: what decides the records. A file that says something else is refused.
        overwrite: replace such a file instead.

    Raises:
        VultusError: the file is of something else, or cannot be read or written.
    """

    def __init__(self, path: Path, about: dict[str, Any], *, overwrite: bool = False) -> None:
        self.path = path
        self._about = json.loads(json.dumps(about))
        try:
            lines = path.read_bytes().decode("utf-8", errors="replace").splitlines() if path.is_file() else []
            whole = [entry for line in lines if (entry := _parsed(line)) is not None]
            if whole and whole[0] != self._about and not overwrite:
                raise VultusError(
                    f"{path}: holds an evaluation of something else or with other settings. Choose another output "
                    "folder, or start afresh with --overwrite"
                )
            self.records = whole[1:] if whole and whole[0] == self._about else []
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written anew: a torn last line would swallow the next one.
            self._file = path.open("w", encoding="utf-8")
            for entry in (self._about, *self.records):
                self._write(entry)
        except OSError as error:
            raise VultusError(f"{path}: cannot be written: {error.strerror or error}") from error

    def add(self, record: dict[str, Any]) -> None:
        """Append a record and make it durable. Raises VultusError: the disk is full."""
        self.records.append(record)
        try:
            self._write(record)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise VultusError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
