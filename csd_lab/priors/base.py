"""A prior: a frozen model that predicts the noise in noisy particles.

Whatever a step asks of the prior, for all branches of targets and sources, comes in one call of
``predict_noise``. The prior makes one batch of it and evaluates that in the fewest chunks of at
most ``max_batch`` samples. A sample's estimate does not depend on its neighbours in the batch,
beyond the rounding of the network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, Self, final

import torch
from torch import Tensor, nn

from csd_lab.checks import check_whole
from csd_lab.distill.guidance import Query
from csd_lab.distill.kernels import full_precision
from csd_lab.distill.schedules import NoiseSchedule
from csd_lab.types import Text


class Batch(NamedTuple):
    """Samples that are evaluated together.

    Attributes:
        x_t: noisy particles, (B, C, h, w).
        text: embeddings of their texts, (B, *).
        image: image conditions, (B, C', h, w), zero where a sample has none; None if no sample
            has one.
        has_image: whether a sample has an image condition, (B,), bool.
    """

    x_t: Tensor
    text: Tensor
    image: Tensor | None
    has_image: Tensor

    def chunks(self, size: int) -> Iterator["Batch"]:
        """The batch in the fewest chunks of at most ``size`` samples, as even as can be."""
        n = len(self.x_t)
        count = -(-n // size)
        bounds = [i * n // count for i in range(count + 1)]
        for start, stop in pairwise(bounds):
            part = slice(start, stop)
            image = None if self.image is None else self.image[part]
            yield Batch(self.x_t[part], self.text[part], image, self.has_image[part])


class Prior(nn.Module, ABC):
    """A frozen noise predictor, with the encoders that its latents and conditions need.

    A frozen prior stays in evaluation mode, its parameters ask for no gradient, and
    ``predict_noise`` records none; ``estimate_noise`` does. A subclass evaluates one batch
    (``_noise``) and embeds one text (``_embed``), and calls ``freeze`` when its networks are in
    place.

    Args:
        schedule: noise levels of the estimates.
        scheduler_config: the same schedule as the config of a diffusers scheduler, for samplers.
        latent_channels: C of a latent, (C, h, w).
        latent_scale: pixels a latent, along each axis.
        size_multiple: sides of images, in pixels, should be multiples of this.
        max_batch: samples that are evaluated together at most, >= 1.
        native_size: height and width of the latents that it was trained on; None: any size is as
            good.

    Attributes:
        reads: what its texts are, the ``caption`` of a result or an ``instruction``.
        takes_image: whether it is conditioned on an image, besides the text.
        samples_evaluated: samples that were evaluated so far, over all branches, also for a learner
            and, where memory is saved by evaluating them once more, twice.

    Raises:
        ValueError: ``max_batch`` is below 1.
    """

    reads: ClassVar[Literal["caption", "instruction"]] = "caption"
    takes_image: bool = False

    def __init__(
        self,
        *,
        schedule: NoiseSchedule,
        scheduler_config: Mapping[str, Any],
        latent_channels: int,
        latent_scale: int,
        size_multiple: int,
        max_batch: int,
        native_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_whole("max_batch", max_batch)
        self.schedule = schedule
        self.scheduler_config = dict(scheduler_config)
        self.latent_channels = latent_channels
        self.latent_scale = latent_scale
        self.size_multiple = size_multiple
        self.max_batch = max_batch
        self.native_size = native_size
        self.samples_evaluated = 0
        self._embeddings: dict[str, Tensor] = {}

    @abstractmethod
    def encode(self, images: Tensor, noise: Tensor | None = None, wrap: bool = False) -> Tensor:
        """Latents of images, differentiable in the images; call it under ``torch.no_grad`` else.

        Args:
            images: (B, 3, H, W), in [0, 1].
            noise: standard normal, (B, C, h, w), which draws from the encoder's distribution
                where it has one; None for its mean.
            wrap: the images are closed along their width.

        Returns:
            (B, C, h, w).
        """

    @abstractmethod
    def decode(self, latents: Tensor, wrap: bool = False) -> Tensor:
        """Images of latents, differentiable in these; call it under ``torch.no_grad`` else.

        Args:
            latents: (B, C, h, w).
            wrap: they are closed along their width.

        Returns:
            (B, 3, H, W), in [0, 1].
        """

    def images_at_once(self, height: int, width: int) -> int:  # noqa: ARG002
        """How many images of height x width latents are to be encoded or decoded at once."""
        return self.max_batch

    @abstractmethod
    def condition(self, images: Tensor, wrap: bool = False) -> Tensor | None:
        """Image conditions of images (B, 3, H, W) in [0, 1]: (B, C', h, w), without gradient.

        None if the prior takes no image condition. With ``wrap`` images are closed along their
        width.
        """

    @abstractmethod
    def _embed(self, text: str) -> Tensor:
        """Embedding of one text, (*)."""

    @abstractmethod
    def _noise(self, batch: Batch, t: Tensor) -> Tensor:
        """Noise estimates of a batch at t, (): (B, C, h, w), in any floating type."""

    @final
    def embed(self, text: Text) -> Tensor:
        """Embeddings: (1, *) of a string, (B, *) of a tuple of B strings.

        Each distinct string is embedded once and alone, so that its embedding depends on nothing
        else, and is kept until ``clear_embeddings``.
        """
        texts = (text,) if isinstance(text, str) else text
        for new in dict.fromkeys(texts):
            if new not in self._embeddings:
                with torch.no_grad():
                    self._embeddings[new] = self._embed(new)
        return torch.stack([self._embeddings[each] for each in texts])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Forget the embeddings when the network moves: they do not."""
        self.clear_embeddings()
        return super()._apply(fn, recurse)

    @final
    def clear_embeddings(self) -> None:
        """Forget the embeddings of all texts."""
        self._embeddings.clear()

    @final
    @torch.no_grad()
    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        """The noise in each query's particles at timestep t, without gradient.

        See :meth:`estimate_noise`.
        """
        return self.estimate_noise(queries, t)

    @final
    def estimate_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        """The noise in each query's particles at timestep t, differentiable.

        Not under inference mode, whose tensors autograd could not save: the estimates become
        gradients.

        Args:
            queries: particles (N, C, h, w) with text and image condition; N may differ, and be 0.
            t: timestep, ().

        Returns:
            One (N, C, h, w) a query, in the particles' type but at least float32.

        Raises:
            ValueError: the queries' shapes do not fit together, or a tuple of texts is not one
                text a particle.
        """
        if not queries:
            return []
        for query in queries:
            _check(query, queries[0])
        counts = [len(query.x_t) for query in queries]
        dtype = torch.promote_types(queries[0].x_t.dtype, torch.float32)
        if not sum(counts):  # a process without particles; networks take no empty batches
            return [torch.empty_like(query.x_t, dtype=dtype) for query in queries]
        batch = self._gather(queries)
        with full_precision(batch.x_t):
            noise = torch.cat([self._noise(chunk, t) for chunk in batch.chunks(self.max_batch)])
        self.samples_evaluated += len(noise)
        return list(noise.to(dtype).split(counts))

    def _gather(self, queries: Sequence[Query]) -> Batch:
        device = queries[0].x_t.device
        counts = torch.tensor([len(query.x_t) for query in queries])
        given = torch.tensor([query.image is not None for query in queries])
        texts = [text for query in queries for text in _texts(query)]
        return Batch(
            torch.cat([query.x_t for query in queries]),
            self.embed(tuple(texts)).to(device),
            _images(queries),
            given.repeat_interleave(counts).to(device),
        )

    @final
    def freeze(self) -> None:
        """Ask for no gradients and leave training mode; a subclass's constructor ends with this."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in evaluation mode, also when a module that holds this prior is trained."""
        return super().train(False)


def _texts(query: Query) -> tuple[str, ...]:
    """The text of each particle."""
    return (query.text,) * len(query.x_t) if isinstance(query.text, str) else query.text


def _images(queries: Sequence[Query]) -> Tensor | None:
    """The image condition of each particle, zero for those without; None if none has one."""
    given = [query.image for query in queries if query.image is not None]
    if not given:
        return None
    shape = given[0].shape[1:]
    return torch.cat(
        [
            given[0].new_zeros(len(query.x_t), *shape) if query.image is None else query.image
            for query in queries
        ]
    )


def _check(query: Query, first: Query) -> None:
    """Raises ValueError unless a query fits the first and is consistent."""
    n = len(query.x_t)
    if query.x_t.shape[1:] != first.x_t.shape[1:]:
        raise ValueError(
            f"the particles of all queries must have one shape, {tuple(first.x_t.shape[1:])}, "
            f"got {tuple(query.x_t.shape[1:])}"
        )
    if not isinstance(query.text, str) and len(query.text) != n:
        raise ValueError(
            f"a tuple of texts must hold one text a particle, that is {n}, got {len(query.text)}"
        )
    if query.image is not None and len(query.image) != n:
        raise ValueError(
            f"image must hold one condition a particle, that is {n}, got {len(query.image)}"
        )
