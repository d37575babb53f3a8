"""What every command shares: flags, `--help`, one-line errors, exit codes.

Only the standard library and `absl.flags` are imported here, so that `--help` and a
flag error answer at once; a command imports numpy, cv2 and the rest inside `main`.
"""

import os
import sys
from collections.abc import Callable

from absl import flags

from mlcvtf.errors import InputError

FLAG_ERROR = 2
INTERRUPTED = 130


def run(
    main: Callable[[list[str]], int | None],
    flag_values: flags.FlagValues,
    usage: str,
    argv: list[str] | None = None,
) -> int:
    """Parses the flags, calls `main` and turns what users cause into one line.

    Args:
        main: receives the positional arguments; returns an exit code or None for 0.
        flag_values: the command's own flags (never absl's global ones, so that two
            commands may use one name).
        usage: what `--help` prints before the flags; its first line is the synopsis.
        argv: program name and arguments; `sys.argv` by default.

    Returns:
        The exit code: 0, 1 for bad input, 2 for a flag error, 130 for Ctrl-C, or
        what the error carries.
    """
    argv = sys.argv if argv is None else argv
    name = os.path.basename(argv[0])
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is no reason to stop.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        if any(argument in ("--help", "-h", "-help") for argument in argv[1:]):
            print(f"{usage.strip()}\n\nFlags:{_describe(flag_values)}")
            return 0
        positional = flag_values(argv)[1:]
        return main(positional) or 0
    except flags.Error as error:
        message = " ".join(str(error).split())
        print(f"{name}: {message} (see {name} --help)", file=sys.stderr)
        return FLAG_ERROR
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, a pager) is gone: not an error, but
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _describe(flag_values: flags.FlagValues) -> str:
    """Lists the flags with their defaults, one or two lines each."""
    lines = []
    for flag_name in sorted(flag_values):
        flag = flag_values[flag_name]
        if flag.name != flag_name:
            continue
        default = "" if flag.default in (None, "", []) else f" [{flag.default}]"
        lines.append(f"\n  --{flag_name}{default}\n      {flag.help}")
    return "".join(lines)
