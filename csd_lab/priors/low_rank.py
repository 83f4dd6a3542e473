"""Low-rank weights on a prior's network, which learn while the prior stays as it is.

LoRA (Hu et al. 2021, arXiv 2106.09685): a linear layer W x becomes

    W x + B A x,    A (r x in), B (out x r)

of which A and B are trained. B starts at zero, so that the network then is the prior's, exactly.

What a gradient needs of the network grows with the samples that it is evaluated for. Where these
are more than the prior takes at once, each chunk of them is evaluated a second time when its
gradient is due (Chen et al. 2016, arXiv 1604.06174), so that memory is that of one chunk.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import sqrt
from typing import final

import torch
from diffusers.utils import is_peft_available
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from csd_lab.checks import check_whole
from csd_lab.distill import Learner, Query
from csd_lab.distill.noise import weights_generator
from csd_lab.distill.schedules import NoiseSchedule
from csd_lab.priors.base import Prior
from csd_lab.priors.latent_diffusion import LatentDiffusion

NAME = "particles"
"""Of the weights among others that the network may have."""

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers that get them: all projections of the attentions, as in ProlificDreamer."""


@final
class LowRank(Learner):
    """A prior with low-rank weights of its own.

    They live in the prior's network, where they count in this learner's estimates alone. A later
    learner of the same prior takes their place.

    Args:
        prior: a latent diffusion model.
        rank: r, >= 1.
        learning_rate: of AdamW, > 0.
        seed: of A, >= 0.

    Raises:
        ValueError: an argument is out of range, the prior has no network, or peft is missing.
    """

    def __init__(
        self, prior: Prior, rank: int = 4, learning_rate: float = 1e-4, seed: int = 0
    ) -> None:
        super().__init__(learning_rate)
        check_whole("rank", rank)
        if not isinstance(prior, LatentDiffusion):
            raise ValueError(
                "low-rank weights need a prior with a network, such as prior=embedded, got "
                f"{type(prior).__name__}"
            )
        if not is_peft_available():
            raise ValueError("peft is not installed: pip install 'csd-lab[vsd]'")
        self._priors = (prior,)  # no part of this module: its weights are not what is learnt
        self.weights = nn.ParameterList(_add_weights(prior, rank, seed))

    @property
    def schedule(self) -> NoiseSchedule:
        """That of the prior."""
        return self._priors[0].schedule

    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        """The noise in each query's particles at t, (), differentiable in the weights."""
        samples = sum(len(query.x_t) for query in queries)
        if samples <= self._priors[0].max_batch or not torch.is_grad_enabled():
            return self._estimated(queries, t)
        return [self._in_chunks(query, t) for query in queries]

    def _in_chunks(self, query: Query, t: Tensor) -> Tensor:
        """The noise in one query's particles, with a graph for each chunk when it is due."""
        particles = torch.arange(len(query.x_t), device=query.x_t.device)
        chunks = [query.of(rows) for rows in particles.split(self._priors[0].max_batch)]
        parts = [
            checkpoint(self._estimated, [chunk], t, use_reentrant=False, preserve_rng_state=False)
            for chunk in chunks
        ]
        return torch.cat([noise for (noise,) in parts])

    def _estimated(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        with self._in_use():
            return self._priors[0].estimate_noise(queries, t)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Let the weights count."""
        unet = self._priors[0].unet
        unet.enable_adapters()
        try:
            yield
        finally:
            unet.disable_adapters()  # which also freezes them
            self.requires_grad_(True)


def _add_weights(prior: LatentDiffusion, rank: int, seed: int) -> list[nn.Parameter]:
    """Give a prior's network low-rank weights that do not count yet: first A, then B of a layer."""
    from peft import LoraConfig  # an extra, and slow to import

    unet = prior.unet
    if NAME in getattr(unet, "peft_config", {}):
        unet.delete_adapters(NAME)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(PROJECTIONS)), NAME)
    unet.disable_adapters()
    named = [(name, p) for name, p in unet.named_parameters() if f".{NAME}." in name]
    generator = weights_generator(seed)
    for name, weight in named:
        if ".lora_A." in name:
            bound = 1 / sqrt(weight.shape[1])
            drawn = generator.uniform(-bound, bound, weight.shape)
            weight.data = torch.tensor(drawn, dtype=torch.float32, device=weight.device)
        else:
            weight.data = torch.zeros_like(weight, dtype=torch.float32)
    return [weight.requires_grad_(True) for _, weight in named]
