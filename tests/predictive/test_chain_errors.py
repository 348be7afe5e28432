"""Standard errors of averaged gradients over Markov chains: each chain is a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bayesrob.analysis import gradient_statistics
from bayesrob.predictive import HeldDraws
from tests.predictive.helpers import data, held, in_chunks_of

STATS = {"accepted": np.ones((4, 6), bool)}


def as_chains(num_chains: int = 4, stats: dict | None = None) -> HeldDraws:
    post = held(num_draws=24)
    post.num_chains, post.sample_stats = num_chains, STATS if stats is None else stats
    return post


@pytest.mark.parametrize("size", [1, 5, 24])
@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_the_errors_are_those_of_gradient_statistics(monkeypatch, objective, size):
    """Streamed over any chunks, they are what numpy makes of all the draws' gradients at once."""
    post = as_chains()
    x, y = data()
    losses, gradients = post.draw_gradients(x, y)
    expected = gradient_statistics(gradients.numpy(), -losses.numpy(), [24], num_chains=4).sel(objective=objective)
    in_chunks_of(monkeypatch, size)
    mean, error = post.input_gradient(x, y, objective, standard_error=True)
    np.testing.assert_allclose(mean.flatten(1), expected["gradient"].squeeze("num_draws"), rtol=1e-10, atol=1e-14)
    norms = error.flatten(1).norm(dim=1)
    np.testing.assert_allclose(norms, expected["standard_error"].squeeze("num_draws"), rtol=1e-10)


@pytest.mark.parametrize("post", [as_chains(num_chains=3), as_chains(stats={})], ids=["three chains", "no chains"])
def test_fewer_chains_and_other_draws_are_independent(post):
    x, y = data()
    _, gradients = post.draw_gradients(x, y)
    error = post.input_gradient(x, y, standard_error=True)[1]
    torch.testing.assert_close(error, gradients.std(0) / math.sqrt(24))
