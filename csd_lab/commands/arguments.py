"""What the command lines share: how they read arguments, and how they end."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, final

from csd_lab.text import tolerate_letters

WRONG = 2
"""The exit code of wrong input."""

COMPARISON = "comparison"
"""What the files of a comparison are called, but for their endings."""


@final
class Parser(argparse.ArgumentParser):
    """Reads arguments, keeps the lines of its help as they are, and says in one line what is wrong.

    Args:
        prog: name of the program.
        usage: one line; None: as argparse makes it.
        description: what the program does, with examples.
        epilog: what stands below the options.
        **options: what argparse hands on to the parsers of commands.
    """

    def __init__(
        self,
        prog: str,
        usage: str | None = None,
        description: str = "",
        epilog: str = "",
        **options: Any,
    ) -> None:
        settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(
            prog, usage=usage, description=description, epilog=epilog, **options | settings
        )

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 2."""
        self.exit(WRONG, f"{self.prog}: {message}; see {self.prog} --help.\n")


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders that were given, without files of a comparison that lie beside them.

    Raises:
        ValueError: if nothing is left.
    """
    folders = [path for path in paths if path.stem != COMPARISON or path.is_dir()]
    if not folders:
        raise ValueError(f"folders must be those of runs or of sweeps, got {str(paths[0])!r}.")
    return folders


def exit_code(program: str, run: Callable[[], int | None]) -> int:
    """Run a program, say in one line how it failed, and return its exit code.

    Args:
        program: its name.
        run: what it does; gives its exit code, None for 0.

    Returns:
        The code; 2 for wrong input, 130 where Ctrl-C stopped it, 1 if who reads its output, such as
        head, has had enough before the end.
    """
    tolerate_letters()
    try:
        return run() or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"{program}: stopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        from csd_lab.messages import WRONG_INPUT, one_line  # heavy: not needed for --help

        if not isinstance(error, WRONG_INPUT):
            raise
        print(f"{program}: {one_line(error)}", file=sys.stderr)
        return WRONG
