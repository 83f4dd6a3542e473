"""CLIP metrics: agreement with captions, with the source, and between frames or views.

Exact definitions, with C(.) a unit feature, e_f an edited frame, s_f its source frame, T0 and T1
the captions of source and target (captions, never the instruction):

- clip_text: cos(C(e_f), C(T1)); clip_image: cos(C(s_f), C(e_f)); clip_direction:
  cos(C(e_f) - C(s_f), C(T1) - C(T0)), differences taken after normalisation. Brooks et al. 2023,
  "InstructPix2Pix", arXiv 2211.09800; direction after Gal et al. 2022, arXiv 2108.00946.
- clip_consecutive: cos(C(e_f), C(e_{f+1})), mean over neighbours. Qi et al. 2023, "FateZero",
  arXiv 2303.09535.
- clip_allpairs: cos(C(e_f), C(e_g)), mean over pairs f < g. Kara et al. 2024, "RAVE", arXiv
  2312.04524.
- dircons_frame: cos(C(s_{f+1}) - C(s_f), C(e_{f+1}) - C(e_f)), mean over neighbours; dircons_edit:
  cos(C(e_f) - C(s_f), C(e_{f+1}) - C(s_{f+1})), likewise. Haque et al. 2023, "Instruct-NeRF2NeRF",
  arXiv 2303.12789, appendix C, prints (C(e_f) - C(s_f)) (C(e_{f+1}) - C(e_f)) for the views along a
  path of cameras. Its authors call that an error in favour of the first, by its name and its title
  the second is meant as well: so there are two, under names of their own.

Of a one-to-many instruction, T1 is the caption of the clip's own answer (:func:`clip_answer`).
"""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from csd_lab.metrics.answers import clip_answer
from csd_lab.metrics.base import (
    SOURCE_CAPTION,
    TARGET_CAPTION,
    TWO_FRAMES,
    ArtefactMetric,
    clip_mean,
)
from csd_lab.metrics.encoders import ClipEncoder
from csd_lab.types import Artefact

DIRECTION_EPSILON = 1e-3
"""A difference of unit features shorter than this is rounding (1e-6 to 1e-4), not a direction."""


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of features (B, E) and (B, E) or (1, E), in [-1, 1] -> (B,)."""
    return cosine_similarity(a, b, dim=-1)


def directional_similarity(
    edited: Tensor, source: Tensor, target_text: Tensor, source_text: Tensor
) -> Tensor:
    """Cosine between what changed in the images and what changed in the captions.

    Args:
        edited: unit features of edited frames, (F, E).
        source: unit features of their source frames, (F, E).
        target_text: unit feature of the target's caption, (1, E).
        source_text: unit feature of the source's caption, (1, E).

    Returns:
        (F,) in [-1, 1]; NaN where the frame did not change or the captions are the same, since a
        zero difference has no direction.
    """
    return _cosine_of_differences(edited - source, target_text - source_text)


def _cosine_of_differences(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of differences of unit features, (B, E) and (B, E) or (1, E); NaN where one is 0."""
    moved = (a.norm(dim=-1) > DIRECTION_EPSILON) & (b.norm(dim=-1) > DIRECTION_EPSILON)
    return torch.where(moved, cosine_similarity(a, b, dim=-1), torch.nan)


def consecutive_similarity(features: Tensor) -> Tensor:
    """Cosine of each frame with the next, features (F, E) -> (F - 1,)."""
    return similarity(features[:-1], features[1:])


def allpairs_similarity(features: Tensor) -> Tensor:
    """Mean cosine of each frame with all others, features (F, E), F >= 2 -> (F,).

    Its mean over frames is the mean over all pairs, each of which it holds twice.
    """
    units = normalize(features, dim=-1)
    cosines = units @ units.T
    return (cosines.sum(1) - cosines.diagonal()) / (features.shape[0] - 1)


def frame_direction_consistency(edited: Tensor, source: Tensor) -> Tensor:
    """Cosine between what changes from view to view in the edit and in the source.

    Args:
        edited: unit features of edited views, (F, E).
        source: unit features of their source views, (F, E).

    Returns:
        (F - 1,) in [-1, 1]; NaN where two neighbours are alike, in the edit or in the source.
    """
    return _cosine_of_differences(edited.diff(dim=0), source.diff(dim=0))


def edit_direction_consistency(edited: Tensor, source: Tensor) -> Tensor:
    """Cosine between what the edit changed in a view and what it changed in the next.

    Args:
        edited: unit features of edited views, (F, E).
        source: unit features of their source views, (F, E).

    Returns:
        (F - 1,) in [-1, 1]; NaN where one of the two was not changed.
    """
    change = edited - source
    return _cosine_of_differences(change[:-1], change[1:])


class _EncoderMetric(ArtefactMetric):
    """A metric on the features of a CLIP, whose tag becomes part of the name.

    Args:
        encoder: the network; share one between metrics, it is not copied.
    """

    unit = "cosine"
    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    def __init__(self, encoder: ClipEncoder) -> None:
        super().__init__(encoder.tag)
        self.encoder = encoder


def _target_caption(artefact: Artefact) -> str:
    task = artefact.task
    if task.targets is not None and task.target_captions and task.targets.shape[0] >= 2:
        return task.target_captions[clip_answer(artefact)]
    return task.target_caption


@final
class ClipText(_EncoderMetric):
    """cos(C(e_f), C(T1)), mean over frames: how well the edit shows what the target should be."""

    basename = "clip_text"
    needs = (TARGET_CAPTION,)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        text = self.encoder.text(_target_caption(artefact))
        return similarity(self.encoder.images(artefact.edited), text)


@final
class ClipImage(_EncoderMetric):
    """cos(C(s_f), C(e_f)), mean over frames: how much of the source is left? 1 without any edit."""

    basename = "clip_image"

    def _per_frame(self, artefact: Artefact) -> Tensor:
        source = self.encoder.images(artefact.task.source)
        return similarity(self.encoder.images(artefact.edited), source)


@final
class ClipDirection(_EncoderMetric):
    """cos(C(e_f) - C(s_f), C(T1) - C(T0)), mean over the frames that changed.

    A frame equal to its source, or equal captions, has no direction: NaN in ``per_frame``, left
    out of the mean, counted in ``undefined``; the mean is NaN if no frame changed.
    """

    basename = "clip_direction"
    needs = (SOURCE_CAPTION, TARGET_CAPTION)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return directional_similarity(
            self.encoder.images(artefact.edited),
            self.encoder.images(artefact.task.source),
            self.encoder.text(_target_caption(artefact)),
            self.encoder.text(artefact.task.source_caption),
        )


@final
class ClipConsecutive(_EncoderMetric):
    """cos(C(e_f), C(e_{f+1})), mean over the neighbours of a clip, then over clips."""

    basename = "clip_consecutive"
    needs = (TWO_FRAMES,)
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return consecutive_similarity(self.encoder.images(artefact.edited))


@final
class ClipAllPairs(_EncoderMetric):
    """cos(C(e_f), C(e_g)), mean over the pairs f < g of a clip, then over clips.

    ``per_frame`` is the mean cosine of each frame with all others.
    """

    basename = "clip_allpairs"
    needs = (TWO_FRAMES,)
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return allpairs_similarity(self.encoder.images(artefact.edited))


@final
class DirConsFrame(_EncoderMetric):
    """cos(C(s_{f+1}) - C(s_f), C(e_{f+1}) - C(e_f)), mean over neighbouring views, then over clips.

    Does the edit change from view to view as the source does? 1 for one that was not edited.
    Neighbours that look alike to CLIP have no direction: they are left out of the mean.
    """

    basename = "dircons_frame"
    needs = (TWO_FRAMES,)
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return frame_direction_consistency(
            self.encoder.images(artefact.edited), self.encoder.images(artefact.task.source)
        )


@final
class DirConsEdit(_EncoderMetric):
    """cos(C(e_f) - C(s_f), C(e_{f+1}) - C(s_{f+1})), mean over neighbours, then over clips.

    Was the same done to each view as to the next? Views that were not edited have no direction:
    they are left out of the mean.
    """

    basename = "dircons_edit"
    needs = (TWO_FRAMES,)
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return edit_direction_consistency(
            self.encoder.images(artefact.edited), self.encoder.images(artefact.task.source)
        )
