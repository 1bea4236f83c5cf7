"""Finding faces and people in images: MediaPipe, or landmarks and masks from files, behind one interface."""

from vultus.tracking.detectors.faces import POINT_COUNTS, Detector, Face, mp478_to_ibug70
from vultus.tracking.detectors.mediapipe_detector import MediaPipeDetector, MediaPipeWorker, mediapipe_detector
from vultus.tracking.detectors.stored import StoredDetector

__all__ = [
    "POINT_COUNTS",
    "Detector",
    "Face",
    "MediaPipeDetector",
    "MediaPipeWorker",
    "StoredDetector",
    "mediapipe_detector",
    "mp478_to_ibug70",
]
