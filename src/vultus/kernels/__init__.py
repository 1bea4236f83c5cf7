"""The compiled CPU library: splat and mesh rasterisation in C, called through ctypes."""

from vultus.kernels.library import Status, load, status

__all__ = ["Status", "load", "status"]
