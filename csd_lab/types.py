"""The small named tuples that travel between the layers. Imports nothing of the package.

Axes: N particles in a step; C x h x w a latent; H x W an image in pixels; F frames (or views);
A right answers of an edit instruction.
"""

from typing import NamedTuple

from torch import Tensor

Text = str | tuple[str, ...]
"""A prompt: one string for all particles, or a tuple with one string a particle."""


class Conditioning(NamedTuple):
    """What the particles of one step are conditioned on.

    Attributes:
        prompt: target text (an instruction or a caption, as the prior wants it).
        source_prompt: text of the source's own estimate; "" is the null text.
        negative_prompt: text that takes the place of the null text in the guidance.
        image: image condition, (N, C, h, w), in the units that the prior's encoder of conditions
            gives; None for text-only priors.
    """

    prompt: Text
    source_prompt: Text = ""
    negative_prompt: Text = ""
    image: Tensor | None = None


class EditTask(NamedTuple):
    """A clip to edit, how to edit it, and the right answers where they are known.

    Attributes:
        source: frames, (F, 3, H, W), in [0, 1].
        instruction: what to do, for instruction-following priors ("make it night").
        source_caption: description of the source; "" if unknown.
        target_caption: description of the edited clip; "" if unknown.
        targets: exact edited clips, (A, F, 3, H, W), in [0, 1]; A = 1 for one-to-one
            instructions; None if unknown.
        target_captions: a caption for each of the A targets; () if unknown.
        fps: frames a second.
        name: short human-readable name; never used as a path.
    """

    source: Tensor
    instruction: str
    source_caption: str = ""
    target_caption: str = ""
    targets: Tensor | None = None
    target_captions: tuple[str, ...] = ()
    fps: float = 8.0
    name: str = "clip"


class Artefact(NamedTuple):
    """The result of a run: edited frames beside the task that they answer.

    Attributes:
        edited: frames, (F, 3, H, W), in [0, 1], of the same size as ``task.source``.
        task: the task.
    """

    edited: Tensor
    task: EditTask
