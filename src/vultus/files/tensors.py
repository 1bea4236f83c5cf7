"""safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.errors import VultusError
from vultus.files.atomic import atomic_path

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: str | Path, device: str = "cpu") -> dict[str, Tensor]:
    """All tensors of a safetensors file by name. The format holds numbers only and checks its own sizes.

    Raises:
        VultusError: missing, unreadable or malformed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=device)
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise VultusError(f"{path}: is not a valid safetensors file: {error}") from error


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically, detached and on the CPU. Tensors that share memory are stored separately.

    Raises:
        VultusError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    stored = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    with atomic_path(path) as temporary:
        try:
            save_file(stored, temporary)
        except SafetensorError as error:  # how the library reports a full disk
            raise VultusError(f"{path}: cannot be written: {error}") from error
