"""The small named tuples that travel between the layers. Imports nothing of the package.

Axes: N particles in a step; C x h x w a latent; H x W an image in pixels; F frames (or views);
A right answers of an edit instruction.
"""

from typing import Literal, NamedTuple

from torch import Tensor

Kind = Literal["clip", "image", "views", "text"]
"""What data hold, and a modality takes: frames of a clip, one image, posed views, or a text."""

Text = str | tuple[str, ...]
"""A prompt: one string for all particles, or a tuple with one string a particle."""


class Blend(NamedTuple):
    """Several prompts at once, each with its share in every particle.

    Attributes:
        texts: the P prompts.
        weights: share of each prompt, (N, P), in [0, 1]; each particle's add up to 1.
    """

    texts: tuple[str, ...]
    weights: Tensor


class Conditioning(NamedTuple):
    """What the particles of one step are conditioned on.

    Attributes:
        prompt: target text (an instruction or a caption, as the prior wants it), or a blend.
        source_prompt: text of the source's own estimate; "" is the null text.
        negative_prompt: text that takes the place of the null text in the guidance.
        image: image condition, (N, C, h, w), in the units that the prior's encoder of conditions
            gives; None for text-only priors.
    """

    prompt: Text | Blend
    source_prompt: Text = ""
    negative_prompt: Text = ""
    image: Tensor | None = None


class Windows(NamedTuple):
    """The parts of one large image that were edited as particles.

    Attributes:
        boxes: top, left, bottom and right of each, (M, 4), int64, in pixels of the image; those of
            a ring that go over the join have a right beyond the image's width.
        wrap: whether the image is a ring, whose last column stands beside its first.
        moving: whether they lay elsewhere in every step, about these places.
    """

    boxes: Tensor
    wrap: bool = False
    moving: bool = False


class EditTask(NamedTuple):
    """A clip (or one image, F = 1) to edit, how, and the right answers where they are known.

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
        windows: where the windows of one large image lie; None: it is edited as a whole.
    """

    source: Tensor
    instruction: str
    source_caption: str = ""
    target_caption: str = ""
    targets: Tensor | None = None
    target_captions: tuple[str, ...] = ()
    fps: float = 8.0
    name: str = "clip"
    windows: Windows | None = None


class Flow(NamedTuple):
    """Where each view of a scene is seen in the view before it, for the F - 1 pairs of neighbours.

    The pixel in row r and column c of view f + 1 is seen in view f at ``grid[f, r, c]``, which is
    (x, y) as ``torch.nn.functional.grid_sample`` wants it with ``align_corners=False``: x goes
    along columns and y along rows, -1 and 1 are the outer edges of the image, so that the middle
    of column c is at x = (2 c + 1) / W - 1 and that of row r at y = (2 r + 1) / H - 1.

    Attributes:
        grid: places in the view before, (F - 1, H, W, 2), finite; of no meaning where not visible.
        visible: whether the pixel is seen there, (F - 1, H, W), bool.
    """

    grid: Tensor
    visible: Tensor


class Artefact(NamedTuple):
    """The result of a run: edited frames beside the task that they answer.

    Attributes:
        edited: frames, (F, 3, H, W), in [0, 1], of the same size as ``task.source``.
        task: the task.
        flow: where each frame is seen in the one before; None if unknown.
    """

    edited: Tensor
    task: EditTask
    flow: Flow | None = None
