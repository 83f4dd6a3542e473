"""Distance to the exact edited clip, and how much it varies from frame to frame.

The exact edited clip is the task's one target, or, of a one-to-many instruction, the right answer
that the clip gave (:mod:`csd_lab.metrics.answers`).
"""

from typing import final

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from csd_lab.metrics.answers import answer_frames, frame_mse, known_answers
from csd_lab.metrics.base import (
    ANY_ANSWER,
    ONE_ANSWER,
    SEVERAL_ANSWERS,
    TWO_FRAMES,
    ArtefactMetric,
    clip_rms,
    clip_std,
    minimum_size,
)
from csd_lab.types import Artefact

PSNR_CAP = 100.0
"""PSNR of equal frames, dB, in place of infinity: one of 8 bits' levels everywhere is 48 dB."""

SSIM_WINDOW = 11
"""Pixels of a side of SSIM's window."""

CHANGED = 0.02
"""A pixel belongs to the edited region if a channel of the target is this far from the source."""


def frame_psnr(edited: Tensor, target: Tensor) -> Tensor:
    """10 log10(1 / MSE) of each frame, at most 100 dB; (F, 3, H, W) in [0, 1] twice -> (F,)."""
    ratio = peak_signal_noise_ratio(edited, target, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return ratio.clamp(max=PSNR_CAP)


def frame_ssim(edited: Tensor, target: Tensor) -> Tensor:
    """SSIM of each frame (Wang et al. 2004; 11 x 11 Gaussian window, deviation 1.5 pixels).

    The mean is over windows that lie inside the frame, as in the paper and scikit-image.
    torchmetrics' own mean has windows across the border too, so its map is cropped here. It takes
    some sixty times the memory of what it is given, so it is given one frame after the other.

    Args:
        edited: (F, 3, H, W) in [0, 1], at least 11 x 11.
        target: the same.

    Returns:
        (F,) in [-1, 1].
    """
    pairs = zip(edited.split(1), target.split(1), strict=True)
    return torch.cat([_ssim(*pair) for pair in pairs])


def _ssim(edited: Tensor, target: Tensor) -> Tensor:
    _, windows = structural_similarity_index_measure(
        edited, target, data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    margin = SSIM_WINDOW // 2
    return windows[..., margin:-margin, margin:-margin].mean((1, 2, 3))


def frame_rmse(edited: Tensor, target: Tensor) -> Tensor:
    """Root mean squared error of each frame, in units of [0, 1]; -> (F,)."""
    return frame_mse(edited, target).sqrt()


def colour_error(edited: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Mean of edited - target over the edited region of each frame.

    Args:
        edited: (F, 3, H, W) in [0, 1].
        target: the same; with ``source`` it defines the region, see :data:`CHANGED`.
        source: the same.

    Returns:
        (F, 3); NaN for frames in which nothing was to be changed.
    """
    region = ((target - source).abs().amax(1, keepdim=True) > CHANGED).to(edited.dtype)
    return ((edited - target) * region).sum((2, 3)) / region.sum((2, 3))


def colour_deviation(errors: Tensor) -> Tensor:
    """How far each frame's colour error is from their mean over the clip.

    Args:
        errors: (F, 3), see :func:`colour_error`.

    Returns:
        (F,), root mean square over the channels; NaN where undefined, and everywhere if fewer
        than two frames are defined.
    """
    deviation = (errors - errors.nanmean(0)).square().mean(1).sqrt()
    enough = (~deviation.isnan()).sum() >= 2
    return torch.where(enough, deviation, torch.nan)


@final
class PsnrTarget(ArtefactMetric):
    """PSNR to the one right answer, mean over frames of the PSNR of each; at most 100 dB."""

    basename = "psnr_target"
    needs = (ONE_ANSWER,)
    unit = "dB"
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = PSNR_CAP

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return frame_psnr(artefact.edited, known_answers(artefact)[0])


@final
class PsnrAnswer(ArtefactMetric):
    """PSNR to the one right answer, among several, that the clip gave; mean over frames.

    A frame that gave another right answer than its clip counts as wrong. At most 100 dB.
    """

    basename = "psnr_answer"
    needs = (SEVERAL_ANSWERS,)
    unit = "dB"
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = PSNR_CAP

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return frame_psnr(artefact.edited, answer_frames(artefact))


@final
class SsimTarget(ArtefactMetric):
    """SSIM to the one right answer, mean over frames."""

    basename = "ssim_target"
    needs = (ONE_ANSWER, minimum_size(SSIM_WINDOW))
    unit = "SSIM"
    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return frame_ssim(artefact.edited, known_answers(artefact)[0])


@final
class ErrorSpread(ArtefactMetric):
    """Standard deviation over a clip's frames of their RMSE to the right answer; mean over clips.

    0 where all frames are equally wrong. ``per_frame`` is the RMSE. Blind to the error's sign: a
    clip that flickers around its target shows in ``colour_spread``.
    """

    basename = "error_spread"
    needs = (ANY_ANSWER, TWO_FRAMES)
    unit = "of [0, 1]"
    pool = staticmethod(clip_std)
    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 0.5

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return frame_rmse(artefact.edited, answer_frames(artefact))


@final
class ColourSpread(ArtefactMetric):
    """Spread over a clip's frames of the colour error in the edited region; mean over clips.

    The colour error of a frame is the mean of edited - answer over the pixels that the edit
    changes, a vector of three; the spread is its root mean squared deviation from the clip's mean
    (over frames and channels). ``per_frame`` is each frame's deviation, NaN where nothing was to
    be changed; undefined with fewer than two other frames.
    """

    basename = "colour_spread"
    needs = (ANY_ANSWER, TWO_FRAMES)
    unit = "of [0, 1]"
    pool = staticmethod(clip_rms)
    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        target = answer_frames(artefact)
        errors = colour_error(artefact.edited, target, artefact.task.source)
        return colour_deviation(errors)
