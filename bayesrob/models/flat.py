"""The full-data log joint over flat weight vectors and its gradient, in chunks of data that bound the memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.bayesian_network import BayesianNetwork
from bayesrob.numerics import chunk_size, outputs_per_example, slices
from bayesrob.numerics.chunks import MEMORY_BYTES
from bayesrob.types import Batch, Labels

__all__ = ["LogJoint"]


class LogJoint:
    """log p(w, y | x) for fixed data: what a gradient-based sampler climbs.

    Args:
        model: the Bayesian network. x: `[n, *shape]`. y: labels. Both are converted to the model's dtype and device.
        memory: bytes that the activations of one chunk of data may take, in all chains together.
    """

    def __init__(self, model: BayesianNetwork, x: Batch, y: Labels, memory: int = MEMORY_BYTES):
        self.model = model
        like = model.prior_scales
        self._x = x.to(like)
        self._y = y.to(like) if y.is_floating_point() else y.to(like.device)
        self._memory = memory
        # Values of every layer, kept for the backward pass, which makes as many again.
        self._bytes_each = 2 * like.element_size() * outputs_per_example(model.net, self._x[:1])
        self._chunks: tuple[int, list[tuple[Tensor, Tensor]]] = (0, [])  # those that were last asked for
        self._precision = like.square().reciprocal()

    def chunks(self, num_chains: int = 1) -> list[tuple[Batch, Labels]]:
        """The data, as views, in as few pieces as fit the memory when `num_chains` weight vectors meet them at once."""
        at_once = num_chains if self.model.batches_draws else 1
        if self._chunks[0] != at_once:
            size = chunk_size(len(self._x), at_once * self._bytes_each, self._memory)
            self._chunks = at_once, [(self._x[s], self._y[s]) for s in slices(len(self._x), size)]
        return self._chunks[1]

    def gradient(
        self, theta: Float[Tensor, "*chain weight"]
    ) -> tuple[Float[Tensor, "*chain"], Float[Tensor, "*chain weight"]]:
        """Log *likelihood* and the gradient of the log *joint*, both detached, at one weight vector or each of several.

        Returns:
            The log likelihood in float64, a scalar or `[chain]` (free with the gradient), and the gradient, shaped as theta.
            No chain sees another: what is NaN in one row stays there.
        """
        if theta.ndim > 1 and not self.model.batches_draws:
            # One after the other anyway: then with the activations of one alone, and no gradients of slices to gather.
            values, gradients = zip(*(self.gradient(row) for row in theta), strict=True)
            return torch.stack(values), torch.stack(gradients)
        theta = theta.detach().requires_grad_()
        total: Tensor | None = None
        gradient: Tensor | None = None
        for x, y in self.chunks(theta.shape[:-1].numel()):
            with torch.enable_grad():
                value = self.model.likelihood.total(self.model.outputs(theta, x), y)
                (part,) = torch.autograd.grad(value, theta, torch.ones_like(value))  # rows do not mix: each its own
            total = value.detach() if total is None else total + value.detach()
            gradient = part if gradient is None else gradient.add_(part)
        assert total is not None
        assert gradient is not None
        return total, gradient.addcmul_(theta.detach(), self._precision, value=-1)

    def value(self, theta: Float[Tensor, " weight"]) -> Tensor:
        """log p(w, y | x), a float64 scalar."""
        with torch.no_grad():
            parts = [self.model.likelihood.total(self.model.outputs(theta, x), y) for x, y in self.chunks()]
            return self.model.log_prior(theta) + torch.stack(parts).sum()
