"""One-shot avatars: a network turns one picture into splats that a head model drives (GAGAvatar, NeurIPS 2024)."""

from vultus.avatars.oneshot.avatar import OneShotAvatar
from vultus.avatars.oneshot.captured import CaptureFrames, Subset, captures_in, held_out_clips, open_captures
from vultus.avatars.oneshot.compute import Compute
from vultus.avatars.oneshot.frames import Frame, FrameLike, Frames, MemoryFrames, NamedFrames, held_out_pairs
from vultus.avatars.oneshot.framing import frame_head
from vultus.avatars.oneshot.head_space import require_skinned
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.options import CLEAN, RELEASED, Architecture, Parts, Quirks
from vultus.avatars.oneshot.photo import avatar_of_photo
from vultus.avatars.oneshot.picture_driver import PictureDriver, picture_motion
from vultus.avatars.oneshot.settings import LossWeights, OneShotSettings, preset
from vultus.avatars.oneshot.task import measure
from vultus.avatars.oneshot.train import train
from vultus.avatars.oneshot.weights import About, load_dinov2, load_model, save_model

__all__ = [
    "CLEAN",
    "RELEASED",
    "About",
    "Architecture",
    "CaptureFrames",
    "Compute",
    "Frame",
    "FrameLike",
    "Frames",
    "LossWeights",
    "MemoryFrames",
    "NamedFrames",
    "OneShotAvatar",
    "OneShotModel",
    "OneShotSettings",
    "Parts",
    "PictureDriver",
    "Quirks",
    "Subset",
    "avatar_of_photo",
    "captures_in",
    "frame_head",
    "held_out_clips",
    "held_out_pairs",
    "load_dinov2",
    "load_model",
    "measure",
    "open_captures",
    "picture_motion",
    "preset",
    "require_skinned",
    "save_model",
    "train",
]
