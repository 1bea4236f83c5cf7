"""Captures: pictures of a person with masks, cameras and head parameters; one class, several layouts on disk."""

from vultus.captures.below_line import below_line_mask
from vultus.captures.capture import Capture, Source, View
from vultus.captures.contents import Contents, Shot
from vultus.captures.layouts import LAYOUTS, Layout, layout_of
from vultus.captures.motions import head_of_motion, read_motion, write_motion
from vultus.captures.reading import open_capture, read_contents
from vultus.captures.saving import WriteOptions
from vultus.captures.writing import CaptureWriter

__all__ = [
    "LAYOUTS",
    "Capture",
    "CaptureWriter",
    "Contents",
    "Layout",
    "Shot",
    "Source",
    "View",
    "WriteOptions",
    "below_line_mask",
    "head_of_motion",
    "layout_of",
    "open_capture",
    "read_contents",
    "read_motion",
    "write_motion",
]
