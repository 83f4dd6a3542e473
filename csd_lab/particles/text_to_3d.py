r"""A scene made from a caption: what moves is the scene, and cameras look at it from everywhere.

Every step draws N cameras around the scene (:mod:`csd_lab.fields.random_views`). The particles are
what they see, at a size that may be below the prior's and is then enlarged,

.. math::
    x_i = \mathrm{encode}\big(\mathrm{resize}(C_i(\theta))\big), \qquad
    \theta \leftarrow \theta - \mathrm{lr} \sum_i \Big(
      \nabla_i \frac{\partial x_i}{\partial \theta}
      + \sum_m \lambda_m \frac{\partial R_m(\theta, C_i)}{\partial \theta} \Big),

with regularisers R_m (:mod:`csd_lab.fields.regularisers`). By score distillation this is
DreamFusion (Poole et al. 2022, arXiv 2209.14988); by collaborative score distillation the views of
a step share their scores (Kim et al. 2023, arXiv 2307.04787).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Unpack, final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from csd_lab.checks import check_whole, is_finite
from csd_lab.distill import Distiller, Sampler, WeightedDistiller
from csd_lab.fields import (
    Cameras,
    GridField,
    Look,
    OrbitViews,
    RandomViews,
    Rays,
    Regulariser,
    Scene,
    grid_of,
)
from csd_lab.particles.base import ParticleModule, ParticleOptions
from csd_lab.particles.module import OfScene, rendered
from csd_lab.priors import Prior
from csd_lab.streams import Stream, torch_generator
from csd_lab.types import Conditioning, Text


@final
class ViewTexts:
    """Says in the prompt from where each camera looks, for priors that know such words.

    Args:
        front: width of the sector in front, and of that behind, in degrees, in (0, 180].
        overhead: elevation from which on a view is one from above, in degrees, in (0, 90].

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, front: float = 90.0, overhead: float = 60.0) -> None:
        if not (is_finite(front) and 0 < front <= 180):
            raise ValueError(f"front must be in (0, 180] degrees, got {front}")
        if not (is_finite(overhead) and 0 < overhead <= 90):
            raise ValueError(f"overhead must be in (0, 90] degrees, got {overhead}")
        self.front = front
        self.overhead = overhead

    def __call__(self, prompt: str, views: OrbitViews) -> tuple[str, ...]:
        """The prompt for each view."""
        places = zip(views.azimuth.tolist(), views.elevation.tolist(), strict=True)
        return tuple(f"{prompt}, {self._name(*place)} view" for place in places)

    def _name(self, azimuth: float, elevation: float) -> str:
        if elevation >= self.overhead:
            return "overhead"
        turned = abs((azimuth + 180) % 360 - 180)  # from the front, in [0, 180]
        if turned <= self.front / 2:
            return "front"
        return "back" if turned >= 180 - self.front / 2 else "side"


@final
class Growth:
    """How renderings and the grid grow while a scene is made.

    Args:
        steps: of the whole, >= 1.
        starts: share of the steps after which each stage begins: ascending from 0, below 1.
        sides: sides of renderings in each stage, as shares of the prior's images, in (0, 1].
        nodes: nodes along a side of the grid, as shares of those in the end, in (0, 1].

    Raises:
        ValueError: an argument is out of range, or there are not as many shares as stages.
    """

    def __init__(
        self,
        steps: int,
        starts: Sequence[float] = (0.0,),
        sides: Sequence[float] = (1.0,),
        nodes: Sequence[float] = (1.0,),
    ) -> None:
        check_whole("steps", steps)
        self.steps = steps
        self.starts = _numbers("starts", starts)
        self.sides = _numbers("sides", sides)
        self.nodes = _numbers("nodes", nodes)
        ascending = list(self.starts) == sorted(set(self.starts))
        if not ascending or self.starts[:1] != (0,) or self.starts[-1] >= 1:
            raise ValueError(f"starts must ascend from 0 and stay below 1, got {list(starts)}")
        for name, shares in (("sides", self.sides), ("nodes", self.nodes)):
            if len(shares) != len(self.starts) or not all(0 < share <= 1 for share in shares):
                raise ValueError(
                    f"{name} must be {len(self.starts)} shares in (0, 1], one for each of starts, "
                    f"got {list(shares)}"
                )

    def stage(self, step: int) -> int:
        """The stage of a step, from 0."""
        return sum(step >= round(start * self.steps) for start in self.starts) - 1

    def size(self, step: int, height: int, width: int) -> tuple[int, int]:
        """Height and width of a step's renderings, where the prior's images have these."""
        share = self.sides[self.stage(step)]
        return max(1, round(share * height)), max(1, round(share * width))

    def resolution(self, step: int, last: int) -> int:
        """Nodes along a side of the grid in a step, where it is to have ``last`` in the end."""
        return max(2, round(self.nodes[self.stage(step)] * last))


@final
class TextTo3D(ParticleModule, OfScene):
    """Makes a scene from a caption.

    Args:
        scene: what it begins with, a grid; it is not copied.
        views: draws the cameras of a step, whose views have the ids 0 ... N - 1.
        shown: cameras whose images :meth:`export` gives; the prior's images have their size.
        prompt: what the scene is to show.
        growth: of renderings and grid.
        regularisers: what the scene is held to, by any name.
        view_texts: adds to the prompt from where a camera looks; None: it is the same for all.
        negative_prompt: takes the place of the null text in the guidance.
        **distillation: see :class:`ParticleModule`.

    Attributes:
        scene: the scene as it is now.
        source_scene: the scene before the first step.
        shown: cameras of the images that are exported.

    Raises:
        ValueError: an argument is not allowed, or the prior or the method is of another kind.
    """

    takes = "text"
    called = ("at first", "made")

    def __init__(
        self,
        scene: Scene,
        views: RandomViews,
        shown: Cameras,
        prompt: str,
        growth: Growth,
        regularisers: Mapping[str, Regulariser] | None = None,
        view_texts: ViewTexts | None = None,
        negative_prompt: str = "",
        **distillation: Unpack[ParticleOptions],
    ) -> None:
        super().__init__(**distillation)
        check_caption_prior(type(self.prior))
        check_distils(self.distiller)
        check_regularisers(regularisers or {})
        self.views = views
        self.shown = shown
        self.prompt = prompt
        self.growth = growth
        self.regularisers = dict(regularisers or {})
        self.view_texts = view_texts
        self.negative_prompt = negative_prompt
        self.source_scene = deepcopy(scene).requires_grad_(False)
        self.scene = scene
        self.resolution = self._grid.resolution
        self._grid.refine(growth.resolution(0, self.resolution))
        self._seen: dict[int, Look] = {}

    @property
    def _grid(self) -> GridField:
        return grid_of(self.scene)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Refine the grid when it is time."""
        del batch, batch_idx
        wanted = self.growth.resolution(self.global_step, self.resolution)
        if wanted != self._grid.resolution:
            self.change_parameters(lambda: self._grid.refine(wanted))

    def take_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Have a grid of as many nodes as that of a checkpoint."""
        self._grid.refine(state["scene.field.values"].shape[-1])

    def render(self, ids: Tensor) -> Tensor:
        """Latents of what the step's cameras ``ids`` see, (N, C, h, w)."""
        height, width = self.shown.height, self.shown.width
        size = self.growth.size(self.global_step, height, width)
        cameras = self._drawn(ids).cameras(*size)
        looks = [self._look(cameras, place, int(i)) for place, i in enumerate(ids)]
        self._seen = {int(i): look for i, look in zip(ids, looks, strict=True)}
        colours = [look.rendering.colour.T.view(3, *size) for look in looks]
        images = torch.stack(colours)
        if size != (height, width):
            images = interpolate(images, (height, width), mode="bilinear", align_corners=False)
        return self.prior.encode(images)

    def penalties(self, ids: Tensor) -> dict[str, Tensor]:
        """The regularisers of what was rendered last, each summed over the views ``ids``, ()."""
        looks = [self._seen[int(i)] for i in ids]
        self._seen = {}
        nothing = torch.zeros((), device=self.device)
        return {
            name: regulariser(self.scene, looks) if looks else nothing
            for name, regulariser in self.regularisers.items()
            if regulariser.weight
        }

    def source(self, ids: Tensor) -> None:
        """None: the scene is made from nothing."""

    def conditioning(self, ids: Tensor) -> Conditioning:
        """The prompt, with the views' own words if wanted."""
        prompt: Text = self.prompt
        if self.view_texts is not None:
            prompt = self.view_texts(self.prompt, self._drawn(ids))
        return Conditioning(prompt, negative_prompt=self.negative_prompt)

    @property
    def around(self) -> Cameras:
        """The shown cameras."""
        return self.shown

    @property
    def scenes(self) -> Mapping[str, Scene]:
        """The scene alone."""
        return {"scene": self.scene}

    @torch.no_grad()
    def export(self) -> Tensor:
        """What the shown cameras see of the scene, (F, 3, H, W), in [0, 1]."""
        return rendered(self.scene, self.shown)

    @torch.no_grad()
    def export_source(self) -> Tensor:
        """What they saw before the first step, (F, 3, H, W), in [0, 1]."""
        return rendered(self.source_scene, self.shown)

    def _drawn(self, ids: Tensor) -> OrbitViews:
        return self.views.draw(self.seed, self.global_step, ids)

    def _look(self, cameras: Cameras, place: int, particle: int) -> Look:
        """What one camera sees; where its rays are cut is a function of (seed, step, particle)."""
        generator = torch_generator(Stream.TEXT_RAYS, self.seed, self.global_step, particle)
        rays = Rays(*(part.to(self.device) for part in cameras.image_rays(place)))
        return Look(rays, self.scene.rendering(cameras, place, generator))


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """Raises ValueError unless these are numbers in a list."""
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    if not listed or not all(map(is_finite, values)):
        raise ValueError(f"{name} must be a list of numbers, got {values!r}")
    return tuple(values)


def check_caption_prior(kind: type[Prior]) -> None:
    """Check that a prior can tell what a scene is to show.

    Raises:
        ValueError: it reads instructions.
    """
    if getattr(kind, "reads", "caption") != "caption":
        raise ValueError(
            "prior must read captions to make a scene from one, such as prior=embedded_text, got "
            f"{kind.__name__}, which reads instructions."
        )


def check_distils(distiller: Distiller) -> None:
    """Check that a method needs nothing that is there before the first step.

    Raises:
        ValueError: it samples, or compares with a source.
    """
    if isinstance(distiller, Sampler) or (
        isinstance(distiller, WeightedDistiller) and distiller.rule.needs_source
    ):
        raise ValueError(
            "method must distil without a source to make a scene from a text: sds, csd or vsd, got "
            f"{type(distiller).__name__} with a source to compare with or to sample from."
        )


def check_regularisers(regularisers: Mapping[str, Any]) -> None:
    """Check that what a scene is to be held to can be asked for.

    Raises:
        ValueError: one of them is something else.
    """
    for name, regulariser in regularisers.items():
        if not isinstance(regulariser, Regulariser):
            raise ValueError(
                f"regularisers.{name} must be a regulariser of csd_lab.fields, such as Sparsity, "
                f"got {regulariser!r}."
            )
