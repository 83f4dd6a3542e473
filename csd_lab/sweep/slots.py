"""Places for jobs on this machine: devices that take some at once, and the CPU."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple, final

from csd_lab.checks import check_whole

CPU = "cpu"

AUTO_JOBS = 4
"""Jobs at once on a CPU where nobody says how many; each takes the memory of a process."""


class Place(NamedTuple):
    """What a job has while it runs.

    Attributes:
        devices: names of GPUs; empty on the CPU.
        slots: how many of the CPU's slots; 0 on GPUs.
    """

    devices: tuple[str, ...]
    slots: int


@final
class Slots:
    """Places that are free.

    Args:
        devices: names of the GPUs.
        jobs_per_device: jobs at once on each of them.
        jobs: jobs at once on the CPU.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(self, devices: Sequence[str], jobs_per_device: int, jobs: int) -> None:
        for name, value in (("jobs_per_device", jobs_per_device), ("jobs", jobs)):
            check_whole(f"hydra.launcher.{name}", value)
        self._free = dict.fromkeys(devices, jobs_per_device)
        self._cpu = jobs
        self._jobs = jobs
        self._on_devices = jobs_per_device * len(self._free)

    def threads(self, place: Place) -> int:
        """The CPU's threads for a job at this place, when all places of its kind are taken."""
        return max(1, cores() // (self._on_devices if place.devices else self._jobs))

    def take(self, devices: int | None, on_cpu: bool) -> Place | None:
        """A place for a job, or None if there is none now.

        Args:
            devices: how many different ones the job wants; None, or more than there are: all of
                the GPUs, and on the CPU, where a trainer then makes one process, one.
            on_cpu: whether it wants no GPU.
        """
        if on_cpu or not self._free:
            slots = min(devices or 1, self._jobs)
            if slots > self._cpu:
                return None
            self._cpu -= slots
            return Place((), slots)
        emptiest = sorted(self._free, key=lambda name: -self._free[name])
        chosen = emptiest[:devices]
        if any(self._free[name] < 1 for name in chosen):
            return None
        for name in chosen:
            self._free[name] -= 1
        return Place(tuple(chosen), 0)

    def give_back(self, place: Place) -> None:
        """Free a place."""
        self._cpu += place.slots
        for name in place.devices:
            self._free[name] += 1


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices_asked(devices: object) -> int | list[int] | None:
    """What ``trainer.devices`` asks for: how many, or the numbers of which; None: all there are.

    Raises:
        ValueError: if it is no number, no list, and not "auto".
    """
    text = str(devices).strip("[]").replace(" ", "")
    if text in ("auto", "-1"):
        return None
    if not re.fullmatch(r"\d+(,\d+)*,?", text):
        raise ValueError(
            f"trainer.devices must be how many, a list of them, or auto, got {devices!r}."
        )
    listed = isinstance(devices, Sequence) and not isinstance(devices, str)
    if listed or "," in text or str(devices).strip().startswith("["):
        return [int(number) for number in text.strip(",").split(",")]
    return int(text)


def wanted_devices(devices: object) -> int | None:
    """How many devices a job wants, None: all that there are; 1 where the job will refuse it."""
    try:
        asked = devices_asked(devices)
    except ValueError:
        return 1
    count = len(asked) if isinstance(asked, list) else asked
    return count if count is None else max(1, count)
