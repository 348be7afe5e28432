"""The simulated problems against what is known of them."""

from __future__ import annotations

import math

import pytest
import torch

from bayesrob.data import load
from bayesrob.data.simulated import simulated_target
from bayesrob.errors import InputError


def test_regression_is_linear_with_uniform_noise():
    data = load("simulated_regression", n_train=20_000, n_test=10, noise=0.6)
    noise = data.y_train - simulated_target(data.x_train)
    assert noise.abs().max() <= 0.6 + 1e-6
    # Moments of the uniform distribution, within 4 standard errors.
    assert abs(float(noise.mean())) < 4 * 0.6 / math.sqrt(3 * 20_000)
    assert abs(float(noise.square().mean()) - 0.12) < 4 * 0.36 * math.sqrt(4 / 45 / 20_000)
    x = torch.cat([data.x_train, torch.ones(len(noise), 1)], dim=1).double()
    weights = torch.linalg.lstsq(x, data.y_train.double()).solution.flatten()
    torch.testing.assert_close(weights, torch.tensor([1.0, -2.0, 0.5]).double(), atol=0.03, rtol=0)
    assert data.x_train.abs().max() <= 1
    clean = load("simulated_regression", n_train=5, n_test=5, noise=0)
    torch.testing.assert_close(clean.y_test, simulated_target(clean.x_test))


def test_classes_err_as_often_as_the_formula_says():
    data = load("simulated_classes", n_train=11, n_test=40_000, separation=0.4)
    assert torch.bincount(data.y_train).tolist() == [6, 5]
    assert torch.bincount(data.y_test).tolist() == [20_000, 20_000]
    wrong = float(((data.x_test.mean(1) > 0.2) != data.y_test).float().mean())
    expected = 0.5 * math.erfc(0.2 * math.sqrt(50) / math.sqrt(2))
    assert abs(wrong - expected) < 3 * math.sqrt(expected * (1 - expected) / 40_000)
    apart = load("simulated_classes")
    assert torch.equal((apart.x_test.mean(1) > 5).long(), apart.y_test)


@pytest.mark.parametrize("name", ["simulated_regression", "simulated_classes"])
def test_seeds(name):
    first, again, other = (load(name, n_train=20, n_test=10, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.x_train, again.x_train)
    assert torch.equal(first.y_test, again.y_test)
    assert not torch.equal(first.x_train, other.x_train)


def test_refused():
    with pytest.raises(InputError, match="noise is"):
        load("simulated_regression", noise=-1)
    with pytest.raises(InputError, match="separation is"):
        load("simulated_classes", separation=float("nan"))
