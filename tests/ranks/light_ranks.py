"""Ranks without the package, which start sooner."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def behave(how: str) -> tuple[int, float]:
    """Meet the other ranks; then the second one ends as it is told, while the others wait."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    total = torch.tensor([float(rank)])
    dist.all_reduce(total)
    ends: dict[str, Callable[[], Any]] = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "raise": lambda: 1 / 0,
        "exit": lambda: os._exit(7),
    }
    if rank == 1 and how in ends:
        ends[how]()
    if how != "return":
        dist.barrier()
    dist.destroy_process_group()
    return rank, float(total)


def linger(folder: Path) -> None:
    """Tell this rank's process id, and stay until killed, deaf to polite signals."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    while True:
        signal.pause()
