"""Animatable 3D head avatars from a photo, a video or a multi-camera capture."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vultus.cameras import Camera as Camera
    from vultus.errors import VultusError as VultusError
    from vultus.motion import HeadParams as HeadParams
    from vultus.motion import Motion as Motion

__version__ = "0.1.0"

# Names resolve on first use, so that `import vultus` and `vultus --help` start without loading torch.
_HOMES = {
    "Camera": "vultus.cameras",
    "HeadParams": "vultus.motion",
    "Motion": "vultus.motion",
    "VultusError": "vultus.errors",
}
__all__ = ["Camera", "HeadParams", "Motion", "VultusError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vultus' has no attribute {name!r}")
