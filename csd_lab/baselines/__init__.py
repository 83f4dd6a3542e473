"""Methods that sample instead of optimise: one file a method.

Each is a :class:`csd_lab.distill.Sampler`, so that it runs as ``method=<name>`` on the same
particles, data, metrics and pages as the methods that distil.
"""

from csd_lab.baselines.alignment import AttentionEdit
from csd_lab.baselines.base import ScheduledSampler, sample_images
from csd_lab.baselines.fatezero import FateZero
from csd_lab.baselines.in2n import InstructNerf2Nerf
from csd_lab.baselines.instruct_pix2pix import InstructPix2Pix
from csd_lab.baselines.multidiffusion import MultiDiffusion
from csd_lab.baselines.pix2video import Pix2Video
from csd_lab.baselines.prompt_to_prompt import PromptToPrompt
from csd_lab.baselines.schedulers import SCHEDULERS, DiffusersScheduler, SchedulerFactory
from csd_lab.baselines.synctweedies import SyncTweedies

__all__ = [
    "SCHEDULERS",
    "AttentionEdit",
    "DiffusersScheduler",
    "FateZero",
    "InstructNerf2Nerf",
    "InstructPix2Pix",
    "MultiDiffusion",
    "Pix2Video",
    "PromptToPrompt",
    "ScheduledSampler",
    "SchedulerFactory",
    "SyncTweedies",
    "sample_images",
]
