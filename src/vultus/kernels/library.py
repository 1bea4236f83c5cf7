"""Finding and loading the compiled library."""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from vultus.errors import VultusError

ABI = 3
"""Version of the C interface; a library built from other sources is refused instead of being called wrongly."""


@dataclass(frozen=True)
class Status:
    """Whether the compiled library can be used, in words, and the instruction set it picked."""

    available: bool
    message: str
    instruction_set: str | None = None


def status() -> Status:
    """What `doctor` prints about the compiled library. Never raises."""
    try:
        library = load()
    except VultusError as error:
        return Status(False, str(error))
    name = library.vultus_instruction_set().decode()
    return Status(True, f"compiled kernels loaded from {library._name} ({name})", name)


@functools.cache
def load() -> ctypes.CDLL:
    """The compiled library, or the one that VULTUS_KERNELS names (to test another build).

    Raises VultusError saying why there is none and how to get it.
    """
    # The build is a program of its own (python -m), which must not have been imported when it starts.
    from vultus.kernels.build import LIBRARY, WHY_NOT

    remedy = "Build it with `python -m vultus.kernels.build` (needs a C++ compiler or `pip install ziglang`)"
    path = Path(os.environ.get("VULTUS_KERNELS") or LIBRARY)
    if not path.exists():
        reason = f" because: {WHY_NOT.read_text(encoding='utf-8').strip()}" if WHY_NOT.exists() else ""
        raise VultusError(f"the compiled kernels are missing ({path}){reason}. {remedy}")
    try:
        library = ctypes.CDLL(str(path))
        found = library.vultus_abi()
    except (OSError, AttributeError) as error:
        raise VultusError(f"the compiled kernels {path} cannot be loaded: {error}. {remedy}") from None
    if found != ABI:
        raise VultusError(f"the compiled kernels {path} have interface {found}, this Vultus needs {ABI}. {remedy}")
    library.vultus_instruction_set.restype = ctypes.c_char_p
    library.vultus_multiply_add_rate.restype = ctypes.c_double
    library.vultus_memory_take.argtypes, library.vultus_memory_take.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.vultus_memory_give.argtypes = [ctypes.c_void_p]
    return library
