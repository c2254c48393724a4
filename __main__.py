"""`pocketvision COMMAND ...`: finds the command and passes it the rest of the line."""

import importlib
import sys

from .conf.schema import CONFIGS
from .retired import current_command


def main() -> None:
    name, *rest = sys.argv[1:] or ["help"]
    if name in ("-h", "--help", "help"):
        from .conf.help import usage

        if not rest:
            print(usage())
            return
        name, rest = rest[0], [*rest[1:], "--help"]
    if name in ("--version", "version"):
        from . import __version__

        print(__version__)
        return
    if name == "completion":
        from .conf.completion import script

        print(script(rest))
        return
    name, rest = current_command(name, rest)
    module = name.replace("-", "_")
    if module not in CONFIGS:
        from .conf.help import nearest, usage

        print(f"pocketvision: unknown command {name!r}{nearest(name)}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    from .conf.help import asked

    if (told := asked(module, rest)) is not None:
        print(told)
    else:
        importlib.import_module(f"pocketvision.tools.{module}").main(rest)


if __name__ == "__main__":
    main()
