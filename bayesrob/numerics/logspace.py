"""Logarithms of probabilities that are close to zero or to one."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.numerics.negligible import Rescaled, drop_negligible, negligible

__all__ = ["categorical_log_likelihood", "categorical_score", "log_mean_exp", "log_softmax", "rescaled_categorical_score"]

THRESHOLD = 40
"""Above it softplus(z) is taken as z, an error of exp(-threshold): below float64's at 40, not at torch's default of 20."""


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """`log(mean(exp(values)))` over `dim`, without leaving log space."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def log_softmax(logits: Float[Tensor, "*draws batch cls"]) -> Tensor:
    """`logits.log_softmax(-1)`, along the memory where classes are strided: 20 times as fast for two classes."""
    strided = logits.ndim > 1 and logits.mT.is_contiguous()
    return logits.mT.log_softmax(-2).mT if strided else logits.log_softmax(-1)


def categorical_score(
    logits: Float[Tensor, "*draws batch cls"],
    one_hot: Float[Tensor, "*own batch cls"],
    logs: Float[Tensor, "*draws batch cls"] | None = None,
) -> Tensor:
    """Derivative of the true class's log probability with respect to the logits: one_hot - p, exact for confident networks.

    The true class's own, 1 - p_y, is the sum of the other probabilities, right to relative precision as they are: it is the
    derivative of `categorical_log_likelihood`, except that `negligible` probabilities count as zero. Memory is laid out as
    that of the logits. `logs`, their `log_softmax`, saves time where it is known; it is overwritten.
    """
    wrong = _probabilities(logits) if logs is None else _probabilities_of(logs)
    wrong.addcmul_(wrong, one_hot, value=-1)
    return wrong.neg_().addcmul_(one_hot, wrong.sum(-1, keepdim=True), value=-1)


def rescaled_categorical_score(
    logits: Float[Tensor, "*draws batch cls"], is_true: Bool[Tensor, "*own batch cls"]
) -> Rescaled:
    """`categorical_score` with its size apart, the largest wrong class's probability: exact however small."""
    logs = logits.double().log_softmax(-1).masked_fill(is_true, -torch.inf)
    log_size = logs.amax(-1)
    wrong = (logs - log_size.unsqueeze(-1)).exp_()
    slope = torch.where(is_true, wrong.sum(-1, keepdim=True), -wrong)
    return Rescaled(slope.to(logits.dtype), log_size)


def _probabilities(logits: Tensor) -> Tensor:
    """The softmax, where it is not negligible. Logits far below the largest are raised: no denormal arises on the way."""
    floor = logits.amax(-1, keepdim=True).add_(math.log(torch.finfo(logits.dtype).tiny) + 4)
    raised = torch.maximum(logits, floor)
    strided = raised.ndim > 1 and raised.mT.is_contiguous()
    return drop_negligible(raised.mT.softmax(-2).mT if strided else raised.softmax(-1), positive=True)


def _probabilities_of(logs: Tensor) -> Tensor:
    """Their exponential, in place, where it is not negligible."""
    size = negligible(logs.dtype)
    return (torch.threshold_(logs, math.log(size), -torch.inf) if size else logs).exp_()


def categorical_log_likelihood(logits: Float[Tensor, "*draws batch cls"], labels: Int[Tensor, " batch"]) -> Tensor:
    """Log probability of the true class, `[*draws, batch]`, exact in value *and gradient* for confident networks.

    Written as `-softplus(logsumexp over the wrong classes - true logit)`. The usual `log_softmax(logits)[y]` has the
    derivative `1 - p_y` with respect to the true logit, which float32 rounds to exactly zero once `p_y > 1 - 6e-8`:
    the gradient of a confident network then vanishes, or points elsewhere, by rounding alone. Here that derivative is a
    sigmoid of the gap, right to relative precision down to 1e-38.
    """
    return _CategoricalLogLikelihood.apply(logits, labels)


class _CategoricalLogLikelihood(torch.autograd.Function):
    """The formula with its derivative in closed form: half the passes over `[draw, batch, cls]` that autograd makes."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        wrong, log_sum, true = _parts(logits, labels)
        gap = log_sum - true
        ctx.save_for_backward(logits, labels, wrong, log_sum, gap)
        return -torch.nn.functional.softplus(gap, threshold=THRESHOLD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, labels, wrong, log_sum, gap = ctx.saved_tensors
        if torch.is_grad_enabled():  # a Hessian is wanted: through the logits, not through what forward kept of them
            wrong, log_sum, true = _parts(logits, labels)
            gap = log_sum - true
        shares = (wrong - log_sum.unsqueeze(-1)).exp()
        one_hot = wrong.new_zeros(wrong.shape[-2:]).scatter_(-1, labels.unsqueeze(-1), 1.0)
        return (one_hot - shares) * (gap.sigmoid() * gradients[0]).unsqueeze(-1), None


def _parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with the true class at -inf, their log-sum-exp, and the true logit."""
    index = labels.unsqueeze(-1)
    wrong = logits + logits.new_zeros(logits.shape[-2:]).scatter_(-1, index, -torch.inf)
    return wrong, wrong.logsumexp(-1), logits.gather(-1, index.expand(*logits.shape[:-1], 1)).squeeze(-1)
