"""What learns from the particles on the way: its optimiser, and the scale of its loss."""

from copy import deepcopy
from typing import Any, final

from torch import Tensor
from torch.amp import GradScaler

from csd_lab.distill import Learner


@final
class Lessons:
    """The optimiser of a learner, and the scale of its loss.

    Gradients of a mean over a particle's numbers are below what half precision holds. Where the
    trainer scales its loss (16-mixed) the lesson is part of that; else it is scaled by itself.

    Args:
        learner: what is trained.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.optimizer = learner.optimizer()
        self._new = deepcopy((learner.state_dict(), self.optimizer.state_dict()))
        self._own: GradScaler | None = None

    def scaled(self, loss: Tensor, scaler: GradScaler | None) -> Tensor:
        """The lesson's loss as it is to be added to that of the particles, ().

        Args:
            loss: of the lesson, ().
            scaler: of the trainer; None: it has none.
        """
        if scaler is not None:
            return loss
        if self._own is None:
            self._own = GradScaler(loss.device.type)
        return self._own.scale(loss)

    def step(self, scaler: GradScaler | None) -> None:
        """Follow the gradient that there is, if it is finite, and forget it.

        Between the backward pass and the step of the trainer's own optimiser, which ends with a
        new scale.
        """
        chosen = self._own if scaler is None else scaler
        assert chosen is not None  # ``scaled`` has seen to it
        chosen.step(self.optimizer)
        if scaler is None:
            chosen.update()
        self.optimizer.zero_grad()

    def begin_anew(self) -> None:
        """Forget all that was learnt."""
        learner, optimizer = deepcopy(self._new)
        self.learner.load_state_dict(learner)
        self.optimizer.load_state_dict(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Of the optimiser and, where the lesson is scaled by itself, of the scale."""
        scale = None if self._own is None else self._own.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scale": scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scale"] is not None:
            device = next(self.learner.parameters()).device
            self._own = GradScaler(device.type)
            self._own.load_state_dict(state["scale"])
