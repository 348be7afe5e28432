"""Gradients of an objective with respect to the input, streamed over chunks of draws.

Only the input requires a gradient, so none is ever computed for a weight, and memory does not grow with the number of
draws. The objective is differentiated with respect to the outputs, the network from there to the input (`vjp`). A stream
can be iterated again and then gives the same draws.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.models import Likelihood
from bayesrob.nets import feature_major
from bayesrob.numerics import Rescaled, drop_negligible, faint, log_softmax, rescaled
from bayesrob.predictive.kinds import AboutMean, DrawMean, MeanOutputs, Objective, Pooled, value_and_slope
from bayesrob.predictive.objectives import PredictiveLoss
from bayesrob.predictive.summing import InputSum, multiplied
from bayesrob.types import Batch, DrawLogits, Labels, Outputs

__all__ = [
    "DrawsFunction",
    "LogPredictive",
    "Pullback",
    "Stream",
    "autograd_vjp",
    "draw_gradients",
    "gradient",
]


type Pullback = Callable[[Tensor, Tensor], None]
"""`pullback(slope, into)` adds the derivative with respect to the input to `into`, which has the input's shape.

`slope` is the derivative with respect to the outputs, `[chunk, batch, out]`; it is overwritten. The sum is over draws where
they share the input. A pullback is called once."""


@runtime_checkable
class DrawsFunction(Protocol):
    """A chunk of draws as one function of the input, with outputs `[chunk, batch, out]`."""

    @property
    def num_draws(self) -> int:
        """Number of draws in the chunk."""
        ...

    def __call__(self, x: Tensor, per_draw: bool = False) -> Tensor:
        """Return the outputs at `x`.

        Args:
            x: inputs `[batch, *shape]`, or with `per_draw` `[chunk, batch, *shape]`.
            per_draw: whether every draw has inputs of its own.
        """
        ...

    def vjp(self, x: Tensor, per_draw: bool = False) -> tuple[Tensor, Pullback]:
        """Return the outputs, detached, and how a derivative with respect to them becomes one with respect to the input.

        Both may share memory with those of the next chunk, so they must be used before it is computed.

        Args:
            x: as in `__call__`.
            per_draw: as in `__call__`.
        """
        ...


def autograd_vjp(
    f: DrawsFunction, x: Tensor, per_draw: bool = False, dtype: torch.dtype | None = None
) -> tuple[Tensor, Pullback]:
    """`f.vjp` of any network, by autograd.

    Args:
        f: the draws.
        x: as in `DrawsFunction`.
        per_draw: as in `DrawsFunction`.
        dtype: what torch's autocast rounds factors of products to. None: nothing is rounded.
    """
    with torch.enable_grad(), torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        leaf = x.detach().requires_grad_()
        outputs = f(leaf, per_draw)

    def pullback(slope: Tensor, into: Tensor) -> None:
        into.add_(torch.autograd.grad(outputs, leaf, slope.to(outputs.dtype))[0])

    return outputs.detach().to(x.dtype), pullback


Stream = Callable[[], Iterable[DrawsFunction]]
"""Yields the draws in chunks, from the first one at each call."""


class LogPredictive:
    """The log of the mean over draws of their probabilities, `[batch, cls]`, summed up chunk by chunk."""

    loss: Float[Tensor, " batch"]
    """The objective of each point; set by the gradient in whose passes the prediction is summed up."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, outputs: DrawLogits) -> None:
        """Add the outputs of one chunk of draws."""
        chunk = log_softmax(outputs).logsumexp(0)
        self._sum = chunk if self._sum is None else torch.logaddexp(self._sum, chunk)
        self._count += len(outputs)

    @property
    def value(self) -> Outputs:
        """The log predictive probabilities `[batch, cls]` of the draws added so far."""
        assert self._sum is not None
        return self._sum - math.log(self._count)


@torch.no_grad()
def gradient(
    stream: Stream,
    x: Batch,
    y: Labels,
    objective: Objective,
    likelihood: Likelihood,
    *,
    num_draws: int,
    prediction: LogPredictive | None = None,
    scaled: bool = False,
) -> Batch:
    """d objective(x_n) / d x_n for every point n (each point's own gradient: no 1/batch).

    Args:
        stream: the draws, in chunks.
        x: inputs `[batch, *shape]`.
        y: true labels.
        objective: what is differentiated.
        likelihood: what the outputs say about a label.
        num_draws: how many draws the stream has.
        prediction: for a classifier, where the averaged prediction at `x` is summed up in the same pass.
        scaled: True: each point's gradient may have a positive factor, with which its direction is not lost in float32.
    """
    x = x.detach()
    if num_draws > 1:  # in the order in memory that batched products want; sums take it over
        x = feature_major(x).contiguous().view(*x.shape[1:], len(x)).movedim(-1, 0)
    sums = InputSum(x)
    if isinstance(objective, Pooled):
        pooled = LogPredictive() if prediction is None else prediction
        _pooled(stream, x, y, objective, sums, num_draws=num_draws, prediction=pooled)
        return sums.result(scaled=scaled)
    if isinstance(objective, PredictiveLoss):
        _predictive_loss(stream, x, y, likelihood, sums, num_draws=num_draws, prediction=prediction)
        return sums.result(scaled=scaled).neg_()
    if isinstance(objective, AboutMean):  # two passes; the first needs no gradient
        mean = MeanOutputs()
        for f in stream():
            mean.add(f.vjp(x)[0])
        objective = objective.about(mean.value)
    assert isinstance(objective, DrawMean)
    mean, loss = objective, x.new_zeros(len(x))
    for f in stream():
        outputs, pullback = f.vjp(x)
        if prediction is not None:
            prediction.add(outputs)
            loss += mean.per_draw(outputs, y, likelihood).sum(0)
        apart = functools.partial(mean.rescaled_slope, outputs, y, likelihood)
        sums.add(mean.slope(outputs, y, likelihood), apart, pullback)
    if prediction is not None:
        prediction.loss = loss / num_draws
    return sums.result(scaled=scaled).div_(num_draws)


def _predictive_loss(
    stream: Stream,
    x: Batch,
    y: Labels,
    likelihood: Likelihood,
    sums: InputSum,
    *,
    num_draws: int,
    prediction: LogPredictive | None,
) -> None:
    """One pass: the gradient of a log-sum-exp over all draws averages those of the chunks, weighted by their sums."""
    log_sum: Tensor | None = None
    for f in stream():
        outputs, pullback = f.vjp(x)
        if prediction is not None:
            prediction.add(outputs)
        log_prob = likelihood.log_prob(outputs, y)
        chunk_sum = log_prob.logsumexp(0)
        new_sum = chunk_sum if log_sum is None else torch.logaddexp(log_sum, chunk_sum)
        if log_sum is not None:
            sums.fade(log_sum - new_sum)
        log_weight, code = log_prob - new_sum, likelihood.encode(y, outputs.shape[-1], outputs)
        apart = functools.partial(_weighted_score, likelihood, outputs, code, log_weight)
        sums.add(likelihood.score(outputs, code).mul_(log_weight.exp().unsqueeze(-1)), apart, pullback)
        log_sum = new_sum
    if prediction is not None and log_sum is not None:
        prediction.loss = math.log(num_draws) - log_sum


def _weighted_score(likelihood: Likelihood, outputs: Tensor, code: Tensor, log_weight: Tensor) -> Rescaled:
    score, log_size = likelihood.rescaled_score(outputs, code)
    return Rescaled(score, log_size + log_weight)


def _pooled(
    stream: Stream, x: Batch, y: Labels, objective: Pooled, sums: InputSum, *, num_draws: int, prediction: LogPredictive
) -> None:
    """Two passes: the averaged prediction without gradients, then each chunk's share of its gradient (chain rule)."""
    for f in stream():
        prediction.add(f.vjp(x)[0])
    log_predictive = prediction.value
    prediction.loss, outer = value_and_slope(lambda value: objective.loss(value, y), log_predictive)
    outer /= num_draws
    for f in stream():
        outputs, pullback = f.vjp(x)
        log_probabilities = log_softmax(outputs)
        weight = (log_probabilities - log_predictive).exp_().mul_(outer)
        slope = weight.addcmul_(log_probabilities.exp_(), weight.sum(-1, keepdim=True), value=-1)
        sums.add(slope, functools.partial(rescaled, slope), pullback)


def draw_gradients(
    functions: Iterable[DrawsFunction], x: Batch, y: Labels, objective: Objective, likelihood: Likelihood
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the losses `[chunk, batch]` and input gradients `[chunk, batch, *shape]` of every draw, chunk by chunk.

    Args:
        functions: the draws, in chunks.
        x: inputs `[batch, *shape]`.
        y: true labels.
        objective: a mean over draws.
        likelihood: what the outputs say about a label.

    Raises:
        InputError: an objective that is not a mean over draws.
    """
    if not isinstance(objective, DrawMean):
        raise InputError(
            f"{type(objective).__name__} is no objective of single draws.",
            "It is not a mean over draws.",
            'Use "expected_loss": the gradients of the other objectives are made of those.',
        )
    x = x.detach()
    for f in functions:
        with torch.no_grad():
            # A copy of the input for each draw, or their gradients would be summed.
            outputs, pullback = f.vjp(x.expand(f.num_draws, *x.shape), per_draw=True)
            values = objective.per_draw(outputs, y, likelihood)
            slope = objective.slope(outputs, y, likelihood)
            is_faint, apart = slope.abs().amax(-1) < faint(slope.dtype), None
            if bool(is_faint.any()):
                apart = objective.rescaled_slope(outputs, y, likelihood)
                slope = torch.where(is_faint.unsqueeze(-1), apart.slope, slope)
            g = x.new_zeros(f.num_draws, *x.shape)
            pullback(drop_negligible(slope), g)
            if apart is not None:
                multiplied(g, torch.where(is_faint, apart.log_size, 0.0))
        yield values, g
