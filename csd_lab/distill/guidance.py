"""Guidance as linear combinations of noise predictions.

A branch is what a prediction is conditioned on: a text and, or not, the image. A guidance names
branches with coefficients, which add up to 1:

    eps_w(x_t) = sum_b c_b eps(x_t; b)

Branches that turn out equal are summed, and those with coefficient 0 are left out, before
anything is evaluated. With Instruct-Pix2Pix's guidance a target takes 3 evaluations, its source
with the empty text 2.

Particles may follow several prompts y_p at once, each with shares m_p that add up to 1:

    eps_w(x_t) = sum_p m_p eps_w(x_t; y_p) = sum_b c_b eps(x_t; b),    c_b = sum_p m_p c_b(y_p)

The coefficients are then a particle's own. Branches without a prompt are one for all prompts, and
a prompt is evaluated for those particles alone in which it has a share.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor

from csd_lab.checks import check_finite
from csd_lab.distill.schedules import NoiseSchedule
from csd_lab.types import Blend, Text

Coefficient = float | Tensor
"""One number for all particles, or one for each, (N,)."""


class Query(NamedTuple):
    """A noise prediction that is asked of a prior.

    Attributes:
        x_t: noisy particles, (N, C, h, w).
        text: their text.
        image: their image condition, (N, C, h, w); None for the null image.
    """

    x_t: Tensor
    text: Text
    image: Tensor | None

    def of(self, rows: Tensor) -> "Query":
        """The same of some of the particles, by their numbers, (M,) of int64."""
        return Query(
            self.x_t[rows],
            self.text if isinstance(self.text, str) else tuple(self.text[i] for i in rows.tolist()),
            None if self.image is None else self.image[rows],
        )


class NoisePredictor(Protocol):
    """What distillation needs of a prior."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise levels of ``predict_noise``."""

    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        """The noise in each query's particles at timestep t, (): one (N, C, h, w) a query.

        All queries go through the network together.
        """


class Branch(NamedTuple):
    """What a noise prediction is conditioned on.

    Attributes:
        text: the text; "" is the null text.
        image: whether the image condition is given, where there is one.
    """

    text: Text
    image: bool


class Guidance(ABC):
    """A linear combination of branches."""

    @final
    def coefficients(self, prompt: Text | Blend, negative: Text = "") -> dict[Branch, Coefficient]:
        """The branches and their coefficients: equal ones summed, zeros left out.

        Args:
            prompt: the text to follow, or several.
            negative: the text in the place of the null text.
        """
        negative = _plain(negative)
        if not isinstance(prompt, Blend):
            return _merge(self.terms(_plain(prompt), negative))
        shares = zip(prompt.texts, prompt.weights.unbind(dim=1), strict=True)
        return _merge(
            (branch, coefficient * share)
            for text, share in shares
            for branch, coefficient in self.terms(text, negative)
        )

    @abstractmethod
    def terms(self, prompt: Text, negative: Text) -> list[tuple[Branch, float]]:
        """The branches and coefficients as the formula has them."""


@final
class ClassifierFree(Guidance):
    """eps_w = eps(n) + s (eps(y) - eps(n)), n the null or negative text, y the prompt.

    Ho & Salimans 2022 (arXiv 2207.12598), in the convention where s = 1 is the conditional
    prediction and s = 0 the unconditional one. A prior's image condition, where there is one, is
    given to both branches.

    Args:
        scale: s, finite.
    """

    def __init__(self, scale: float) -> None:
        check_finite("scale", scale)
        self.scale = scale

    def terms(self, prompt: Text, negative: Text) -> list[tuple[Branch, float]]:
        """y: s; n: 1 - s."""
        return [(Branch(prompt, True), self.scale), (Branch(negative, True), 1 - self.scale)]


@final
class DualGuidance(Guidance):
    """Guidance by text and image (Brooks et al. 2023, arXiv 2211.09800, equation 3).

        eps_w = eps(0, n) + w_image (eps(s, n) - eps(0, n)) + w_text (eps(s, y) - eps(s, n))

    with s the image, 0 the null image, y the prompt and n the null or negative text. A prior
    without an image condition sees classifier-free guidance of scale w_text.

    Args:
        text: w_text, finite.
        image: w_image, finite.
    """

    def __init__(self, text: float, image: float) -> None:
        check_finite("text", text)
        check_finite("image", image)
        self.text, self.image = text, image

    def terms(self, prompt: Text, negative: Text) -> list[tuple[Branch, float]]:
        """(s, y): w_text; (s, n): w_image - w_text; (0, n): 1 - w_image."""
        return [
            (Branch(prompt, True), self.text),
            (Branch(negative, True), self.image - self.text),
            (Branch(negative, False), 1 - self.image),
        ]


class Request(NamedTuple):
    """Particles whose guided noise is wanted.

    Attributes:
        x_t: noisy particles, (N, C, h, w).
        coefficients: of the branches.
        image: image condition, (N, C, h, w); None if the prior has none.
    """

    x_t: Tensor
    coefficients: Mapping[Branch, Coefficient]
    image: Tensor | None = None


def guided_noise(prior: NoisePredictor, t: Tensor, requests: Sequence[Request]) -> list[Tensor]:
    """eps_w of each request, by one call of the prior for all of them.

    Args:
        prior: predicts noise.
        t: timestep, () of int64.
        requests: particles and their branches.

    Returns:
        One (N, C, h, w) a request, in float32 or the particles' higher precision.
    """
    parts = [_parts(request) for request in requests]
    queries = [part.query for own in parts for part in own]
    predictions = iter(prior.predict_noise(queries, t))
    return [_combine(r.x_t, own, predictions) for r, own in zip(requests, parts, strict=True)]


class _Part(NamedTuple):
    """One branch of a request.

    Attributes:
        query: the particles that have a share in it.
        rows: which those are, (M,); None for all.
        coefficient: of these particles: a number, or one each, (M,).
    """

    query: Query
    rows: Tensor | None
    coefficient: Coefficient


def _parts(request: Request) -> list[_Part]:
    return [_part(request, branch, c) for branch, c in _plan(request).items()]


def _part(request: Request, branch: Branch, coefficient: Coefficient) -> _Part:
    query = Query(request.x_t, branch.text, request.image if branch.image else None)
    if isinstance(coefficient, Tensor) and not coefficient.all():
        rows = coefficient.nonzero()[:, 0]
        return _Part(query.of(rows), rows, coefficient[rows])
    return _Part(query, None, coefficient)


def _plan(request: Request) -> dict[Branch, Coefficient]:
    if request.image is not None:
        return _merge(request.coefficients.items())
    # Without an image condition, branches that differ in the image alone are one branch.
    return _merge((Branch(b.text, False), c) for b, c in request.coefficients.items())


def _merge(terms: Iterable[tuple[Branch, Coefficient]]) -> dict[Branch, Coefficient]:
    merged: dict[Branch, Coefficient] = {}
    for branch, coefficient in terms:
        merged[branch] = merged.get(branch, 0.0) + coefficient
    return {branch: c for branch, c in merged.items() if torch.as_tensor(c).any()}


def _combine(x_t: Tensor, parts: Iterable[_Part], predictions: Iterator[Tensor]) -> Tensor:
    noise = torch.zeros_like(x_t, dtype=torch.promote_types(x_t.dtype, torch.float32))
    for part in parts:
        share = part.coefficient
        if isinstance(share, Tensor):
            share = share.to(noise)[:, None, None, None]
        term = share * next(predictions).to(noise.dtype)
        noise = noise + term if part.rows is None else noise.index_add(0, part.rows, term)
    return noise


def _plain(text: Text) -> Text:
    """The string that a tuple of texts repeats, so that it equals a branch with that string."""
    return text if isinstance(text, str) or len(set(text)) != 1 else text[0]
