"""The full-data log joint over one flat weight vector and its gradient, in chunks of data that bound the memory."""

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
        memory: bytes that the activations of one chunk of data may take.
    """

    def __init__(self, model: BayesianNetwork, x: Batch, y: Labels, memory: int = MEMORY_BYTES):
        self.model = model
        like = model.prior_scales
        x = x.to(like)
        y = y.to(like) if y.is_floating_point() else y.to(like.device)
        # Values of every layer, kept for the backward pass, which makes as many again.
        bytes_each = 2 * like.element_size() * outputs_per_example(model.net, x[:1])
        self.chunks = [(x[s], y[s]) for s in slices(len(x), chunk_size(len(x), bytes_each, memory))]
        self._precision = like.square().reciprocal()

    def gradient(self, theta: Float[Tensor, " weight"]) -> tuple[Tensor, Float[Tensor, " weight"]]:
        """Log *likelihood* (a float64 scalar, free with the gradient) and the gradient of the log *joint*, both detached."""
        theta = theta.detach().requires_grad_()
        total: Tensor | None = None
        gradient: Tensor | None = None
        for x, y in self.chunks:
            with torch.enable_grad():
                value = self.model.likelihood.total(self.model.outputs(theta, x), y)
                (part,) = torch.autograd.grad(value, theta)
            total = value.detach() if total is None else total + value.detach()
            gradient = part if gradient is None else gradient.add_(part)
        assert total is not None
        assert gradient is not None
        return total, gradient.addcmul_(theta.detach(), self._precision, value=-1)

    def value(self, theta: Float[Tensor, " weight"]) -> Tensor:
        """log p(w, y | x), a float64 scalar."""
        with torch.no_grad():
            parts = [self.model.likelihood.total(self.model.outputs(theta, x), y) for x, y in self.chunks]
            return self.model.log_prior(theta) + torch.stack(parts).sum()
