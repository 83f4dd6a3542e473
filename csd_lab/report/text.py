"""Text from outside, made fit to be drawn and written; nothing of it is ever interpreted."""

import re

from PIL import ImageFont

from csd_lab.html import line_to_show

TERMINAL_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
MAX_DRAWN = 1000
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def without_terminal_codes(text: str) -> str:
    """Text without the codes for colours and cursor movements that logs hold."""
    return TERMINAL_CODES.sub("", text)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """Break text into lines that fit; what is too much gives way to an ellipsis.

    Args:
        text: any text.
        font: that it will be drawn with.
        width: of a line, in pixels.
        lines: how many at most.

    Returns:
        The lines; none for an empty text.
    """
    rest = line_to_show(text[:MAX_DRAWN])
    wrapped: list[str] = []
    while rest and len(wrapped) < lines:
        fitting = _fitting(rest, font, width)
        end = fitting
        if fitting < len(rest):
            space = rest.rfind(" ", 0, fitting + 1)
            end = space if space > 0 else fitting
        wrapped.append(rest[:end])
        rest = rest[end:].lstrip()
    if rest:
        last = wrapped[-1] + ELLIPSIS
        while len(last) > 1 and font.getlength(last) > width:
            last = last[:-2].rstrip() + ELLIPSIS
        wrapped[-1] = last
    return wrapped


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many characters of the text fit on a line; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low
