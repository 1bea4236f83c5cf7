"""JSON files: bounded, without NaN, written atomically and always with the same bytes for the same content; tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vultus.errors import VultusError
from vultus.files.atomic import write_bytes


def read_json(path: str | Path, *, max_bytes: int = 256 << 20) -> Any:
    """The content of a JSON file.

    Raises:
        VultusError: missing, unreadable, larger than `max_bytes`, not UTF-8, not JSON, too deep, or with NaN/Infinity.
    """
    try:
        size = Path(path).stat().st_size
        if size > max_bytes:
            raise VultusError(f"{path}: {size} bytes is too much for a JSON file (limit {max_bytes})")
        return json.loads(Path(path).read_bytes().decode("utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise VultusError(f"{path}: is not valid JSON: {error}") from error


def write_json(path: str | Path, value: object) -> None:
    """Write JSON atomically, indented, keys in the order given. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def write_table(path: str | Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table as CSV, atomically. Raises VultusError: it cannot be written."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_bytes(path, text.getvalue().encode("utf-8"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
