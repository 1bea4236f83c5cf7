"""Captures: pictures of a person with masks, cameras and head parameters; one class, several layouts on disk."""

from vultus.captures.below_line import below_line_mask
from vultus.captures.capture import Capture, Source, View
from vultus.captures.motions import head_of_motion, read_motion, write_motion
from vultus.captures.reading import open_capture
from vultus.captures.writing import CaptureWriter

__all__ = [
    "Capture",
    "CaptureWriter",
    "Source",
    "View",
    "below_line_mask",
    "head_of_motion",
    "open_capture",
    "read_motion",
    "write_motion",
]
