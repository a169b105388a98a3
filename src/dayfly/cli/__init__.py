"""The command line. Each command is a module here; only the one that was called is imported."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence

from dayfly import inherited, process
from dayfly.cli.commands import COMMANDS, command, version
from dayfly.cli.notices import warn
from dayfly.errors import DayflyError

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from typing import NoReturn

UNUSED = ("inspect", "ipaddress", "linecache", "locale", "ntpath", "textwrap")
"""What asyncio and pathlib import, with what these import in turn, and what hardly any command uses (docs/decisions/0180)."""


def entry() -> NoReturn:
    """The command `dayfly`. Exits at once: freeing memory at the end of the process would take 8 ms."""
    gc.disable()  # until the command runs: imports and parsers make many long-lived objects, and no garbage
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # the reader is gone
        os._exit(status)
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dayfly` with these arguments; returns the exit status."""
    inherited.open_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _status(words)
        sys.stdout.flush()  # here, so that a missing reader causes no traceback
    except DayflyError as error:
        warn(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _drop_output()
            warn(f"stdout cannot be written to: {error.strerror}")
            return DayflyError.exit_status
        limit = _limit_behind(error)
        if error.filename is None and not limit:
            raise  # a bug: the user could not do anything about it
        hint = limit or "`dayfly doctor` checks the folders that Dayfly uses"
        warn(f"{error.filename or 'dayfly'}: {error.strerror} ({hint})")
        return DayflyError.exit_status
    except (MemoryError, RuntimeError) as error:  # RuntimeError: a thread that could not be started
        limit = _limit_behind(error)
        if not limit:
            raise
        warn(f"{str(error) or 'Cannot allocate memory'} ({limit})")
        return DayflyError.exit_status
    return status


def _limit_behind(error: Exception) -> str:
    from dayfly.machine import ends  # noqa: PLC0415 (only where something failed)

    text = "Cannot allocate memory" if isinstance(error, MemoryError) else str(error)
    return ends.behind(text, process.limits())


def _drop_output() -> None:
    """Redirect stdout to /dev/null, so that Python does not try to flush it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _status(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except SystemExit as ended:  # argparse's, after --help and --version
        return ended.code if isinstance(ended.code, int) else 0


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "--version" and "_ARGCOMPLETE" not in os.environ:
        sys.stdout.write(f"{version()}\n")
        return 0
    from dayfly import lazily  # noqa: PLC0415 (not for the version)

    lazily.load(*UNUSED)
    if words and words[0] == "job-shell":  # called by batch systems: it is not among the commands shown to users
        from dayfly.cli.job_shell import serve  # noqa: PLC0415 (not for the other commands)

        return serve(words[1:])
    if words and words[0] == "local-job" and len(words) == 3:  # what `dayfly submit --batch local` starts
        from dayfly.batch.submission import local  # noqa: PLC0415 (not for the other commands)

        return local.run(words[1], int(words[2]), warn)
    if words and words[0] in COMMANDS and "_ARGCOMPLETE" not in os.environ:
        return _execute(words[0], words[1:])
    from dayfly.cli.toplevel import parse_toplevel  # noqa: PLC0415 (only for help and completion)

    return parse_toplevel(words)


def _execute(name: str, words: list[str]) -> int:
    from dayfly.cli.parser import Parser  # noqa: PLC0415 (argparse, only when there is something to parse)

    module = command(name)
    parser = Parser(prog=f"dayfly {name}", description=module.DESCRIPTION)
    parser.first_word = words[0] if words else ""
    module.configure(parser)
    own = words[: words.index("--")] if "--" in words else words
    arguments = parser.parse_args(own)
    arguments.after_dashes = words[len(own) + 1 :]
    gc.freeze()  # all objects so far stay to the end: they need not be scanned again
    gc.enable()
    status: int = module.execute(arguments)
    return status
