"""Whether wandb can be asked at all: who is logged in, and does the server answer."""

import os
import threading
import urllib.error
import urllib.request
from typing import NamedTuple

import wandb
from wandb.sdk.lib import wbauth

from csd_lab.text import on_one_line

REACH_SECONDS = 3.0
"""Longest wait for a sign of life of the server."""

NOBODY = "nobody is logged in"


class Mode(NamedTuple):
    """How wandb is to work.

    Attributes:
        name: online, offline, disabled or shared.
        why: the reason for being offline, in a few words; "" where it was asked for.
    """

    name: str
    why: str = ""


def decide_mode() -> Mode:
    """The mode that ``WANDB_MODE`` or ``wandb offline`` ask for, else what is possible.

    Nobody is asked anything, and the server is waited for :data:`REACH_SECONDS` at most.
    """
    settings = wandb.setup().settings
    if asked := os.environ.get("WANDB_MODE"):
        return Mode("offline" if asked == "dryrun" else asked)
    if settings.mode != "online":
        return Mode(settings.mode)
    try:
        found = wbauth.authenticate_session(
            host=settings.base_url, source="csd-lab", prompt=False, update_session=False
        )
    except wandb.Error as error:  # a key that cannot be one
        return Mode("offline", on_one_line(error))
    if not found:
        return Mode("offline", NOBODY)
    if not answers(settings.base_url):
        return Mode("offline", f"{settings.base_url} does not answer")
    return Mode("online")


def answers(url: str, seconds: float = REACH_SECONDS) -> bool:
    """Whether a server says anything within so many seconds."""
    heard = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError:
            heard.set()  # an answer all the same
        except (OSError, ValueError):
            return
        else:
            heard.set()

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name knows no time limit
    asking.start()
    asking.join(seconds)
    return heard.is_set()
