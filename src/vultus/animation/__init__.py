"""What makes an avatar move: drivers, built-in motions, retargeting, camera paths, and the loop that plays them."""

from vultus.animation.conversion import convert_motion
from vultus.animation.drivers import BUILTIN_DRIVERS, Driver, load_driver
from vultus.animation.paths import orbit, still, swing
from vultus.animation.play import play
from vultus.animation.retargeting import Retargeting, Sight, mirror, retarget_motion, smooth

__all__ = [
    "BUILTIN_DRIVERS",
    "Driver",
    "Retargeting",
    "Sight",
    "convert_motion",
    "load_driver",
    "mirror",
    "orbit",
    "play",
    "retarget_motion",
    "smooth",
    "still",
    "swing",
]
