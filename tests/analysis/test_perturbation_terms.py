"""Theorems 2 to 4 against derivatives by finite differences of the decomposition itself, and by their order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from bayesrob.analysis import bias_variance, perturbation_terms
from bayesrob.errors import InputError

MODELS, POINTS, CLASSES = 4, 6, 3


def tanh_models(seed: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Outputs `[model, point, output]` of one hidden tanh layer at x + s beta, as a function of s, and their slopes at 0."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(MODELS, 5, 2)), random.normal(size=(MODELS, outputs, 5))
    x, beta = random.normal(size=(2, POINTS, 2))

    def at(s: float) -> np.ndarray:
        return np.einsum("toh,tph->tpo", second, np.tanh(np.einsum("thd,pd->tph", first, x + s * beta)))

    hidden = np.einsum("thd,pd->tph", first, x)
    slope = np.einsum("toh,tph,tph->tpo", second, 1 / np.cosh(hidden) ** 2, np.einsum("thd,pd->tph", first, beta))
    return at, slope


def remainders(measured, terms, name: str) -> float:
    """Slope on log-log axes of what the first order leaves out."""
    eps = terms["eps"].values
    left = [np.abs(measured(s)[name] - terms[name].sel(eps=s)).mean() for s in eps]
    return np.polyfit(np.log(eps), np.log(left), 1)[0]


EPS = tuple(10.0 ** np.linspace(-4, -2, 9))


@pytest.mark.parametrize("seed", range(5))
def test_cross_entropy_to_first_order(seed):
    at, slope = tanh_models(seed, CLASSES)
    y = np.random.default_rng(seed).integers(CLASSES, size=POINTS)
    logits = at(0)
    p = np.exp(log_softmax(logits, -1))
    log_slope = slope - (p * slope).sum(-1, keepdims=True)

    def measured(s):
        return bias_variance(log_predictions=log_softmax(at(s), -1), targets=y, loss="cross_entropy", num_resamples=0)

    terms = perturbation_terms(p, y, log_slope, "cross_entropy", EPS)
    for name, term in (("bias", terms["c"]), ("variance", terms["c_prime"].mean("model"))):
        derivative = (measured(1e-5)[name] - measured(-1e-5)[name]) / 2e-5
        np.testing.assert_allclose(term, derivative, rtol=1e-6, atol=1e-8)
        assert abs(remainders(measured, terms, name) - 2) < 0.05
    # Theorem 4, and that losses split at first order too.
    losses = -np.take_along_axis(log_slope, y[None, :, None], 2)[..., 0]
    np.testing.assert_allclose(terms["loss_slope"], losses)
    np.testing.assert_allclose(terms["c"] + terms["c_prime"].mean("model"), losses.mean(0), atol=1e-12)
    # Each model's own c': the divergence from pi_star moves by it.
    mean = log_softmax(log_softmax(logits, -1).mean(0), -1)

    def divergences(s):
        logs = log_softmax(at(s), -1)
        star = log_softmax(logs.mean(0), -1)
        return (np.exp(star) * (star - logs)).sum(-1)

    assert mean.shape == (POINTS, CLASSES)
    np.testing.assert_allclose(terms["c_prime"], (divergences(1e-5) - divergences(-1e-5)) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_squared_error_to_first_order(seed, several):
    at, slope = tanh_models(seed, 2)
    y = np.random.default_rng(seed).normal(size=(POINTS, 2))
    if not several:
        slope, y, full = slope[..., 0], y[:, 0], at
        at = lambda s: full(s)[..., 0]  # noqa: E731

    def measured(s):
        return bias_variance(at(s), y, num_resamples=0)

    terms = perturbation_terms(at(0), y, slope, "mse", EPS)
    np.testing.assert_allclose(terms["c"], slope.mean(0))
    derivative = (measured(1e-5)["variance"] - measured(-1e-5)["variance"]) / 2e-5
    np.testing.assert_allclose(terms["c_prime"].mean("model"), derivative, rtol=1e-6, atol=1e-8)
    for name in ("bias", "variance"):
        assert abs(remainders(measured, terms, name) - 2) < 0.05


def test_linear_models_bias_is_exact():
    """f_t = w_t x: theorem 2's bias has nothing left out."""
    random = np.random.default_rng(0)
    w, x, beta, y = random.normal(size=(5, 3)), random.normal(size=(7, 3)), random.normal(size=(7, 3)), random.normal(size=7)
    terms = perturbation_terms(w @ x.T, y, w @ beta.T, "mse", (0.5, 2.0))
    for eps in (0.5, 2.0):
        measured = bias_variance(w @ (x + eps * beta).T, y, num_resamples=0)
        np.testing.assert_allclose(terms["bias"].sel(eps=eps), measured["bias"])
        np.testing.assert_allclose(terms["mean_bias"].sel(eps=eps), measured["mean_bias"])


def test_refused():
    p = np.full((2, 3, 2), 0.5)
    with pytest.raises(InputError, match="slopes have shape"):
        perturbation_terms(p, np.zeros(3, dtype=int), np.zeros((2, 3)), "cross_entropy")
    with pytest.raises(InputError, match="exactly 0"):
        perturbation_terms(np.array([[[1.0, 0.0]]] * 2), np.array([0]), np.zeros((2, 1, 2)), "cross_entropy")
    with pytest.raises(InputError, match="needed exactly once"):
        perturbation_terms(None, np.array([0]), np.zeros((2, 1, 2)))
