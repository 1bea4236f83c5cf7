"""`python -m vultus.cli` is the `vultus` command."""

from vultus.cli import main

main()
