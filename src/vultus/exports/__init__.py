"""Files for people and other programs: videos, previews, contact sheets, frames, splats."""

from vultus.exports.preview import write_preview
from vultus.exports.provenance import provenance
from vultus.exports.sheet import write_contact_sheet
from vultus.exports.splats import export_splats
from vultus.exports.video import VideoStyle, animate, write_frames

__all__ = [
    "VideoStyle",
    "animate",
    "export_splats",
    "provenance",
    "write_contact_sheet",
    "write_frames",
    "write_preview",
]
