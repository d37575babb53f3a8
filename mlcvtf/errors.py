"""The one exception that a user can cause."""


class InputError(Exception):
    """Says that something the user gave cannot be used.

    The message states the rule, then what was received, in one line. Commands print
    it and exit with `exit_code`; a traceback always means a defect of ours.

    Args:
        message: one line without the program's name.
        exit_code: 1 for bad input, 3 for a live source that is gone, 4 for a video
            that ended early.
    """

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
