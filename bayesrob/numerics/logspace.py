"""Logarithms of probabilities that are close to zero or to one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["categorical_log_likelihood", "log_mean_exp"]


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """`log(mean(exp(values)))` over `dim`, without leaving log space."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def categorical_log_likelihood(logits: Float[Tensor, "*draws batch cls"], labels: Int[Tensor, " batch"]) -> Tensor:
    """Log probability of the true class, `[*draws, batch]`, exact in value *and gradient* for confident networks.

    Written as `-softplus(logsumexp over the wrong classes - true logit)`. The usual `log_softmax(logits)[y]` has the
    derivative `1 - p_y` with respect to the true logit, which float32 rounds to exactly zero once `p_y > 1 - 6e-8`:
    the gradient of a confident network then vanishes, or points elsewhere, by rounding alone. Here that derivative is a
    sigmoid of the gap, right to relative precision down to 1e-38.
    """
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    wrong = logits.scatter(-1, index, -torch.inf).logsumexp(-1)
    true = logits.gather(-1, index).squeeze(-1)
    # Above the threshold softplus(z) is taken as z, an error of exp(-threshold): below float64's at 40, not at the default.
    return -torch.nn.functional.softplus(wrong - true, threshold=40)
