"""The full-data log joint over flat weight vectors and its gradient, in chunks of data that bound the memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.bayesian_network import BayesianNetwork
from bayesrob.nets import Stack, Workspace, feature_major
from bayesrob.numerics import chunk_size, outputs_per_example, slices
from bayesrob.numerics.chunks import MEMORY_BYTES
from bayesrob.types import Batch, Labels

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
        self._parts: list[tuple[Tensor, Labels, Tensor]] = []
        self._bound: _Bound | None = None

    def chunks(self, num_chains: int = 1) -> list[tuple[Batch, Labels]]:
        """The data, as views, in as few pieces as fit the memory when `num_chains` weight vectors meet them at once."""
        at_once = num_chains if self.model.batches_draws else 1
        if self._chunks[0] != at_once:
            size = chunk_size(len(self._x), at_once * self._bytes_each, self._memory)
            self._chunks = at_once, [(self._x[s], self._y[s]) for s in slices(len(self._x), size)]
            self._parts = []
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
        return self._by_autograd(theta) if self._stack is None else self._in_closed_form(theta, value)

    @torch.no_grad()
    def _in_closed_form(self, theta: Tensor, value: bool) -> tuple[Tensor | None, Tensor]:
        """Log likelihood, if it is asked for, and the gradient of the log joint."""
        assert self._stack is not None
        if self._bound is None or self._bound.theta.shape != theta.shape:
            self._bound = _Bound(self.model, self._stack, theta)
        bound, likelihood, total = self._bound, self.model.likelihood, None
        bound.theta.copy_(theta)
        chunks = self.chunks(theta.shape[:-1].numel())
        for i in range(len(chunks)):
            x = feature_major(chunks[i][0]) if i == len(self._parts) else self._parts[i][0]
            raw, kept = self._stack.forward(bound.weights, x, self._workspace)
            outputs = raw.mT
            if i == len(self._parts):
                self._parts.append((x, chunks[i][1], likelihood.encode(chunks[i][1], outputs)))
            _, y, code = self._parts[i]
            if value:
                part = likelihood.total(outputs, y)
                total = part if total is None else total + part
            slope = likelihood.score(outputs, code).mT
            self._stack.backward(bound.weights, kept, slope, self._workspace, bound.gradients, accumulate=i > 0)
        return total, torch.addcmul(bound.gradient, theta, self._precision, value=-1)

    def _by_autograd(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log likelihood, and the gradient of the log joint."""
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


class _Bound:
    """A flat weight vector (or several) and the gradient of its likelihood, in memory of their own with all views made once.

    A vector is copied here and the views are not made anew: at small sizes they cost as much as the products.
    """

    def __init__(self, model: BayesianNetwork, stack: Stack, theta: Tensor):
        self.theta, self.gradient = torch.empty_like(theta), torch.empty_like(theta)
        self.weights = stack.bind(model.unflatten(self.theta))
        self.gradients = stack.bind(model.unflatten(self.gradient))
