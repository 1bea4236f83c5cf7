"""What this machine can do with Vultus, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vultus.errors import VultusError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says how to get it where `works` is false, `optional` that it may be."""

    name: str
    works: bool
    detail: str
    remedy: str = ""
    optional: bool = False

    def line(self) -> str:
        mark = "ok" if self.works else "optional" if self.optional else "missing"
        text = f"{mark:<8}  {self.name:<18} {self.detail}"
        return text if self.works or not self.remedy else f"{text}\n{'':10}{'':<18} → {self.remedy}"


def examine() -> Iterator[Finding]:
    """Look at every part; no part's failure hides another's."""
    for name, look in _LOOKS.items():
        try:
            yield look()
        except Exception as error:  # a broken installation may fail in any way; say so and look on
            yield Finding(name, False, f"{type(error).__name__}: {error}", "reinstall vultus in a fresh environment")


def _python() -> Finding:
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB memory"
    detail = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}{memory}"
    return Finding("python", sys.version_info >= (3, 11), detail, "install Python 3.11 or 3.12")


def _torch() -> Finding:
    import torch

    return Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")


def _kernel() -> Finding:
    from vultus import kernels

    status = kernels.status()
    return Finding(
        "cpu rasteriser",
        status.available,
        status.message,
        "rendering falls back to the PyTorch reference, 100 times slower; install a C++ compiler and reinstall vultus",
    )


def _tracking() -> Finding:
    from vultus.tracking.detectors import mediapipe_detector

    try:
        detector = mediapipe_detector()
    except VultusError as error:
        return Finding("tracking", False, "no landmark detector", str(error))
    detector.close()
    return Finding("tracking", True, f"photos and videos can be tracked ({detector.name})")


def _video() -> Finding:
    import av
    import av.codec

    av.codec.Codec("libx264", "w")
    return Finding("video", True, f"PyAV {importlib.metadata.version('av')}, writes H.264")


def _viewer() -> Finding:
    found = importlib.util.find_spec("viser") is not None
    return Finding(
        "viewer", found, f"viser {importlib.metadata.version('viser')}" if found else "", "pip install viser"
    )


def _head() -> Finding:
    from vultus.heads.load import load_head

    head = load_head("builtin")
    return Finding("built-in head", True, f"{len(head.template)} vertices, {len(head.expression_names)} expressions")


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("cuda", False, "no GPU in use; everything runs on the CPU", optional=True)
    found = importlib.util.find_spec("gsplat") is not None
    return Finding("cuda", found, torch.cuda.get_device_name(), 'pip install "vultus[cuda]"', optional=True)


_LOOKS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "torch": _torch,
    "cpu rasteriser": _kernel,
    "built-in head": _head,
    "tracking": _tracking,
    "video": _video,
    "viewer": _viewer,
    "cuda": _cuda,
}
