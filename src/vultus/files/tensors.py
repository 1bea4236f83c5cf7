"""safetensors files."""

from __future__ import annotations

import hashlib
import zipfile
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


def read_tensor_notes(path: str | Path) -> dict[str, str]:
    """The texts beside the tensors of a safetensors file.

    Raises:
        VultusError: missing, unreadable or malformed.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise VultusError(f"{path}: is not a valid safetensors file: {error}") from error


def tensor_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors, none of which is read. Raises VultusError like `read_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise VultusError(f"{path}: is not a valid safetensors file: {error}") from error


def read_checkpoint_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint by name, without their module prefix; nothing but tensors is built.

    Raises:
        VultusError: not a checkpoint of tensors.
    """
    import torch

    try:
        is_archive = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True if is_archive else None)
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what a hostile or foreign file makes the loader raise is not documented
        raise VultusError(f"{path}: is not a checkpoint of tensors: {str(error)[:120]}") from error
    for wrapper in ("model", "state_dict", "params", "E_flame"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise VultusError(f"{path}: holds no tensors by name")
    return {
        str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, torch.Tensor)
    }


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A network's tensors by name, from a PyTorch checkpoint or a safetensors file. Raises VultusError."""
    is_plain = Path(path).suffix.lower() == ".safetensors"
    return read_tensors(path) if is_plain else read_checkpoint_tensors(path)


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and values (little-endian, C order), in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically, detached and on the CPU. Tensors that share memory are stored separately.

    Args:
        notes: texts to keep beside the tensors (`read_tensor_notes`).

    Raises:
        VultusError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    stored = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    with atomic_path(path) as temporary:
        try:
            save_file(stored, temporary, None if notes is None else dict(notes))
        except SafetensorError as error:  # how the library reports a full disk
            raise VultusError(f"{path}: cannot be written: {error}") from error
