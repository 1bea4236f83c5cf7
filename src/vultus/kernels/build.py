"""Compile the kernel library: `python -m vultus.kernels.build` puts it beside this file.

Uses only the standard library, because the package build runs it in an environment without any other package. The
compiler is $CXX, else (not on Windows) c++, g++ or clang++ on the path, else the `ziglang` wheel.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / "source"
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY = FOLDER / f"_vultus{_SUFFIX}"
WHY_NOT = FOLDER / "build_failed.txt"

_FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-fno-math-errno"]
_FLAGS += ["-ffp-contract=off", "-Wall", "-Wno-psabi"]
# Feature lists rather than -march=x86-64-v3, which older compilers and zig spell differently.
_V2 = ["-msse3", "-mssse3", "-msse4.1", "-msse4.2", "-mpopcnt"]
_V3 = [*_V2, *["-mavx", "-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt", "-mf16c", "-mmovbe"]]
_V4 = [*_V3, *["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512cd"]]
_SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"]


class BuildError(Exception):
    """The library could not be compiled; the message says why."""


def find_compiler() -> list[str] | None:
    """The command of a C++ compiler on this machine, or None."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    if sys.platform != "win32":  # where those that are found make libraries that need the compiler's own
        for name in ("c++", "g++", "clang++"):
            if path := shutil.which(name):
                return [path]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "c++"]
    return None


def _units() -> list[tuple[str, list[str]]]:
    """Source files with the flags of each compilation."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        levels = [("v2", _V2), ("v3", _V3), ("v4", _V4)]
        units = [("splats.cpp", [*flags, f"-DVULTUS_ISA={level}"]) for level, flags in levels]
        baseline = _V2
    else:
        units, baseline = [("splats.cpp", ["-DVULTUS_ISA=generic"])], []
    return [*units, *((name, baseline) for name in ("meshes.cpp", "threads.cpp", "library.cpp"))]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be started: {error}") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BuildError(f"{shlex.join(command[:3])} ... failed:\n" + "\n".join(lines[-20:]))


def build(library: Path = LIBRARY, sanitize: bool = False) -> Path:
    """Compile and link `library`, which is replaced only on success. Raises BuildError."""
    compiler = find_compiler()
    if compiler is None:
        raise BuildError("no C++ compiler was found: $CXX is not set, and there is no c++, g++, clang++ or ziglang")
    zig = "ziglang" in compiler
    flags = list(_FLAGS)
    if sys.platform != "win32":
        flags.append("-fPIC")
    if zig:  # which otherwise tunes for this processor and aborts on undefined behaviour
        flags += ["-mcpu=baseline", "-fno-sanitize=all"]
    if sanitize:
        flags += _SANITIZERS
    if sys.platform == "darwin":
        link = ["-dynamiclib"]
    else:
        link = ["-shared", "-static-libgcc" if not zig else "-nostdlib++"]
        if sys.platform != "win32":
            link += ["-Wl,--as-needed", "-lm"] + ([] if sanitize else ["-Wl,-z,defs", "-s"])
    with tempfile.TemporaryDirectory() as scratch:
        units = _units()
        objects = [str(Path(scratch) / f"{i}.o") for i in range(len(units))]
        commands = [
            [*compiler, *flags, *extra, "-pthread", "-c", str(SOURCE / name), "-o", target]
            for (name, extra), target in zip(units, objects, strict=True)
        ]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(_run, commands))
        built = Path(scratch) / library.name
        _run(
            [
                *compiler,
                *(["-fsanitize=address,undefined"] if sanitize else []),
                *objects,
                "-o",
                str(built),
                "-pthread",
                *link,
            ]
        )
        staged = library.with_name(f".{library.name}.{os.getpid()}")
        shutil.copyfile(built, staged)
        os.replace(staged, library)
    return library


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vultus.kernels.build", description=__doc__)
    parser.add_argument("--sanitize", action="store_true", help="with address and undefined-behaviour checks (tests)")
    parser.add_argument("--output", type=Path, default=LIBRARY, help="where to put the library")
    arguments = parser.parse_args()
    try:
        path = build(arguments.output, arguments.sanitize)
    except BuildError as error:
        sys.exit(f"vultus kernels: {error}")
    print(f"built {path} with {shlex.join(find_compiler() or [])}")


if __name__ == "__main__":
    main()
