"""`view`: an avatar in the browser, with sliders, motions and pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vultus.animation import BUILTIN_DRIVERS, Driver, Sight, load_driver, retarget_motion
from vultus.animation.drivers import PREFIX
from vultus.animation.play import default_background
from vultus.avatars import Avatar, load
from vultus.errors import VultusError
from vultus.exports.provenance import provenance
from vultus.images import encode_png
from vultus.motion import HeadParams, Motion
from vultus.viewer.controls import ControlPanel, posed
from vultus.viewer.server import close_server, open_server
from vultus.viewer.stage import Stage, modes_of

if TYPE_CHECKING:
    import viser

_NO_MOTION, _OWN_MOTION = "none", "from its capture"
_RATE = 25.0


def view(
    avatar: Avatar | str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    motions: Mapping[str, Motion] | None = None,
) -> None:
    """Show an avatar in the browser until Ctrl-C.

    Args:
        avatar: the avatar or its folder.
        host: address to listen on; the default can be reached from this machine only.
        port: port to listen on; 0 takes any free one.
        motions: further motions of the avatar's head model, by the name to show.

    Raises:
        VultusError: no avatar there, the port is taken, or the address cannot be listened on.
    """
    viewer = AvatarViewer(avatar, host=host, port=port, motions=motions)
    print(f"viewer         {viewer.url}   (Ctrl-C ends it)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        viewer.close()


class AvatarViewer:
    """A running viewer. One thread draws everything; what arrives from browsers only changes what it will draw."""

    def __init__(
        self,
        avatar: Avatar | str | Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        motions: Mapping[str, Motion] | None = None,
    ) -> None:
        self.avatar = load(avatar) if isinstance(avatar, str | Path) else avatar
        self.server = open_server(host, port, "Vultus")
        self.stage = Stage(self.server, self.avatar)
        self.frames_drawn = 0
        self._motions = dict(motions or {})
        self._motion: Motion | None = None
        self._position = 0.0
        self._last_shown = -1
        self._dirty, self._stop = threading.Event(), threading.Event()
        self._build()
        self.server.on_client_connect(self._connected)
        self._thread = threading.Thread(target=self._run, name="vultus-viewer", daemon=True)
        self._thread.start()
        self._dirty.set()

    @property
    def url(self) -> str:
        """Where to point the browser."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """Disconnect the browsers and stop."""
        self._stop.set()
        self._dirty.set()
        self._thread.join(timeout=10)
        close_server(self.server)

    # --- the panel --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        gui = self.server.gui
        tabs = gui.add_tab_group()
        with tabs.add_tab("Pose"):
            self.panel = ControlPanel(self.server, self.avatar.head, self._dirty.set)
        with tabs.add_tab("Motion"):
            self._build_motion()
        with tabs.add_tab("Picture"):
            self._build_picture()

    def _build_motion(self) -> None:
        gui = self.server.gui
        names = [_NO_MOTION, *(PREFIX + name for name in BUILTIN_DRIVERS)]
        if isinstance(getattr(self.avatar, "motion", None), Motion):
            names.append(_OWN_MOTION)
        self.motion_choice: Any = gui.add_dropdown("Motion", [*names, *self._motions])
        self.playing: Any = gui.add_checkbox("Play", False)
        self.timeline: Any = gui.add_slider("Frame", 0, 1, 1, 0, disabled=True)
        self.speed: Any = gui.add_slider("Speed", 0.1, 2.0, 0.1, 1.0)
        self.file: Any = gui.add_text(
            "File", "", hint="a motion.npz or an ARKit CSV on the computer that runs the viewer"
        )
        self.load_button: Any = gui.add_button("Load file")
        self.message: Any = gui.add_markdown("")
        self.motion_choice.on_update(lambda event: self.choose_motion(str(self.motion_choice.value)))
        self.timeline.on_update(lambda event: self._sought())
        self.playing.on_update(lambda event: self._dirty.set())
        self.load_button.on_click(lambda event: self.load_motion(str(self.file.value)))

    def _build_picture(self) -> None:
        gui = self.server.gui
        red, green, blue = (round(255 * float(value)) for value in default_background(self.avatar))
        self.mode: Any = gui.add_dropdown("Show", modes_of(self.avatar))
        self.background: Any = gui.add_rgb("Background", (red, green, blue))
        self.height: Any = gui.add_slider("Picture height", 128, 1536, 64, 512)
        self.render_button: Any = gui.add_button("Render this view")
        self.home_button: Any = gui.add_button("Reset camera")
        self.rendered: Any = None
        self._picture_tab = gui.add_folder("Rendered", visible=False)
        for handle in (self.mode, self.background):
            handle.on_update(lambda event: self._dirty.set())
        self.render_button.on_click(self._render)
        self.home_button.on_click(lambda event: event.client is None or self.stage.go_home(event.client))

    # --- what browsers ask for --------------------------------------------------------------------------------------

    def choose_motion(self, name: str) -> None:
        """Play one of the motions on the list; "none" goes back to rest."""
        if name == _NO_MOTION:
            self._set_motion(None)
        elif name == _OWN_MOTION:
            self._set_motion(getattr(self.avatar, "motion", None))
        elif name in self._motions:
            self._set_motion(self._motions[name])
        else:
            driver = load_driver(name, self.avatar.head)
            self._set_motion(self._retargeted(driver))

    def _retargeted(self, driver: Driver) -> Motion:
        avatar = self.avatar
        return retarget_motion(
            driver.motion, avatar.head, avatar.rest, source_sight=driver.sight, target_sight=Sight.of(avatar.view)
        )

    def load_motion(self, path: str) -> None:
        """Add a motion or a track to the list and play it; what is wrong with it is shown in the panel."""
        try:
            if Path(path).suffix.lower() not in (".npz", ".csv", ".tsv", ".json", ".npy"):
                raise VultusError("the viewer loads .npz, .csv, .json and .npy; track videos with `vultus animate`")
            driver = load_driver(path, self.avatar.head)
            motion = self._retargeted(driver)
        except VultusError as error:
            self.message.content = f"**Not loaded:** {error}"
            return
        self._motions[driver.name] = motion
        self.message.content = f"Loaded {driver.name}: {len(motion)} frames."
        self.motion_choice.options = tuple(dict.fromkeys([*self.motion_choice.options, driver.name]))
        self.motion_choice.value = driver.name

    def params(self) -> HeadParams:
        """What is shown: the motion's instant, or the avatar at rest, with the sliders' values on top."""
        motion = self._motion
        base = self.avatar.rest
        if motion is not None:
            base = motion.params[min(int(self.timeline.value), len(motion) - 1)]
        return posed(base, self.panel.values())

    def _set_motion(self, motion: Motion | None) -> None:
        self._motion = motion
        self.timeline.max = max(1, len(motion) - 1) if motion is not None else 1
        self.timeline.disabled = motion is None
        self.timeline.value = 0
        self._position = 0.0
        self.playing.value = motion is not None
        self._dirty.set()

    def _sought(self) -> None:
        if self._motion is not None and int(self.timeline.value) != self._last_shown:
            index = min(int(self.timeline.value), len(self._motion) - 1)
            self._position = float(self._motion.times[index] - self._motion.times[0])
            self._dirty.set()

    def _connected(self, client: viser.ClientHandle) -> None:
        @client.camera.on_update
        def _(camera: Any) -> None:
            if self.mode.value == "frames":
                self._dirty.set()

        self._dirty.set()

    def _render(self, event: Any) -> None:
        if event.client is None:
            return
        picture = self.stage.picture(event.client, self.params(), int(self.height.value), self._background())
        if self.rendered is None:
            with self._picture_tab:
                self.rendered = self.server.gui.add_image(picture)
            self._picture_tab.visible = True
        else:
            self.rendered.image = picture
        event.client.send_file_download("view.png", encode_png(picture, metadata=provenance(self.avatar)))

    def _background(self) -> tuple[int, int, int]:
        red, green, blue = (int(value) for value in self.background.value)
        return red, green, blue

    # --- the drawing thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        previous = time.monotonic()
        while not self._stop.is_set():
            running = bool(self.playing.value) and self._motion is not None
            if not running:
                self._dirty.wait(timeout=0.5)
            now = time.monotonic()
            if running:
                self._advance(min(now - previous, 0.5))
            elif not self._dirty.is_set():
                previous = now
                continue
            previous = now
            self._dirty.clear()
            if self._stop.is_set():
                return
            self._draw()
            # Never faster than the browser is meant to show it.
            time.sleep(max(0.0, 1 / _RATE - (time.monotonic() - now)))

    def _advance(self, seconds: float) -> None:
        motion = self._motion
        if motion is None:
            return
        length = float(motion.times[-1] - motion.times[0]) + 1 / motion.fps
        self._position = (self._position + seconds * float(self.speed.value)) % length
        index = int((motion.times - motion.times[0] <= self._position + 1e-6).sum()) - 1
        self._last_shown = max(index, 0)
        self.timeline.value = self._last_shown

    def _draw(self) -> None:
        try:
            self.stage.draw(self.params(), self.mode.value, self._background())
            self.frames_drawn += 1
        except VultusError as error:
            self.message.content = f"**Cannot be shown:** {error}"
