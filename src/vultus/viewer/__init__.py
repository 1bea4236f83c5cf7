"""The live viewer in the browser: an avatar to turn, pose and play, and a training run to watch."""

from vultus.viewer.session import AvatarViewer, view
from vultus.viewer.training import TrainingMonitor, watch_training

__all__ = ["AvatarViewer", "TrainingMonitor", "view", "watch_training"]
