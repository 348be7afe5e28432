"""Weighted sums of class scores, as objectives: their gradients are the rows of a classifier's Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from bayesrob.models import Likelihood
from bayesrob.predictive import DrawMean, Objective, Pooled
from bayesrob.types import DrawLogits, Labels

__all__ = ["SURFACES", "Average", "ClassWeights", "ClassWeightsPerDraw"]

Average = Literal["probabilities", "logits"]
"""What is averaged over draws before the decision boundaries are linearised."""


class ClassWeights(Pooled):
    """A weighted sum of the log predictive probabilities.

    Args:
        weights: `[batch, class]`.
    """

    def __init__(self, weights: Tensor):
        self.weights = weights

    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        return (self.weights * log_predictive).sum(-1)


class ClassWeightsPerDraw(DrawMean):
    """A weighted sum of the draws' mean log probabilities, whose differences are those of the mean logits.

    Args:
        weights: `[batch, class]`.
    """

    def __init__(self, weights: Tensor):
        self.weights = weights

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return (self.weights * outputs.log_softmax(-1)).sum(-1)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        return self.weights - outputs.softmax(-1) * self.weights.sum(-1, keepdim=True)


SURFACES: dict[Average, Callable[[Tensor], Objective]] = {"probabilities": ClassWeights, "logits": ClassWeightsPerDraw}
"""The function whose decision boundaries an attack linearises, by what is averaged over draws.

The boundaries of the averaged probabilities are those of the prediction itself, but where every draw is confident they have
no slope. Those of the averaged logits lie near them, and every draw contributes. Success is judged by the prediction in
either case.
"""
