"""Gradients of an objective with respect to the input, streamed over chunks of draws.

Only the input requires a gradient, so autograd never computes one for a weight, and memory does not grow with the
number of draws. A stream can be iterated again and then gives the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.models import Likelihood
from bayesrob.predictive.objectives import DrawMean, ExpectedLoss, Objective, Pooled, PredictiveLoss
from bayesrob.types import Batch, Labels

__all__ = ["DrawsFunction", "Stream", "draw_gradients", "gradient", "gradient_with_error"]


@runtime_checkable
class DrawsFunction(Protocol):
    """A few draws as one function: outputs `[chunk, batch, out]`."""

    @property
    def num_draws(self) -> int: ...

    def __call__(self, x: Tensor, per_draw: bool = False) -> Tensor:
        """`x` is `[batch, *shape]`, or with `per_draw` `[chunk, batch, *shape]`, one batch for each draw."""
        ...


Stream = Callable[[], Iterable[DrawsFunction]]
"""Starts over at the first chunk each time it is called."""


def gradient(stream: Stream, num_draws: int, x: Batch, y: Labels, objective: Objective, likelihood: Likelihood) -> Batch:
    """d objective(x_n) / d x_n for every point n (each point's own gradient: no 1/batch)."""
    if isinstance(objective, DrawMean):
        total = torch.zeros_like(x)
        for f in stream():
            total += _grad(lambda xs, f=f: objective.per_draw(f(xs), y, likelihood), x)[1]
        return total / num_draws
    if isinstance(objective, PredictiveLoss):
        return _predictive_loss(stream, x, y, likelihood)
    assert isinstance(objective, Pooled)
    return _pooled(stream, num_draws, x, y, objective)


def _grad(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Values of `loss(x)` and the gradient of their sum, both detached."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        values = loss(x)
        (g,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), g


def _predictive_loss(stream: Stream, x: Batch, y: Labels, likelihood: Likelihood) -> Batch:
    """One pass: the gradient of a log-sum-exp over all draws is the average, weighted by the chunks' own sums, of theirs."""
    log_sum: Tensor | None = None
    mean = torch.zeros_like(x)
    for f in stream():
        chunk_sum, chunk_mean = _grad(lambda xs, f=f: likelihood.log_prob(f(xs), y).logsumexp(0), x)
        new_sum = chunk_sum if log_sum is None else torch.logaddexp(log_sum, chunk_sum)
        if log_sum is not None:
            mean *= _per_point((log_sum - new_sum).exp(), x)
        mean += chunk_mean * _per_point((chunk_sum - new_sum).exp(), x)
        log_sum = new_sum
    return -mean


def _pooled(stream: Stream, num_draws: int, x: Batch, y: Labels, objective: Pooled) -> Batch:
    """Two passes: the averaged prediction without gradients, then each chunk's share of its gradient (chain rule)."""
    log_predictive: Tensor | None = None
    with torch.no_grad():
        for f in stream():
            chunk = f(x).log_softmax(-1).logsumexp(0) - math.log(num_draws)
            log_predictive = chunk if log_predictive is None else torch.logaddexp(log_predictive, chunk)
    assert log_predictive is not None
    pooled = log_predictive
    _, outer = _grad(lambda value: objective.loss(value, y), pooled)

    def share(f: DrawsFunction, xs: Tensor) -> Tensor:
        log_probabilities = f(xs).log_softmax(-1)
        weight = (log_probabilities.detach() - pooled).exp() * (outer / num_draws)
        return (weight * log_probabilities).sum(-1)

    total = torch.zeros_like(x)
    for f in stream():
        total += _grad(lambda xs, f=f: share(f, xs), x)[1]
    return total


def draw_gradients(
    functions: Iterable[DrawsFunction], x: Batch, y: Labels, objective: Objective, likelihood: Likelihood
) -> Iterator[tuple[Tensor, Tensor]]:
    """Losses `[chunk, batch]` and input gradients `[chunk, batch, *shape]` of each chunk's draws, every draw its own."""
    if not isinstance(objective, DrawMean):
        raise InputError(
            f"The objective {type(objective).__name__} of single draws.",
            "It is not a mean over draws.",
            'Use "expected_loss": the gradients of the other objectives are made of those.',
        )
    for f in functions:
        # A copy of the input for each draw, or autograd would sum their gradients.
        xs = x.expand(f.num_draws, *x.shape).contiguous()
        yield _grad(lambda xs, f=f: objective.per_draw(f(xs, per_draw=True), y, likelihood), xs)


def gradient_with_error(
    stream: Stream, x: Batch, y: Labels, objective: Objective, likelihood: Likelihood
) -> tuple[Batch, Batch]:
    """The averaged gradient and its Monte Carlo standard error, component by component, draws taken as independent.

    A mean over draws has the standard error s / sqrt(D), s the draws' sample standard deviation. The predictive loss's
    gradient is the self-normalised average sum_d p_d g_d / sum_d p_d, p_d the draw's likelihood of the true label, with
    the delta-method error sqrt(D/(D-1) sum_d p_d^2 (g_d - g)^2) / sum_d p_d (Owen 2013, "Monte Carlo theory, methods and
    examples", equation 9.8). Sums are kept in float64. One draw has no error: NaN.
    """
    if not isinstance(objective, DrawMean | PredictiveLoss):
        raise InputError(
            f"No standard error for the objective {type(objective).__name__}.",
            "It is not an average of the draws' gradients.",
            'Ask for it with "expected_loss" or "predictive_loss".',
        )
    weighted = isinstance(objective, PredictiveLoss)
    averaged = ExpectedLoss() if weighted else objective

    # Sums over draws of w, w g, w^2, w^2 g and w^2 g^2 with w_d = p_d (1 for a mean), relative to the largest p_d so far.
    powers = (1, 1, 2, 2, 2)
    sums = [_per_point(torch.zeros(len(x), dtype=torch.float64, device=x.device), x)] * 5
    top = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
    num_draws = 0
    for values, g in draw_gradients(stream(), x, y, averaged, likelihood):
        num_draws += len(values)
        log_weight = -values.double() if weighted else torch.zeros_like(values, dtype=torch.float64)
        new_top = torch.maximum(top, log_weight.amax(0))
        fade = (top - new_top).exp()
        top = new_top
        w, g = _per_point((log_weight - top).exp(), g), g.double()
        parts = (w, w * g, w**2, w**2 * g, w**2 * g**2)
        sums = [_per_point(fade**k, x) * old + part.sum(0) for k, old, part in zip(powers, sums, parts, strict=True)]
    total, mean, w2, w2g, w2g2 = sums
    mean = mean / total
    spread = (w2g2 - 2 * mean * w2g + mean**2 * w2).clamp(min=0)
    correction = num_draws / (num_draws - 1) if num_draws > 1 else math.nan
    return mean.to(x.dtype), ((spread * correction).sqrt() / total).to(x.dtype)


def _per_point(values: Tensor, like: Tensor) -> Tensor:
    """`values` with trailing axes of length one, to multiply `like`."""
    return values.reshape(*values.shape, *(1,) * (like.ndim - values.ndim))
