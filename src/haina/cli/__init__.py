"""The command line `haina`: parse, call, print.

Exit codes: 0 done, 2 something the user can mend (one line says what), 3 a fault of ours, 130 stopped by Ctrl-C.
A traceback is shown with `--debug` only.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    from haina.runtime.errors import (
        EXIT_INTERNAL_FAULT,
        EXIT_INTERRUPTED,
        EXIT_USER_ERROR,
        HainaError,
        from_os_error,
    )

    words = list(sys.argv[1:] if arguments is None else arguments)
    # --debug may stand anywhere: it is reached for after a command has failed.
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    signal.signal(signal.SIGTERM, _interrupt)
    # Threads that wait at a barrier sleep instead of spinning: on two cores that another process also uses, spinning
    # makes training 2 to 10 times slower (docs/decisions/0005-waiting-threads.md). Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from typer import TyperException

        from haina.cli.app import app

        code = app(args=words, prog_name="haina", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "haina"
        _fail(f"{error.format_message().rstrip('.')}; see `{command} --help`", EXIT_USER_ERROR)
    except HainaError as error:
        if debug:
            raise
        _fail(str(error), EXIT_USER_ERROR)
    except BrokenPipeError:
        # The reader of our output has gone (`haina ... | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if debug:
            raise
        _fail(str(from_os_error(error)), EXIT_USER_ERROR)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        _fail(
            f"internal fault: {type(error).__name__}: {reason}; run again with --debug for the traceback",
            EXIT_INTERNAL_FAULT,
        )
    if code == EXIT_INTERRUPTED:
        _fail("stopped; run the same command again to go on from here", EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"haina: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
