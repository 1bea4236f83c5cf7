"""`python -m vultus` is the `vultus` command."""

from vultus.cli import main

main()
