"""Predictions for many points, a batch at a time, on the same draws every time."""

from __future__ import annotations

import dataclasses

import torch

from bayesrob.numerics import slices
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Outputs

__all__ = ["BATCH", "Scorer"]

BATCH = 250
"""Points attacked and scored at once, by default."""


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores inputs: log posterior predictive probabilities on one set of draws.

    Args:
        predictive: the model that is scored.
        num_draws: number of draws that predictions average; None: the predictive's own number.
        seed: fixes the draws of a predictive drawn fresh, so that every call uses the same.
        batch_size: points predicted at once.

    Example:
        >>> scorer = br.evaluation.Scorer(post, num_draws=None, seed=0, batch_size=2)
        >>> scorer(x).shape == (len(x), 2)
        True
    """

    predictive: Predictive
    num_draws: int | None
    seed: int
    batch_size: int = BATCH

    @torch.no_grad()
    def __call__(self, inputs: Batch) -> Outputs:
        """Log posterior predictive probabilities, `[point, class]`."""
        parts = slices(len(inputs), self.batch_size)
        return torch.cat([self.predictive(inputs[part], self.num_draws, self.seed) for part in parts])
