"""An exponential moving average of the trained weights (EMA), which often generalises better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """average <- d · average + (1 - d) · weights after every step, with d = min(decay, (1 + step) / (10 + step)).

    The ramp keeps the untrained weights of the start from dominating a short run. Buffers and frozen parameters are not
    averaged. The average is kept in the weights' own dtype on their device: one copy of the trained weights.

    weights: the trained ones, by name.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self._weights = dict(weights)
        self._average = {n: p.detach().clone() for n, p in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step ``step`` (1-based)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The weights are the average inside the context, themselves again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def copy_to_weights(self) -> None:
        """The weights are the average from now on."""
        for name, weight in self._weights.items():
            weight.copy_(self._average[name])

    def _swap(self) -> None:
        for name, weight in self._weights.items():
            weight.data, self._average[name] = self._average[name], weight.data

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self._average.items():
            value.copy_(state[name])
