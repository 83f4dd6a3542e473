"""Which right answer a clip gave, and whether its frames agree on it.

A one-to-many instruction ("change the sky") has A known right answers, each a whole clip. A
frame's answer is the one nearest to it by mean squared error, or several, where they look the same
in this frame; the clip's answer is the one that is nearest to most of its frames. With one right
answer, that one is the clip's.
"""

from typing import final

import torch
from torch import Tensor

from csd_lab.metrics.base import SEVERAL_ANSWERS, TWO_FRAMES, ArtefactMetric
from csd_lab.types import Artefact

SAME = 1e-7
"""Mean squared errors that differ by no more are equal: answers that look the same in a frame."""


def frame_mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each frame, (F, 3, H, W) and (F, 3, H, W) -> (F,)."""
    return (a - b).square().mean((1, 2, 3))


def answer_errors(edited: Tensor, answers: Tensor) -> Tensor:
    """Mean squared error of every frame to every right answer.

    Args:
        edited: (F, 3, H, W) in [0, 1].
        answers: (A, F, 3, H, W) in [0, 1].

    Returns:
        (A, F).
    """
    return torch.stack([frame_mse(edited, answer) for answer in answers])


def nearest_answers(errors: Tensor) -> Tensor:
    """Whether an answer is nearest to a frame, as near as any other; errors (A, F) -> (A, F)."""
    return errors <= errors.amin(0) + SAME


def commonest_answer(errors: Tensor) -> int:
    """The answer nearest to most frames; among equally common ones, that of the least total error.

    Args:
        errors: (A, F), see :func:`answer_errors`.
    """
    votes = nearest_answers(errors).sum(1)
    totals = torch.where(votes == votes.max(), errors.sum(1), torch.inf)
    return int(totals.argmin())


def agreement(errors: Tensor) -> Tensor:
    """1 for frames whose nearest answer is the clip's, else 0; errors (A, F) -> (F,)."""
    return nearest_answers(errors)[commonest_answer(errors)].to(errors.dtype)


def known_answers(artefact: Artefact) -> Tensor:
    """The right answers of the task, (A, F, 3, H, W).

    Raises:
        ValueError: they are unknown.
    """
    task = artefact.task
    if task.targets is None:
        raise ValueError(f"targets of task {task.name!r} must be known, got None")
    return task.targets


def clip_answer(artefact: Artefact) -> int:
    """The index of the right answer that the clip gave; 0 where there is only one.

    Raises:
        ValueError: the right answers are unknown.
    """
    return commonest_answer(answer_errors(artefact.edited, known_answers(artefact)))


def answer_frames(artefact: Artefact) -> Tensor:
    """The right answer that the clip gave, (F, 3, H, W).

    Raises:
        ValueError: the right answers are unknown.
    """
    return known_answers(artefact)[clip_answer(artefact)]


@final
class Agreement(ArtefactMetric):
    """Share of frames whose nearest right answer is the clip's, in [1 / A, 1]; mean over frames.

    1 does not mean a good edit: frames that all stayed near the source, or all turned grey, agree
    too. Read it beside ``psnr_answer`` and ``saturation``.
    """

    basename = "agreement"
    needs = (SEVERAL_ANSWERS, TWO_FRAMES)
    unit = "share of frames"
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return agreement(answer_errors(artefact.edited, known_answers(artefact)))
