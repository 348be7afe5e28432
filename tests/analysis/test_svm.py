"""Exact support vector machines against scikit-learn, another solver, their population, and the paper's theorem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import sklearn.svm

import bayesrob as br
from bayesrob.analysis import hinge_loss, linear_accuracy, population_svm, soft_margin_svm
from bayesrob.analysis import svm as module
from bayesrob.errors import ConvergenceWarning, InputError


def features(n, d, eta, p, seed=0):
    data = br.data.load("robust_features", n_train=n, n_test=1, d=d, eta=eta, p=p, seed=seed)
    return data.x_train.double().numpy(), data.y_train.numpy()


def random_problem(seed, n=40, dim=4):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.standard_normal((n, dim)) + 0.7 * (2 * y - 1)[:, None] * rng.random(dim), y


def sample_loss(w, x, y, eps):
    return np.maximum(0, 1 - (2 * y - 1) * (x @ w) + eps * np.abs(w).sum()).mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_multiplier_makes_it_scikit_learn_s(seed):
    """The loss + lambda / 2 |w|^2 without a constraint, lambda being the multiplier: LinearSVC with C = 1 / (n lambda)."""
    x, y = random_problem(seed, n=200, dim=6)
    solution = soft_margin_svm(x, y, tolerance=1e-9)
    c = 1 / (len(x) * float(solution["multiplier"]))
    peer = sklearn.svm.LinearSVC(loss="hinge", C=c, fit_intercept=False, tol=1e-10, max_iter=1_000_000).fit(x, y)
    np.testing.assert_allclose(solution["weights"], peer.coef_[0], atol=2e-4)
    assert np.linalg.norm(solution["weights"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_no_other_solver_finds_less(seed, eps):
    """SLSQP on the linear programme with the ball, from its own formulation: slacks, u and v as variables."""
    x, y = random_problem(seed)
    n, dim = x.shape
    solution = soft_margin_svm(x, y, eps, tolerance=1e-8)
    along = (2 * y - 1)[:, None] * x
    grow = np.hstack([np.eye(n), along - eps, -along - eps])
    start = np.concatenate([np.full(n, 2.0), np.full(2 * dim, 0.1)])
    peer = scipy.optimize.minimize(
        lambda z: z[:n].mean(),
        start,
        jac=lambda z: np.concatenate([np.full(n, 1 / n), np.zeros(2 * dim)]),
        bounds=[(0, None)] * len(start),
        constraints=[
            {"type": "ineq", "fun": lambda z: grow @ z - 1, "jac": lambda z: grow},
            {"type": "ineq", "fun": lambda z: 1 - ((z[n : n + dim] - z[n + dim :]) ** 2).sum()},
        ],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert float(solution["loss"]) == pytest.approx(sample_loss(solution["weights"].values, x, y, eps), abs=1e-12)
    assert float(solution["loss"]) <= peer.fun + 1e-7
    assert float(solution["loss"]) - float(solution["gap"]) <= peer.fun + 1e-7
    assert peer.fun == pytest.approx(float(solution["loss"]), abs=1e-5)
    assert np.linalg.norm(solution["weights"]) <= 1


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_gap_is_honest_at_every_step(monkeypatch, eps):
    """Stopped early, the true optimum still lies between loss - gap and loss."""
    x, y = random_problem(5, n=100)
    best = float(soft_margin_svm(x, y, eps, tolerance=1e-9)["loss"])
    for steps in range(1, 10):
        monkeypatch.setattr(module, "MAX_STEPS", steps)
        with pytest.warns(ConvergenceWarning, match="of its optimum"):
            solution = soft_margin_svm(x, y, eps, tolerance=1e-10)
        assert float(solution["loss"]) - float(solution["gap"]) - 1e-9 <= best <= float(solution["loss"]) + 1e-9


@pytest.mark.parametrize(
    ("d", "eta", "p", "eps"), [(3, 0.5, 0.8, 0.0), (10, 0.2, 0.7, 0.1), (4, 1.0, 0.9, 0.3), (6, 0.3, 0.6, 0.5)]
)
def test_the_population_s_optimum_is_the_least_of_all_weights(d, eta, p, eps):
    """Against general-purpose minimisers over all d + 1 weights, without symmetry."""
    solution = population_svm(d, eta, p, eps)
    w = solution["weights"].values
    assert float(solution["loss"]) == pytest.approx(float(hinge_loss(w, eta, p, eps)[0]), rel=1e-12)
    rng = np.random.default_rng(0)
    others = rng.standard_normal((4000, d + 1))
    others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1)
    near = w + 0.02 * rng.standard_normal((4000, d + 1))
    near /= np.maximum(np.linalg.norm(near, axis=1, keepdims=True), 1)
    assert (hinge_loss(np.concatenate([others, near]), eta, p, eps) >= float(solution["loss"]) - 1e-12).all()
    peer = scipy.optimize.minimize(
        lambda v: float(hinge_loss(v, eta, p, eps)[0]),
        np.full(d + 1, 0.2),
        constraints={"type": "ineq", "fun": lambda v: 1 - v @ v},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    assert float(solution["loss"]) <= peer.fun + 1e-8


@pytest.mark.parametrize("p", [0.6, 0.9, 0.975])
@pytest.mark.parametrize("d", [1, 16, 100])
def test_the_theorem_s_plain_machine(d, p):
    """eta >= 4 / sqrt(d), p <= 0.975: above 99%, and below 1% at eps = 2 eta."""
    eta = 4 / math.sqrt(d)
    w = population_svm(d, eta, p)["weights"].values
    standard, robust = linear_accuracy(w, eta, p, [0, 2 * eta]).values
    assert np.linalg.norm(w) == pytest.approx(1, abs=1e-9)
    assert standard > 0.99
    assert robust < 0.01


@pytest.mark.parametrize(("d", "p", "eps"), [(100, 0.95, 0.8), (100, 0.975, 0.85), (400, 0.75, 0.4), (900, 0.7, 0.3)])
def test_the_theorem_s_adversarial_machine(d, p, eps):
    """Trained at 2 eta <= eps < 2p - 1: x_1 alone, accuracy p against any eps < 1; the sample's machine is nearly that."""
    eta = 4 / math.sqrt(d)
    assert 2 * eta <= eps + 1e-12 < 2 * p - 1
    w = population_svm(d, eta, p, eps)["weights"].values
    np.testing.assert_array_equal(w, np.eye(d + 1)[0])
    np.testing.assert_array_equal(linear_accuracy(w, eta, p, [0, 0.5, 0.999]), [p] * 3)
    assert linear_accuracy(w, eta, p, 1.0)[0] == 0
    if d <= 400:
        sample = soft_margin_svm(*features(1000, d, eta, p), eps)["weights"].values
        assert np.abs(sample[1:]).max() < 1e-6
        assert sample[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("p", [0.6, 0.9])
def test_above_2p_minus_1_nothing_is_left(p):
    eta = 0.1
    for eps in (2 * p - 1 + 0.02, 1.5):
        np.testing.assert_array_equal(population_svm(5, eta, p, eps)["weights"], np.zeros(6))
    x, y = features(4000, 5, eta, p)
    sample = soft_margin_svm(x, y, 2 * p - 1 + 0.1)
    assert np.abs(sample["weights"]).max() < 1e-6
    assert float(sample["multiplier"]) == pytest.approx(0, abs=1e-9)
    assert float(sample["loss"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.15])
def test_many_points_give_the_population_s_machine(eps):
    d, eta, p = 8, 0.4, 0.8
    population = population_svm(d, eta, p, eps)
    solution = soft_margin_svm(*features(20_000, d, eta, p), eps)
    np.testing.assert_allclose(solution["weights"], population["weights"], atol=0.06)
    excess = float(hinge_loss(solution["weights"].values, eta, p, eps)[0]) - float(population["loss"])
    assert 0 <= excess < 1e-3
    np.testing.assert_allclose(
        linear_accuracy(solution["weights"].values, eta, p, [0, 0.8]),
        linear_accuracy(population["weights"].values, eta, p, [0, 0.8]),
        atol=0.015,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_margin_svm(np.zeros(3), [0, 1, 0]), r"points have shape \(3,\)"),
        (lambda: soft_margin_svm(np.zeros((3, 2)), [0, 1]), r"the classes \(2,\)"),
        (lambda: soft_margin_svm([[math.inf]], [0]), "not finite"),
        (lambda: soft_margin_svm([[1.0]], [-1]), "other than 0 and 1"),
        (lambda: soft_margin_svm([[1.0]], [1], -0.1), "eps is -0.1"),
        (lambda: soft_margin_svm([[1.0]], [1], tolerance=0), "tolerance is 0"),
        (lambda: population_svm(0, 1.0, 0.9), "d is 0"),
        (lambda: population_svm(2, -1.0, 0.9), "eta is -1.0"),
        (lambda: population_svm(2, 1.0, 0.4), "p is 0.4"),
        (lambda: population_svm(2, 1.0, 0.9, math.nan), "eps is nan"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
