"""Starting the web server of the viewer."""

from __future__ import annotations

import contextlib
import errno
import io
import socket
from typing import TYPE_CHECKING

from vultus.errors import VultusError

if TYPE_CHECKING:
    import viser


def open_server(host: str, port: int, label: str) -> viser.ViserServer:
    """Listen on `host` and `port` (0: any free one).

    Raises:
        VultusError: viser is not installed, the port is taken, or the address cannot be listened on.
    """
    try:
        import viser
    except ImportError as error:
        raise VultusError("the viewer needs viser: pip install viser") from error
    free = _free_port(host, port)
    # The library greets on the terminal; the caller says where the viewer is in its own words.
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=host, port=free, label=label, verbose=False)
    server.gui.configure_theme(control_layout="fixed", control_width="medium", show_logo=False, show_share_button=False)
    return server


def close_server(server: viser.ViserServer) -> None:
    """Disconnect all browsers and stop listening."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def _free_port(host: str, port: int) -> int:
    if not 0 <= port <= 65535:
        raise VultusError(f"port is {port}; ports are numbers from 1 to 65535")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise VultusError(
                f"port {port} of {host} is taken by another program, perhaps another viewer. End that program or "
                "choose another port; 0 takes any free one"
            ) from error
        raise VultusError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Choose another address or port"
        ) from error
    except (TypeError, UnicodeError) as error:
        raise VultusError(f"{host!r} is not an address to listen on") from error
