"""The full-data log joint over flat weight vectors and its gradient, in chunks of data that bound the memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.bayesian_network import BayesianNetwork
from bayesrob.nets import Stack, Workspace, feature_major
from bayesrob.numerics import chunk_size, outputs_per_example, slices
from bayesrob.numerics.chunks import MEMORY_BYTES
from bayesrob.types import Batch, Labels, Weights

__all__ = ["LogJoint"]


class LogJoint:
    """log p(w, y | x) for fixed data: what a gradient-based sampler climbs.

    Stacks of linear layers are differentiated in closed form (`nets.Stack`), other networks by autograd.

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
        self._precision = like.square().reciprocal()
        stack = Stack.of(model.net)
        self._stack = stack if stack is not None and stack.takes(self._x) else None
        if self._stack is not None:  # the same values in the order in memory that a stack wants
            self._x = feature_major(self._x).contiguous().view(*self._x.shape[1:], len(self._x)).movedim(-1, 0)
        self._workspace = Workspace()
        # What was last asked for is kept: successive steps of a trajectory ask for the same.
        self._chunks: tuple[int, list[tuple[Batch, Labels]]] = (0, [])
        self._codes: list[Tensor] = []
        self._views: tuple[Tensor, Weights] | None = None

    def chunks(self, num_chains: int = 1) -> list[tuple[Batch, Labels]]:
        """The data, as views, in as few pieces as fit the memory when `num_chains` weight vectors meet them at once."""
        at_once = num_chains if self.model.batches_draws else 1
        if self._chunks[0] != at_once:
            size = chunk_size(len(self._x), at_once * self._bytes_each, self._memory)
            self._chunks = at_once, [(self._x[s], self._y[s]) for s in slices(len(self._x), size)]
            self._codes = []
        return self._chunks[1]

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
        theta = theta if not theta.requires_grad else theta.detach()
        total, gradient = self._by_autograd(theta) if self._stack is None else self._in_closed_form(theta, value)
        return total, gradient.addcmul_(theta, self._precision, value=-1)

    @torch.no_grad()
    def _in_closed_form(self, theta: Tensor, value: bool) -> tuple[Tensor | None, Tensor]:
        """Log likelihood, if it is asked for, and its gradient."""
        assert self._stack is not None
        if self._views is None or self._views[0] is not theta:
            self._views = theta, self.model.unflatten(theta)
        weights, likelihood = self._views[1], self.model.likelihood
        gradient, total = torch.empty_like(theta), None
        into = self.model.unflatten(gradient)
        for i, (x, y) in enumerate(self.chunks(theta.shape[:-1].numel())):
            raw, kept = self._stack.forward(weights, feature_major(x), self._workspace)
            outputs = raw.mT
            if i == len(self._codes):
                self._codes.append(likelihood.encode(y, outputs))
            if value:
                part = likelihood.total(outputs, y)
                total = part if total is None else total + part
            slope = likelihood.score(outputs, self._codes[i]).mT
            self._stack.backward(weights, kept, slope, self._workspace, into, accumulate=i > 0)
        return total, gradient

    def _by_autograd(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log likelihood and its gradient."""
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
        return total, gradient

    def value(self, theta: Float[Tensor, " weight"]) -> Tensor:
        """log p(w, y | x), a float64 scalar."""
        with torch.no_grad():
            parts = [self.model.likelihood.total(self.model.outputs(theta, x), y) for x, y in self.chunks()]
            return self.model.log_prior(theta) + torch.stack(parts).sum()
