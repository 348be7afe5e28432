"""Standard and robust accuracy: closed forms against 10^5 points, against attacks, and the theorem against all comers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

import bayesrob as br
from bayesrob.analysis import binomial_interval, hinge_loss, linear_accuracy, tradeoff
from bayesrob.errors import InputError

COUNT = 100_000

SETTINGS = [
    # d, eta, p, eps
    (1, 0.5, 0.75, 1.0),
    (1, 3.0, 0.9, 6.0),
    (4, 0.5, 0.6, 1.0),
    (4, 1.0, 0.8, 0.5),
    (9, 0.3, 0.95, 0.6),
    (9, 1.0, 0.99, 2.0),
    (16, 0.25, 0.7, 0.25),
    (16, 0.75, 0.9, 1.5),
    (25, 0.2, 0.55, 0.4),
    (36, 0.4, 0.85, 0.8),
    (49, 0.1, 0.9, 0.3),
    (64, 0.2, 0.975, 0.4),
    (100, 0.3, 0.95, 0.6),
    (100, 0.1, 0.8, 0.2),
    (2, 0.8, 0.65, 0.9),
    (12, 0.15, 0.92, 0.5),
]


def averaging(d):
    return np.array([0.0, *[1 / d] * d])


def measured(data, w, eps):
    """Whether each test point is right, and still is after the worst step in l_inf, taken and classified again."""
    x, y = data.x_test.double().numpy(), 2 * data.y_test.numpy() - 1
    moved = x - eps * y[:, None] * np.sign(w)
    return y * (x @ w) > 0, y * (moved @ w) > 0


@pytest.fixture(scope="module")
def counts():
    """By setting: what was measured and what is known, for three classifiers, standard and robust."""
    phi = scipy.stats.norm.cdf
    table = {}
    for d, eta, p, eps in SETTINGS:
        data = br.data.load("robust_features", n_train=1, n_test=COUNT, d=d, eta=eta, p=p)
        mixed = np.array([eta * d / 2, *[1.0] * d])
        rows = table[d, eta, p, eps] = []
        for w, known in (
            (averaging(d), (phi(eta * math.sqrt(d)), phi((eta - eps) * math.sqrt(d)))),
            (np.eye(d + 1)[0], (p, p if eps < 1 else 0.0)),
            (mixed, linear_accuracy(mixed, eta, p, [0, eps]).values),
        ):
            np.testing.assert_allclose(linear_accuracy(w, eta, p, [0, eps]), known, rtol=1e-12)
            rows.append((*measured(data, w, eps), known))
    return table


def test_measured_accuracies_are_the_closed_forms(counts):
    """Phi(eta sqrt(d)), Phi((eta - eps) sqrt(d)), p: of the 99% intervals of 10^5 points one in a hundred may miss."""

    def inside(hits, known, level):
        low, high = binomial_interval(int(hits.sum()), COUNT, level)
        return low <= known <= high

    rows = {
        setting: [(hits, value) for *both, known in rows for hits, value in zip(both, known, strict=True)]
        for setting, rows in counts.items()
    }
    flat = [inside(*row, 0.99) for table in rows.values() for row in table]
    assert sum(all(inside(*row, 0.99) for row in table) for table in rows.values()) >= 12
    assert flat.count(False) <= scipy.stats.binom.ppf(0.999, len(flat), 0.01)
    assert all(inside(*row, 0.9999) for table in rows.values() for row in table)


def test_samples_never_break_the_theorem(counts):
    for (_, eta, p, eps), rows in counts.items():
        for right, stays, _ in rows:
            table = tradeoff(right, stays, eta, p, eps)
            assert not table["violated"]
            if eps >= 2 * eta:
                assert float(table["theorem"]) == pytest.approx(min(1, (1 - right.mean()) * p / (1 - p)))


def test_the_paper_s_figures():
    """eta >= 3 / sqrt(d): above 99%, and below 1% at 2 eta."""
    for d in (1, 10, 100, 1000):
        eta = 3 / math.sqrt(d)
        standard, robust = linear_accuracy(averaging(d), eta, 0.9, [0, 2 * eta]).values
        assert standard > 0.99
        assert robust < 0.01
        assert standard + robust == pytest.approx(1)


def test_exact_accuracies_never_break_the_theorem():
    """20,000 linear classifiers, most of them at the frontier between x_1 and the rest."""
    rng = np.random.default_rng(0)
    for d, eta, p in ((1, 1.0, 0.9), (5, 0.4, 0.6), (20, 0.5, 0.99), (3, 2.0, 0.75)):
        w = np.abs(rng.standard_normal((5000, d + 1))) ** rng.uniform(0, 3, (5000, 1))
        w[:, 0] *= np.exp(rng.uniform(-2, 4, 5000))
        bias = rng.standard_normal(5000) * rng.integers(0, 2, 5000)
        standard, robust = linear_accuracy(w, eta, p, [0, 2 * eta], bias).values.T
        assert (robust <= np.minimum(1, (1 - standard) * p / (1 - p)) + 1e-12).all()
    # Tight: x_1 alone, while no attack turns it.
    standard, robust = linear_accuracy([1, 0, 0], 0.2, 0.9, [0, 0.4]).values
    assert robust == pytest.approx((1 - standard) * 0.9 / 0.1)


def test_a_violation_is_seen():
    """Points that would break the theorem: 2% wrong and 50% robust at p = 0.9 say 96% of these are robust, not 90%."""
    right = np.arange(1000) >= 20
    stays = np.arange(1000) >= 500
    table = tradeoff(right, stays, eta=0.4, p=0.9, eps=0.8)
    assert float(table["theorem"]) == pytest.approx(0.18)
    assert float(table["robust_share"]) == pytest.approx(500 / 520)
    assert table["violated"]
    assert not tradeoff(right, stays, eta=0.5, p=0.9, eps=0.8)["violated"]  # eps < 2 eta: the theorem says nothing
    assert np.isnan(tradeoff(right, stays, eta=0.5, p=0.9, eps=0.8)["theorem"])
    assert not tradeoff(right[:60], stays[:60], eta=0.4, p=0.9, eps=0.8)["violated"]
    perfect = tradeoff(np.ones(5, bool), np.zeros(5, bool), 0.4, 0.9, 0.8)
    assert np.isnan(perfect["robust_share"])
    assert not perfect["violated"]


def test_robust_means_right_before_too():
    table = tradeoff(np.array([True, False, True]), np.array([True, True, False]), 0.4, 0.9, 0.8)
    assert float(table["robust_accuracy"]) == pytest.approx(1 / 3)


def test_hinge_loss_is_the_integral():
    w = np.array([0.4, 0.3, -0.2])
    for eta, p, eps in ((0.5, 0.8, 0.0), (1.5, 0.6, 0.3)):
        total = 0.0
        for x_1, weight in ((1, p), (-1, 1 - p)):
            normal = scipy.stats.norm(0.4 * x_1 + eta * 0.1, math.hypot(0.3, 0.2))
            top = 1 + eps * 0.9
            total += weight * scipy.integrate.quad(lambda m, n=normal, t=top: (t - m) * n.pdf(m), -8, top)[0]
        assert float(hinge_loss(w, eta, p, eps)[0]) == pytest.approx(total, rel=1e-9)
    # Without weak features nothing is random but x_1.
    assert float(hinge_loss([0.5, 0, 0], 1.0, 0.8, 0.2)[0]) == pytest.approx(0.8 * 0.6 + 0.2 * 1.6)


def linear_network(w, bias=0.0):
    """Logits (0, w . x + b) of classes 0 and 1, the paper's -1 and +1."""
    net = br.nets.mlp(len(w), (), 2)
    with torch.no_grad():
        net[-1].weight.copy_(torch.stack([torch.zeros(len(w)), torch.as_tensor(w).float()]))
        net[-1].bias.copy_(torch.tensor([0.0, bias]))
    return net


@pytest.mark.parametrize("attack", [br.attacks.FGSM, br.attacks.PGD, br.attacks.APGD])
def test_attacks_reach_the_closed_form(attack):
    """A linear classifier's worst case is known: an attack that leaves more accuracy than it is weak or broken."""
    d, eta, p, eps = 16, 0.5, 0.8, 0.4
    data = br.data.load("robust_features", n_train=1, n_test=4000, d=d, eta=eta, p=p)
    w = np.array([1.0, *[0.5] * d])
    post = br.predictive.from_modules([linear_network(w, 0.3).eval()])
    table = attack(eps=eps)(post, data.x_test, data.y_test, seed=0)
    survived = int((post(table).argmax(1) == data.y_test).sum())
    low, high = binomial_interval(survived, 4000, 0.99)
    assert low <= float(linear_accuracy(w, eta, p, eps, 0.3)[0]) <= high


def test_trained_linear_models_have_the_accuracy_of_their_weights():
    """SGD's network, and each draw of a posterior, through `linear_accuracy`: measured on 10^5 points."""
    d, eta, p, eps = 9, 0.6, 0.8, 0.3
    data = br.data.load("robust_features", n_train=200, n_test=COUNT, d=d, eta=eta, p=p)
    net = br.nets.mlp(d + 1, (), 2)
    sgd = br.inference.SGD(epochs=5, lr=0.01).fit(net, data, seed=0)
    bnn = br.models.BayesianNetwork(br.nets.mlp(d + 1, (), 2), prior_scale=1.0)
    bayes = br.inference.HMC(num_samples=6, warmup=10, step_size=0.05, num_steps=5).fit(bnn, data, seed=0)
    for post in (sgd, bayes[-3:]):
        weight, bias = (post.weights[name].double() for name in ("1.weight", "1.bias"))
        w, b = (weight[:, 1] - weight[:, 0]).numpy(), (bias[:, 1] - bias[:, 0]).numpy()
        exact = linear_accuracy(w, eta, p, [0, eps], b)
        assert exact.dims == ("draw", "eps")
        for draw in range(len(w)):
            x, y = data.x_test.double().numpy(), 2 * data.y_test.numpy() - 1
            for k, radius in enumerate((0, eps)):
                right = y * (x @ w[draw] + b[draw]) - radius * np.abs(w[draw]).sum() > 0
                low, high = binomial_interval(right.sum(), COUNT, 0.999)
                assert low <= float(exact[draw, k]) <= high
    # The posterior's draws are no exception to the theorem.
    standard, robust = linear_accuracy(w, eta, p, [0, 2 * eta], b).values.T
    assert (robust <= (1 - standard) * p / (1 - p) + 1e-12).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_accuracy([1, 1], 0.0, 0.9), "eta is 0.0"),
        (lambda: linear_accuracy([1, 1], 1.0, 0.5), "p is 0.5"),
        (lambda: linear_accuracy([1, 1], 1.0, 0.9, -0.1), "eps is -0.1"),
        (lambda: linear_accuracy([1, 1], 1.0, 0.9, "much"), "eps is 'much'"),
        (lambda: linear_accuracy([1], 1.0, 0.9), "weights have shape"),
        (lambda: linear_accuracy([1, math.nan], 1.0, 0.9), "weights have shape"),
        (lambda: linear_accuracy([1, 1], 1.0, 0.9, 0, [1, 2]), "the bias"),
        (lambda: hinge_loss([1, 1], 1.0, 1.0), "p is 1.0"),
        (lambda: tradeoff([True], [True], 1.0, 0.9, [0.1, 0.2]), "radius of a ball"),
        (lambda: tradeoff([1], [1], 1.0, 0.9, 0.1), "Give boolean"),
        (lambda: tradeoff([True, False], [True], 1.0, 0.9, 0.1), "of the same points"),
        (lambda: tradeoff([True], [True], 1.0, 0.9, 0.1, level=2), "level is 2"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
