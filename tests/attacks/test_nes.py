"""NES's estimate against the gradient that it estimates."""

from __future__ import annotations

import pytest
import torch

from bayesrob.attacks import NES
from bayesrob.attacks.geometry import norms
from bayesrob.errors import InputError
from bayesrob.predictive import Predictive
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(8)
FEATURES = 12
WEIGHT = torch.randn(1, 2, FEATURES, generator=GENERATOR, dtype=torch.float64)
X = torch.rand(200, FEATURES, generator=GENERATOR, dtype=torch.float64)
Y = torch.zeros(200, dtype=torch.int64)
UPHILL = WEIGHT[0, 1] - WEIGHT[0, 0]
POST = linear(WEIGHT, torch.tensor([[1000.0, 0.0]]))
"""Its first class has probability one: -log p_y is zero everywhere, the margin is linear."""


def one_step(samples: int, **settings):
    found = NES(eps=1.0, norm="l_2", steps=1, samples=samples, **settings)(POST, X, Y)
    torch.testing.assert_close(norms(found - X, "l_2"), torch.ones(200).double(), rtol=0, atol=1e-9)
    return found - X


@pytest.mark.parametrize("samples", [20, 100, 1000, 10_000])
def test_the_estimate_s_cosine_is_the_closed_form(samples):
    cosine = one_step(samples, max_batch=100_000) @ UPHILL / UPHILL.norm()
    assert cosine.mean() == pytest.approx((1 + 2 * (FEATURES - 1) / samples) ** -0.5, abs=0.025)
    if samples == 10_000:
        assert (cosine > 0.995).all()


@pytest.mark.parametrize("max_batch", [2, 7, 150, 400, 1000])
def test_batches_are_bounded_and_change_nothing_but_chance(monkeypatch, max_batch):
    sizes = []
    original = Predictive.forward

    def count(self, x, *args):
        sizes.append(len(x))
        return original(self, x, *args)

    monkeypatch.setattr(Predictive, "forward", count)
    direction = one_step(20, max_batch=max_batch)
    assert max(sizes[:-1]) <= max_batch  # the last one looks at each point once
    assert sum(sizes) == 200 * 21
    assert (direction @ UPHILL / UPHILL.norm()).mean() == pytest.approx((1 + 2 * (FEATURES - 1) / 20) ** -0.5, abs=0.025)


def test_queries_are_those_announced():
    result = NES(eps=0.3, steps=7, samples=30).run(POST, X, Y)
    assert (result.queries == 7 * 31).all()
    assert (result.gradients == 0).all()


def test_many_samples_reach_the_worst_of_the_ball():
    found = NES(eps=0.5, norm="l_2", steps=20, samples=2000)(POST, X[:10], Y[:10])
    assert ((found - X[:10]) @ UPHILL > 0.995 * 0.5 * UPHILL.norm()).all()


def test_towards_a_target_is_the_margin_s_other_way():
    """Of two classes the target is the other one: the very same steps."""
    away = NES(eps=0.3, steps=5, samples=20)(POST, X, Y)
    towards = NES(eps=0.3, steps=5, samples=20, target="given")(POST, X, 1 - Y)
    torch.testing.assert_close(away, towards, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"samples": 51}, "samples is 51.*even"),
        ({"samples": 0}, "samples is 0"),
        ({"max_batch": 1}, "max_batch is 1"),
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": None}, "sigma is None"),
        ({"step_size": -1.0}, "step_size is -1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        NES(**settings)
