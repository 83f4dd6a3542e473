r"""A scene edited straight through its cameras: what moves is the scene itself.

The particles are the views of a step, functions of the scene's parameters theta,

.. math::
    x_v = \mathrm{encode}(C_v(\theta)), \qquad
    \theta \leftarrow \theta - \mathrm{lr} \sum_v \nabla_v \frac{\partial x_v}{\partial \theta},

so that whatever pulls at one view moves all others. With one view a step and the noise as the
baseline this is DreamFusion's SDS (Poole et al. 2022, arXiv 2209.14988).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Required, Unpack, final

import torch
from torch import Tensor

from csd_lab.fields import Cameras, PosedViews, Scene, SceneFitter
from csd_lab.particles.base import ParticleModule, ParticleOptions
from csd_lab.particles.module import Glance, OfScene, glance_at, rendered
from csd_lab.particles.recipe import SceneRecipe
from csd_lab.streams import Stream, torch_generator
from csd_lab.types import Conditioning


class SceneOptions(ParticleOptions, total=False):
    """What :class:`SceneModule` is made of, which says what it is."""

    views: Required[PosedViews]
    shown: Required[Cameras]
    prompt: Required[str]
    recipe: Required[SceneRecipe]
    source_prompt: str
    negative_prompt: str


class SceneModule(ParticleModule, OfScene, ABC):
    """A captured scene under a prior: its views are the particles.

    Args:
        views: of the capture, images of a legal size for the prior.
        shown: cameras whose images :meth:`export` gives, of views held out.
        prompt: target text.
        recipe: makes the scene, and reconstructs it before anything is edited.
        source_prompt: text of the source's own noise estimate; "" is the null text.
        negative_prompt: takes the place of the null text in the guidance.
        **distillation: see :class:`ParticleModule`.

    Attributes:
        cameras: of the views.
        shown: cameras of the images that are exported.
        source_scene: the scene before any edit.
        original: images of the capture, (V, 3, H, W), in [0, 1].
    """

    takes = "views"
    original: Tensor
    source_latents: Tensor
    condition: Tensor | None

    def __init__(
        self,
        views: PosedViews,
        shown: Cameras,
        prompt: str,
        recipe: SceneRecipe,
        source_prompt: str = "",
        negative_prompt: str = "",
        **distillation: Unpack[ParticleOptions],
    ) -> None:
        super().__init__(**distillation)
        self.cameras = views.cameras
        self.shown = shown
        self.texts = (prompt, source_prompt, negative_prompt)
        self.recipe = recipe
        self.source_scene = recipe.scene(views.cameras).requires_grad_(False)
        self.register_buffer("original", views.images, persistent=False)
        self.register_buffer("source_latents", None, persistent=False)
        self.register_buffer("condition", None, persistent=False)

    @property
    @abstractmethod
    def scene(self) -> Scene:
        """The scene as it is now."""

    @property
    def around(self) -> Cameras:
        """The capture's cameras."""
        return self.cameras

    @property
    def scenes(self) -> Mapping[str, Scene]:
        """The scene before and after."""
        return {"source": self.source_scene, "edited": self.scene}

    @abstractmethod
    def new_fitter(self) -> SceneFitter:
        """What the scene is reconstructed with."""

    @final
    @torch.no_grad()
    def setup(self, stage: str) -> None:
        """Encode the capture where the prior will run; reconstruct it, unless a run goes on."""
        del stage
        self.to(self.trainer.strategy.root_device)
        self.source_latents = self.prior.encode(self.original).clone()
        condition = self.prior.condition(self.original)
        self.condition = None if condition is None else condition.clone()
        if self.trainer.ckpt_path is not None:
            return
        fitter = self.new_fitter()
        views = PosedViews(self.original, self.cameras)
        self.recipe.reconstruct(fitter, views, show=self.trainer.is_global_zero)
        self.take_from_first(fitter.scene.state_dict().values())
        for scene in (self.scene, self.source_scene):
            scene.load_state_dict(fitter.scene.state_dict())

    @final
    def source(self, ids: Tensor) -> Tensor:
        """Latents of the captured images, (N, C, h, w)."""
        return self.source_latents[ids]

    @final
    def conditioning(self, ids: Tensor) -> Conditioning:
        """The prompts, and the captured images as image conditions."""
        return Conditioning(*self.texts, None if self.condition is None else self.condition[ids])

    @final
    @torch.no_grad()
    def export(self) -> Tensor:
        """What the shown cameras see of the scene, (F, 3, H, W), in [0, 1]."""
        return rendered(self.scene, self.shown)

    @final
    @torch.no_grad()
    def export_source(self) -> Tensor:
        """What they saw before the edit, (F, 3, H, W), in [0, 1]."""
        return rendered(self.source_scene, self.shown)


@final
class SceneParticles(SceneModule):
    """Edits a scene by gradients through its renderings.

    Args:
        **options: see :class:`SceneModule`; the optimiser moves the scene.
    """

    def __init__(self, **options: Unpack[SceneOptions]) -> None:
        super().__init__(**options)
        self._scene = self.recipe.scene(self.cameras)

    @property
    def scene(self) -> Scene:
        """The scene as it is now."""
        return self._scene

    def under_way(self) -> Glance:
        """A few of the captured views, small, and the scene there."""
        views = PosedViews(self.original, self.cameras)
        return glance_at(self.scene, views, ("captured", "edited together"))

    def new_fitter(self) -> SceneFitter:
        """One that is gone when it has done its work."""
        return self.recipe.fitter(self.cameras).to(self.device)

    def render(self, ids: Tensor) -> Tensor:
        """Latents of what the cameras ``ids`` see, (N, C, h, w)."""
        size = (3, self.cameras.height, self.cameras.width)
        seen = [
            self.scene.rendering(self.cameras, index, self._generator(index)).colour.T.view(size)
            for index in ids.tolist()
        ]
        return self.prior.encode(torch.stack(seen))

    def _generator(self, index: int) -> torch.Generator:
        """Of what is random about a view's rendering in this step, on any rank the same."""
        return torch_generator(Stream.SCENE_RAYS, self.seed, self.global_step, index)
