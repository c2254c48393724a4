"""`pocketvision COMMAND ...`: finds the command and passes it the rest of the line."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from .dependencies import explained

INTERRUPTED, BROKEN_PIPE = 130, 141  # the exit status of a process that such a signal ends


def main() -> None:
    """Run a command. Closed streams, a reader that has seen enough (`| head`) and Ctrl-C end without a traceback."""
    _open_streams()
    try:
        _command()()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more when it ends
        raise SystemExit(BROKEN_PIPE) from None
    except KeyboardInterrupt:
        print("\npocketvision: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:  # any kind: a package that does not load raises what it likes
        told = None if os.environ.get("POCKETVISION_TRACEBACK") else explained(error)
        if told is None:
            raise
        print(f"pocketvision: error: {told}", file=sys.stderr)
        raise SystemExit(2) from None


def _open_streams() -> None:
    """Replace streams that were closed (`>&-`) by nothing: otherwise the first files opened take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _command() -> Callable[[], None]:
    """What the command line asks for, imported. Ctrl-C ends the process meanwhile: imports take seconds."""
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return _imported()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _imported() -> Callable[[], None]:
    from .conf.schema import CONFIGS
    from .retired import current_command

    name, *rest = sys.argv[1:] or ["help"]
    if name in ("-h", "--help", "help"):
        from .conf.help import usage

        if not rest:
            return lambda: print(usage())
        name, rest = rest[0], [*rest[1:], "--help"]
    if name in ("--version", "version"):
        from . import __version__

        return lambda: print(__version__)
    if name == "completion":
        from .conf.completion import script

        return lambda: print(script(rest))
    name, rest = current_command(name, rest)
    module = name.replace("-", "_")
    from .conf.help import asked, nearest, usage

    if module not in CONFIGS:
        print(f"pocketvision: unknown command {name!r}{nearest(name)}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    if (told := asked(module, rest)) is not None:
        return lambda: print(told)
    command = importlib.import_module(f"pocketvision.tools.{module}")
    return lambda: command.main(rest)


if __name__ == "__main__":
    main()
