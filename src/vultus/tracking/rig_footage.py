"""The pictures of a capture by several cameras as a table of instants and cameras."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from vultus.cameras import Camera
from vultus.captures import Capture, View
from vultus.errors import VultusError
from vultus.tracking.rig import Rig
from vultus.tracking.settings import TrackSettings


@dataclass(frozen=True)
class RigFootage:
    """The pictures of a capture as a table: `views` by (instant, camera) numbers, both counted from 0."""

    capture: Capture
    timesteps: tuple[int, ...]
    cameras: tuple[int, ...]
    views: dict[tuple[int, int], View]

    @staticmethod
    def of(capture: Capture, settings: TrackSettings) -> RigFootage:
        """The timesteps that the settings ask for.

        Raises:
            VultusError: there is only one camera, or no such timestep.
        """
        cameras = capture.camera_indices
        if len(cameras) < 2:
            raise VultusError(
                f"{capture.root}: has the pictures of one camera; several are needed, or the video that they are of"
            )
        last = settings.last if settings.last is not None else max(view.timestep for view in capture.views)
        wanted = sorted({view.timestep for view in capture.views if settings.first <= view.timestep <= last})
        wanted = wanted[: settings.limit]
        if not wanted:
            raise VultusError(f"{capture.root}: has no picture at timesteps {settings.first} to {last}")
        instant = {timestep: index for index, timestep in enumerate(wanted)}
        column = {camera: index for index, camera in enumerate(cameras)}
        views = {
            (instant[view.timestep], column[view.camera]): view for view in capture.views if view.timestep in instant
        }
        return RigFootage(capture, tuple(wanted), cameras, views)

    def camera(self, instant: int, camera: int) -> Camera:
        """The camera of a picture, where there is none that of the nearest instant."""
        if (instant, camera) not in self.views:
            instant = min((row for row, column in self.views if column == camera), key=lambda row: abs(row - instant))
        return self.capture.camera(self.views[instant, camera])

    def rig(self) -> Rig:
        counts = range(len(self.timesteps)), range(len(self.cameras))
        return Rig.of([[self.camera(instant, camera) for camera in counts[1]] for instant in counts[0]])

    def fingerprint(self) -> str:
        """Hash of what the pictures are called, how large their files are, and of the cameras."""
        about = []
        for (instant, camera), view in sorted(self.views.items()):
            numbers = self.camera(instant, camera)
            path = view.picture.path
            size = path.stat().st_size if path.is_file() else 0
            about.append([instant, camera, path.name, size, numbers.K.tolist(), numbers.world_to_camera.tolist()])
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()
