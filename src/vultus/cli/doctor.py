"""vultus doctor"""

from __future__ import annotations


def doctor() -> None:
    """Say what this machine can do with Vultus, and how to get what is missing."""
    from vultus.workflows.doctor import examine

    for finding in examine():
        print(finding.line())


COMMAND = doctor
