"""The one exception that a mistake in the input raises."""


class VultusError(Exception):
    """Something the user gave us cannot be used.

    The message names the file or value, says what is wrong with it and what to do about it. The command line prints
    it on one line and exits with status 2; a traceback is reserved for our own bugs.
    """
