"""A distribution over weights while it is fitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bayesrob.inference.training.delta_rule import SigmaLearner
from bayesrob.inference.training.live import Live, following
from bayesrob.inference.training.network import buffers
from bayesrob.inference.variational.elbo import Estimator, SharedDraw
from bayesrob.inference.variational.guides import Guide, Mirrored
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels, Weights

__all__ = ["VariationalLearner"]


class VariationalLearner(SigmaLearner):
    """The loss of `guide`, which is minus the evidence lower bound divided by the number of points if `kl_weight` is 1.

    Args:
        guide: the distribution.
        estimator: estimates the likelihood's part of the loss.
        num_data: number of training points.
        noise: the generator that guide and estimator draw from.
        common: what the Predictive is told: about its data, `num_draws` and `seed`.
    """

    def __init__(self, guide: Guide, estimator: Estimator, *, num_data: int, noise: torch.Generator, common: dict[str, Any]):
        self._guide, self._estimator, self._num_data = guide, estimator, num_data
        self._noise, self._common = noise, common
        own = estimator.normal if isinstance(estimator, SharedDraw) else None
        self._mirrored = [one for one in (own, guide.mirrored) if isinstance(one, Mirrored)]
        self.parameters = guide.parameters
        self.statistics, self.counters = buffers(guide.model.net)
        self._live: Live | None = None

    def loss(self, batch: Any) -> Tensor:
        return self._guide.descent(self._estimator, batch, self._num_data)

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        return self._guide.loss(self._estimator, self._estimator.data(x, y), self._num_data)

    def split(self, x: Batch, y: Labels, sizes: list[int]) -> Iterable[Any]:
        return self._estimator.split(x, y, sizes)

    def predictive(self) -> Predictive:
        return self._guide.predictive(**self._common)

    def live(self) -> Predictive:
        if self._live is None:
            post = self._guide.predictive(**{**self._common, "num_draws": 1})
            self._live = following(post, self._guide.model.net, self._guide.parts)
        return self._live()

    @property
    def sigma(self) -> Weights:
        """The current standard deviations by parameter name."""
        return self._guide.parts()["scale"]

    def record(self) -> dict[str, Any]:
        return {"estimator": "shared_draw" if isinstance(self._estimator, SharedDraw) else "local"}

    def state(self) -> dict[str, Any]:
        return {"noise": self._noise.get_state(), "mirrored": [one.last for one in self._mirrored]}

    def restore(self, state: dict[str, Any]) -> None:
        self._noise.set_state(state["noise"])
        for one, last in zip(self._mirrored, state["mirrored"], strict=True):
            one.last = last
