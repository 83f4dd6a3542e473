"""What several tests of the heart share: draws, an ascent, a predictor with known answers."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from csd_lab.distill import Learner, NoiseSchedule, Query, VariancePreserving
from csd_lab.types import Text


def randn(*shape: int, seed: int = 0) -> Tensor:
    """A standard normal draw in float64, a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def adagrad(
    x: Tensor, direction: Callable[[Tensor], Tensor], steps: int, rate: float
) -> Iterator[Tensor]:
    """Ascent with the step sizes of Liu & Wang's code: AdaGrad with a decaying history."""
    history = None
    for _ in range(steps):
        phi = direction(x)
        history = phi**2 if history is None else 0.9 * history + 0.1 * phi**2
        x = x + rate * phi / (1e-6 + history.sqrt())
        yield x


class ClosedForm:
    """The stand-in for the network of the recorded trajectories (tests/data/golden).

    eps = 0.8 z + 0.3 sin(2 c + 3 u) + s (0.4 tanh(z flipped along width) + 0.2 c rolled by 1 along
    channels) - 0.1 u z c, with z = x_t, c the image condition, u = t / 1000, s a number for each
    text. Counts what it is asked.
    """

    texts: ClassVar = {"": 0.0, "src": -0.5, "A": 1.0, "B": 0.6, "C": -0.8}

    def __init__(self, schedule: NoiseSchedule | None = None) -> None:
        self.schedule = schedule or VariancePreserving.scaled_linear()
        self.calls = 0
        self.samples = 0

    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        self.calls += 1
        self.samples += sum(len(query.x_t) for query in queries)
        return [self._predict(query, float(t) / 1000) for query in queries]

    def _predict(self, query: Query, u: float) -> Tensor:
        return self.evaluate(query.x_t, query.image, self._strength(query.text, query.x_t), u)

    def evaluate(self, z: Tensor, c: Tensor | None, s: Tensor, u: float) -> Tensor:
        """eps of z, c (None: zeros), s broadcast to z, and u = t / 1000."""
        c = torch.zeros_like(z) if c is None else c
        along = 0.4 * torch.tanh(z.flip(-1)) + 0.2 * c.roll(1, 1)
        return 0.8 * z + 0.3 * torch.sin(2 * c + 3 * u) + s * along - 0.1 * u * z * c

    def _strength(self, text: Text, z: Tensor) -> Tensor:
        texts = [text] * len(z) if isinstance(text, str) else text
        return z.new_tensor([self.texts[one] for one in texts]).view(-1, 1, 1, 1)


class Linear(Learner):
    """A learner of two numbers: eps = scale x_t + offset."""

    schedule = VariancePreserving.scaled_linear()

    def __init__(self, scale: float = 0.5, offset: float = 0.1, rate: float = 1e-2) -> None:
        super().__init__(rate)
        self.scale = nn.Parameter(torch.tensor(scale))
        self.offset = nn.Parameter(torch.tensor(offset))

    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        return [self.scale * query.x_t + self.offset for query in queries]
