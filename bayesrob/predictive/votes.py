"""Classes by majority vote: every draw counts once, however sure it is."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bayesrob.errors import BayesrobError, InputError
from bayesrob.models import Categorical, Likelihood
from bayesrob.predictive.gradients import DrawsFunction
from bayesrob.types import Batch, Outputs

__all__ = ["check_votes", "majority", "shares"]


def check_votes(likelihood: Likelihood) -> None:
    """Raise `InputError` unless there are classes to vote for."""
    if not isinstance(likelihood, Categorical):
        raise InputError(
            f"A vote with a {likelihood.name} likelihood.", "Draws vote for classes.", "Use post(x), the posterior mean."
        )


def shares(chunks: Iterable[DrawsFunction], x: Batch) -> Outputs:
    """Share of the draws that vote for each class, `[batch, class]`; only one chunk's outputs are in memory at a time."""
    counts, num_draws = None, 0
    with torch.no_grad():
        for chunk in chunks:
            logits = chunk(x)
            if bool(logits.isnan().any()):
                raise BayesrobError(
                    f"The outputs of {int(logits.isnan().flatten(1).any(1).sum())} draws hold NaN.",
                    "They would vote for class 0.",
                    "Check these draws' weights.",
                )
            cast = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).sum(0)
            counts, num_draws = cast if counts is None else counts + cast, num_draws + len(logits)
    assert counts is not None
    return counts.to(x.dtype) / num_draws


def majority(votes: Tensor, log_probabilities: Tensor | None = None) -> Tensor:
    """Return the class with most votes, `[batch]`.

    Args:
        votes: `[batch, class]`, from `Predictive.vote`.
        log_probabilities: `[batch, class]`, `post(x)` of the same draws: of classes with equally many votes the most
            probable one is taken. None: that with the smallest number, as `votes.argmax(-1)` does, which over many ties
            favours small numbers.

    Raises:
        InputError: numbers that are NaN.

    Example:
        >>> br.predictive.majority(post.vote(x), post(x)).shape
        torch.Size([5])
    """
    for name, values in (("votes", votes), ("log_probabilities", log_probabilities)):
        if values is not None and bool(values.isnan().any()):
            raise InputError(f"{name} holds NaN.", "No class is larger than that.", "Check the model's outputs.")
    if log_probabilities is None:
        return votes.argmax(-1)
    return log_probabilities.masked_fill(votes < votes.amax(-1, keepdim=True), -torch.inf).argmax(-1)
