r"""A scene edited through its images: Instruct-NeRF2NeRF's dataset update, with any method.

A scene is fitted to images I_v of cameras v = 1 ... V, at first the captured ones, s_v. Then, again
and again, N views are taken in hand: they are rendered, and their latents are the particles of S
steps of a method,

.. math::
    x_v = \mathrm{encode}(C_v(\theta)), \qquad
    x_v \leftarrow x_v - \mathrm{lr}\, \nabla_v \quad (S \text{ times}), \qquad
    I_v \leftarrow \mathrm{decode}(x_v),

each time with timesteps as in a run of its own, and always under the captured image s_v as the
condition, and as the source whose own estimate is subtracted. What the scene lacks of the capture
distillation does not bring back: it takes s_v itself in place of its rendering, as long as nothing
was edited. After that the scene follows all I_v for some steps, and the next views come. Haque et
al. 2023 (arXiv 2303.12789) sample one view at a time from its rendering with some noise
(``method=in2n``). Kim et al. 2023 edit several views together by CSD-Edit (``method=csd_edit``),
whose kernel shares their scores, so that what the scene is given agrees before it has to. A method
that samples all views at once, from noise, edits each by itself (``method=ip2p``).

Views in hand at different times see one another only through the scene; of many right answers they
need not choose the same. With N = V all are in hand at once, and one time is enough.
"""

import logging
from dataclasses import dataclass
from typing import Unpack, final

import torch
from torch import Tensor, nn

from csd_lab.checks import check_whole
from csd_lab.distill import Sampler, particle_noise
from csd_lab.fields import PosedViews, Scene, SceneFitter
from csd_lab.particles.module import PREVIEWED, Glance, names_of, some_of
from csd_lab.particles.recipe import bar
from csd_lab.particles.scene import SceneModule, SceneOptions

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class UpdatePlan:
    """How often views come in hand, and what the scene does in between.

    Attributes:
        steps: S, of the method, each time that views are in hand.
        times: how often views come in hand.
        fit: steps of the scene after each time.
        last: further ones after the last time.

    Raises:
        ValueError: there is nothing to do.
    """

    steps: int
    times: int
    fit: int = 40
    last: int = 200

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("times", 1), ("fit", 0), ("last", 0)):
            check_whole(name, getattr(self, name), least)


@final
class DatasetUpdate(SceneModule):
    """Edits a scene by editing what it is fitted to. All that was captured is kept as it was.

    Args:
        updates: how often views come in hand.
        **options: see :class:`SceneModule`; the optimiser moves latents of views.

    Raises:
        ValueError: an argument is out of range.
    """

    edited: Tensor
    in_hand: Tensor

    def __init__(self, updates: UpdatePlan, **options: Unpack[SceneOptions]) -> None:
        super().__init__(**options)
        self.updates = updates
        self.steps_per_batch = updates.steps
        self.fitter = self.recipe.fitter(self.cameras)
        self.register_buffer("edited", self.original.clone())
        self.register_buffer("in_hand", torch.zeros(len(self.original), dtype=torch.bool))
        height, width = (side // self.prior.latent_scale for side in self.original.shape[2:])
        self.latents = nn.Parameter(
            torch.zeros(len(self.original), self.prior.latent_channels, height, width)
        )

    @property
    def scene(self) -> Scene:
        """The scene as it is now."""
        return self.fitter.scene

    def new_fitter(self) -> SceneFitter:
        """The one that goes on following the views."""
        return self.fitter

    @torch.no_grad()
    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Put the last views back and take the next ones in hand, when it is their turn."""
        del batch_idx
        place = self.global_step % self.updates.steps
        if place == 0:
            self._put_back()
            self._take(batch)
        self.origin = self.global_step - place

    def on_train_epoch_end(self) -> None:
        """Put the last views back, when all steps are done."""
        if not bool(self.in_hand.any()):
            return
        if self.global_step < self.trainer.max_steps:
            log.warning("stopped with views in hand, which the scene does not show yet: resume")
            return
        self._put_back()
        views = PosedViews(self.edited, self.cameras)
        shown = bar("following the edited views", self.global_rank == 0)
        self.fitter.fit(views, self.updates.last, self.recipe.final_rate, shown)
        self.take_from_first(self.scene.state_dict().values())

    @torch.no_grad()
    def under_way(self) -> Glance | None:
        """Some of the views in hand, which the scene does not show yet."""
        if self._latest is None or not bool(self.in_hand.any()):
            return None
        some = some_of(len(self.latest.ids), PREVIEWED)
        ids = self.latest.ids[some]
        clean = self.latents[ids] if self.distiller.done else self.latest.residual.x_0[some]
        in_hand = self.prior.decode(clean.to(self.latents))
        rows = {"captured": self.original[ids], "views in hand": in_hand}
        return Glance(rows, names_of("view", ids))

    @torch.no_grad()
    def _take(self, ids: Tensor) -> None:
        """Have the latents of the views ``ids`` be the particles, where the method begins."""
        self.in_hand[ids] = True
        x = self._seen(ids)
        shape = tuple(x.shape[1:])
        noise = particle_noise(self.seed, self.global_step, ids, shape, self.noise).to(x)
        self.latents[ids] = self.distiller.start(x, noise, self.conditioning(ids))
        self.take_from_first([self.latents])
        self.renew_optimizer()

    def _seen(self, ids: Tensor) -> Tensor:
        """Latents of what the scene shows of views, or of the capture: see the module.

        Samplers that begin with noise take no notice of them.
        """
        if isinstance(self.distiller, Sampler):
            shown = "views" in self.distiller.needs
        else:
            shown = not torch.equal(self.edited, self.original)
        if not shown:
            return self.source_latents[ids]
        return self.prior.encode(self.scene.views(self.cameras, ids))

    @torch.no_grad()
    def _put_back(self) -> None:
        """Have the scene follow what the views in hand have become."""
        ids = self.in_hand.nonzero()[:, 0]
        if not len(ids):
            return
        self.in_hand[ids] = False
        if not self.distiller.done:
            return  # noise on its way to an image
        self.edited[ids] = self.prior.decode(self.latents[ids])
        self.take_from_first([self.edited])
        self.fitter.fit(PosedViews(self.edited, self.cameras), self.updates.fit)
        self.take_from_first(self.scene.state_dict().values())

    def render(self, ids: Tensor) -> Tensor:
        """Latents of the views ``ids``, (N, C, h, w)."""
        return self.latents[ids]
