"""How far an averaged input gradient is from that of infinitely many draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.models import Likelihood
from bayesrob.numerics import per_point
from bayesrob.predictive.gradients import Stream, draw_gradients
from bayesrob.predictive.objectives import DrawMean, ExpectedLoss, Objective, PredictiveLoss
from bayesrob.types import Batch, Labels

__all__ = ["gradient_with_error"]


def gradient_with_error(
    stream: Stream, x: Batch, y: Labels, objective: Objective, likelihood: Likelihood, *, num_chains: int | None = None
) -> tuple[Batch, Batch]:
    """The averaged gradient and its Monte Carlo standard error, component by component.

    The predictive loss's gradient is the self-normalised average sum_d p_d g_d / sum_d p_d, p_d the draw's likelihood of
    the true label; of a mean all weights are equal. With S_b the sum over batch b of each draw's w_d (g_d - g), and W the
    sum of all weights, the error is sqrt(B/(B-1) sum_b S_b^2) / W: the delta method (Owen 2013, "Monte Carlo theory,
    methods and examples", equation 9.8) with batch means. Sums are kept in float64. One draw has no error: NaN.

    Args:
        stream: the draws, in chunks.
        x: inputs `[batch, *shape]`.
        y: true labels.
        objective: "expected_loss" or "predictive_loss", as an object.
        likelihood: what the outputs say about a label.
        num_chains: None: draws are independent, each a batch. k: draws d, d + k, ... are of one chain, and each chain is a
            batch, which its correlation does not fool.
    """
    if not isinstance(objective, DrawMean | PredictiveLoss):
        raise InputError(
            f"No standard error for the objective {type(objective).__name__}.",
            "It is not an average of the draws' gradients.",
            'Ask for it with "expected_loss" or "predictive_loss".',
        )
    weighted = isinstance(objective, PredictiveLoss)
    sums = _ChainSums(num_chains) if num_chains is not None else _DrawSums()
    top = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
    for values, g in draw_gradients(stream(), x, y, ExpectedLoss() if weighted else objective, likelihood):
        # Weights relative to the largest so far.
        log_weight = -values.double() if weighted else torch.zeros_like(values, dtype=torch.float64)
        new_top = torch.maximum(top, log_weight.amax(0))
        sums.add(per_point((top - new_top).exp(), x), per_point((log_weight - new_top).exp(), g), g.double())
        top = new_top
    mean, variance = sums.result()
    return mean.to(x.dtype), variance.sqrt().to(x.dtype)


class _DrawSums:
    """Sums over draws of w, w g, w^2, w^2 g and w^2 g^2: every draw is a batch."""

    def __init__(self) -> None:
        self.sums: list[Tensor | float] = [0.0] * 5
        self.count = 0

    def add(self, fade: Tensor, w: Tensor, g: Tensor) -> None:
        self.count += len(g)
        parts = (w, w * g, w**2, w**2 * g, w**2 * g**2)
        powers = (1, 1, 2, 2, 2)
        self.sums = [fade**k * old + part.sum(0) for k, old, part in zip(powers, self.sums, parts, strict=True)]

    def result(self) -> tuple[Tensor, Tensor]:
        total, first, w2, w2g, w2g2 = self.sums
        mean = torch.as_tensor(first / total)
        spread = torch.as_tensor(w2g2 - 2 * mean * w2g + mean**2 * w2).clamp(min=0)
        correction = self.count / (self.count - 1) if self.count > 1 else math.nan
        return mean, spread * correction / total**2


class _ChainSums:
    """Sums over the draws of each chain of w and w g, `[chain, ...]`: every chain is a batch."""

    def __init__(self, num_chains: int):
        self.num_chains, self.count = num_chains, 0
        self.w: Tensor | float = 0.0
        self.wg: Tensor | float = 0.0

    def add(self, fade: Tensor, w: Tensor, g: Tensor) -> None:
        chain = torch.arange(self.count, self.count + len(g), device=g.device) % self.num_chains
        self.count += len(g)
        empty = g.new_zeros(self.num_chains, *g.shape[1:])
        self.w = fade * self.w + empty.index_add(0, chain, w.expand_as(g))
        self.wg = fade * self.wg + empty.index_add(0, chain, w * g)

    def result(self) -> tuple[Tensor, Tensor]:
        w, wg = torch.as_tensor(self.w), torch.as_tensor(self.wg)
        total = w.sum(0)
        mean = wg.sum(0) / total
        correction = self.num_chains / (self.num_chains - 1)
        return mean, (wg - w * mean).square().sum(0) * correction / total**2
