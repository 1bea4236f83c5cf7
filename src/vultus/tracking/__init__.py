"""Raw footage to captures: detecting faces, fitting the head model, cutting out the person."""

from vultus.tracking.landmark_fit import Fit, SharedFit, fit_landmarks
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.shared_file import read_shared
from vultus.tracking.track import TrackSettings, track

__all__ = ["Fit", "FitSettings", "Observations", "SharedFit", "TrackSettings", "fit_landmarks", "read_shared", "track"]
