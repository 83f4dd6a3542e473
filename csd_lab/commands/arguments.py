"""What the command lines share."""

import argparse
from typing import NoReturn, final


@final
class Parser(argparse.ArgumentParser):
    """Reads arguments, keeps the lines of its help as they are, and says in one line what is wrong.

    Args:
        name: of the program.
        usage: one line.
        text: what the program does, with examples.
        end: what stands below the options.
    """

    def __init__(self, name: str, usage: str, text: str, end: str = "") -> None:
        super().__init__(
            name,
            usage=usage,
            description=text,
            epilog=end,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help.\n")
