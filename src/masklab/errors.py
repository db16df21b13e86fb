"""The one error that a user's input can cause: its message is the whole of what they see."""


class BadInput(Exception):
    """Something the user gave cannot be used. The message names the file, the place in it and the cure, in one line.

    The command line prints it without a traceback and ends with exit code 2.
    """
