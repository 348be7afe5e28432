"""The full-data log joint over flat weight vectors and its gradient, in chunks of data that bound the memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.bayesian_network import BayesianNetwork
from bayesrob.models.gradient import Data, LikelihoodGradient
from bayesrob.nets import feature_major, values_kept
from bayesrob.numerics import MEMORY_BYTES, chunk_size, slices
from bayesrob.types import Batch, Labels

__all__ = ["LogJoint"]


class LogJoint:
    """log p(w, y | x) for fixed data: what a gradient-based sampler climbs.

    Args:
        model: the Bayesian network.
        x: training inputs `[n, *shape]`, converted to the model's dtype and device.
        y: their labels, likewise.
        memory: bytes that the activations of one chunk of data may take, in all chains together.
    """

    def __init__(self, model: BayesianNetwork, x: Batch, y: Labels, memory: int = MEMORY_BYTES):
        self.model = model
        like = model.prior_scales
        self._x = x.to(like)
        self._y = y.to(like) if y.is_floating_point() else y.to(like.device)
        self._memory = memory
        self._precision = like.square().reciprocal()
        self._likelihood = LikelihoodGradient(model, like.shape, self._x)
        self._bytes_each = 2 * like.element_size() * values_kept(model.net, self._x)
        if self._likelihood.stack is not None:  # the same values in the order in memory that a stack wants
            self._x = feature_major(self._x).contiguous().view(*self._x.shape[1:], len(self._x)).movedim(-1, 0)
        self._data: tuple[int, list[Data]] = (0, [])  # number of chains of the last call, and the chunks for it

    def chunks(self, num_chains: int = 1) -> list[tuple[Batch, Labels]]:
        """The data, as views, in as few pieces as fit the memory when `num_chains` weight vectors meet them at once."""
        at_once = num_chains if self.model.batches_draws else 1
        size = chunk_size(len(self._x), at_once * self._bytes_each, self._memory)
        return [(self._x[s], self._y[s]) for s in slices(len(self._x), size)]

    def gradient(
        self, theta: Float[Tensor, "*chain weight"], value: bool = True
    ) -> tuple[Float[Tensor, "*chain"] | None, Float[Tensor, "*chain weight"]]:
        """Log *likelihood* and the gradient of the log *joint*, both detached, at one weight vector or each of several.

        Args:
            theta: the weights.
            value: False leaves the log likelihood out where that saves time: inside a trajectory nobody needs it.

        Returns:
            The log likelihood in float64, a scalar or `[chain]`, or None, and the gradient, shaped as theta. No chain sees
            another: what is NaN in one row stays there.
        """
        if theta.ndim > 1 and not self.model.batches_draws:
            # One after the other anyway: then with the activations of one alone, and no gradients of slices to gather.
            values, gradients = zip(*(self.gradient(row) for row in theta), strict=True)
            return torch.stack(values), torch.stack(gradients)
        likelihood, num_chains = self._likelihood, theta.shape[:-1].numel()
        if likelihood.shape != theta.shape:
            self._likelihood = likelihood = LikelihoodGradient(self.model, theta.shape, self._x)
        if self._data[0] != num_chains:
            self._data = num_chains, [likelihood.data(x, y) for x, y in self.chunks(num_chains)]
        with torch.no_grad():
            likelihood.load(theta)
            total: Tensor | None = None
            for i, data in enumerate(self._data[1]):
                part = likelihood(data, value, accumulate=i > 0)
                total = part if total is None or part is None else total + part
            return total, torch.addcmul(likelihood.gradient(), theta, self._precision, value=-1)

    def value(self, theta: Float[Tensor, "*chain weight"]) -> Float[Tensor, "*chain"]:
        """log p(w, y | x) at one weight vector or each of several, float64."""
        with torch.no_grad():
            chunks = self.chunks(theta.shape[:-1].numel())
            parts = [self.model.likelihood.total(self.model.outputs(theta, x), y) for x, y in chunks]
            return self.model.log_prior(theta) + torch.stack(parts).sum(0)
