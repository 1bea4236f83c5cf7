"""The `vultus` command: arguments in, one call into a workflow or a room, no logic. One file per command."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from vultus.errors import VultusError

COMMANDS = {
    "create": "create",
    "demo": "demo",
    "track": "track",
    "synth": "synth",
    "train": "train",
    "evaluate": "evaluate",
    "animate": "animate",
    "export": "export",
    "view": "view",
    "inspect": "inspect",
    "convert": "convert",
    "assets": "assets",
    "doctor": "doctor",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 0: done, 2: the input is at fault (one line says how), 130: interrupted."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    import tyro

    from vultus import __version__

    if list(arguments) in (["--version"], ["-V"]):
        print(f"vultus {__version__}")
        return 0
    try:
        with _remarks_as_lines():
            tyro.extras.subcommand_cli_from_dict(
                {name: _command(module) for name, module in COMMANDS.items()},
                prog="vultus",
                description="Animatable 3D head avatars from a photo, a video or a multi-camera capture.",
                args=list(arguments) or ["--help"],
                sort_subcommands=False,
            )
    except VultusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    return 0


@contextmanager
def _remarks_as_lines() -> Iterator[None]:
    """What this package warns of is said on a line of its own, without the line of code that noticed it."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
            if Path(filename).is_relative_to(Path(__file__).parent.parent):
                print(f"note: {message}", file=sys.stderr)
            else:
                shown(message, category, filename, *rest)

        warnings.showwarning = show
        yield


def _command(module: str) -> Callable[..., Any]:
    """The function of a command. Its module imports nothing heavy until it is called."""
    return import_module(f"vultus.cli.{module}").COMMAND
