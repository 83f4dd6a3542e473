"""A small clip, hostile text, and a page full of it."""

from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import Tensor

from csd_lab.notes import MetricNote
from csd_lab.report import RunPage
from csd_lab.sweep.status import State

HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\"'`&amp;</pre></style>"
    "</title>{{ 7 * 7 }}{% raw %}${7*7}\n\nsecond line \0 \ud800 \x1b[31m \u202e evil \u2066 "
    "مرحبا שלום 你好 🎉 क्षि $\\frac{1}{0}$ " + "x" * 500
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Any code points at all, lone surrogates and control characters too."""


def clip(frames: int = 6, height: int = 40, width: int = 60, shade: float = 0.0) -> Tensor:
    """A moving gradient, (F, 3, H, W), in [0, 1]."""
    t = torch.linspace(0, 0.5, frames)[:, None, None, None]
    x = torch.linspace(0, 0.5, width).expand(frames, 3, height, width)
    return (x + t + shade).clamp(0, 1)


def hostile_page(page: RunPage, text: str) -> RunPage:
    """A page on which everything that may come from outside is the same text."""
    return page._replace(
        title=text,
        prompt=text,
        message=text,
        facts={text: text},
        videos={text: Path(text.replace("\0", "")[:50] or "x")},
        paths={text: Path(text.replace("\0", "")[:50] or "x")},
        files={text: page.pictures["contact sheet"]},
        pictures={text: page.pictures["contact sheet"]},
        metrics={text: 1.0},
        notes={text: MetricNote(text, True, text)},
        skipped={text: text},
        config=text,
        command=text,
        resume=text,
        environment={text: text},
        log=text,
        state=State.FAILED,
    )
