"""What counts as an adversarial example, against loops over the definition, real attacks, and worlds that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import bayesrob as br
from bayesrob.analysis import binomial_interval, linear_accuracy, validity
from bayesrob.errors import InputError


def judged(data, classify, moved, **more):
    """`validity` of f and its attacked points `[attack, n, dim]`, by what the data know."""
    moved = torch.stack(moved) if isinstance(moved, list) else moved[None]
    return validity(
        classify(data.x_test).numpy(),
        torch.stack([classify(x) for x in moved]).numpy(),
        data.y_test.numpy(),
        torch.stack([data.conditional(data.project(x)) for x in moved]).numpy(),
        supported=data.supports(data.x_test, data.y_test).numpy(),
        **more,
    )


def test_it_is_the_definition():
    rng = np.random.default_rng(0)
    attacks, points, classes = 3, 200, 4
    clean, after = rng.integers(0, classes, points), rng.integers(0, classes, (attacks, points))
    y = np.where(rng.random(points) < 0.6, clean, rng.integers(0, classes, points))
    p = rng.integers(0, 3, (attacks, points, classes)) + 1e-3  # with many ties
    p = p / p.sum(-1, keepdims=True)
    supported, allowed = rng.random(points) < 0.8, rng.random((attacks, points)) < 0.8
    table = validity(clean, after, y, p, supported=supported, allowed=allowed)
    for a in range(attacks):
        norm, invariant = [], []
        for i in range(points):
            fooled = bool(after[a, i] != y[i] and allowed[a, i])
            likelier = all(p[a, i, y[i]] > p[a, i, other] for other in range(classes) if other != y[i])
            norm.append(fooled)
            invariant.append(bool(fooled and clean[i] == y[i] and supported[i] and likelier))
        at = table.isel(attack=a)
        for name, examples in (("norm", norm), ("label_invariant", invariant)):
            by = at.sel(definition=name)
            assert by["adversarial_example"].values.tolist() == examples
            robust = sum(clean[i] == y[i] and not examples[i] for i in range(points))
            assert float(by["robust_accuracy"]) == pytest.approx(robust / points)
            assert by["robust_accuracy_interval"].values.tolist() == list(binomial_interval(robust, points))
            assert float(by["share"]) == pytest.approx(sum(examples) / sum(norm))
            assert by["share_interval"].values.tolist() == list(binomial_interval(sum(examples), sum(norm)))
    worst = [
        all(clean[i] == y[i] and not table["adversarial_example"][1, a, i] for a in range(attacks)) for i in range(points)
    ]
    assert float(table["worst_case_accuracy"][1]) == pytest.approx(np.mean(worst))
    assert (table["share"].sel(definition="norm") == 1).all()


def test_two_points_are_robust_or_not_by_the_definition():
    """A threshold at eps/2: 100% under the article's definition at any radius, 0% by the norm alone from eps/2 on."""
    data = br.data.load("two_points", n_train=1, n_test=60, eps=0.25)
    eps = float(data.x_test.max())

    def threshold(x):
        return (x[:, 0] <= eps / 2).long()

    away = (2 * data.y_test - 1)[:, None]  # from 0 upwards, from eps downwards
    for radius in (eps, 0.8 * eps, 3 * eps):
        table = judged(data, threshold, data.x_test + radius * away)
        assert float(table["accuracy"]) == 1
        assert table["robust_accuracy"].values.tolist() == [[0.0], [1.0]]
        assert table["count"].values.tolist() == [[60], [0]]
    # The tie: at eps/2 the threshold says +1, which the point at eps is not; but pi(eps/2) = 0, so it is no example.
    table = judged(data, threshold, data.x_test + eps / 2 * away)
    assert table["count"].values.tolist() == [[30], [0]]
    assert float(data.robust_accuracy(eps / 2)) == 0.5 == float(table["robust_accuracy"][0, 0])
    # A real attack on a real network of the same threshold.
    net = br.nets.mlp(1, (), 2).eval()
    with torch.no_grad():
        net[-1].weight.copy_(torch.tensor([[0.0], [-40.0]]))
        net[-1].bias.copy_(torch.tensor([0.0, 20 * eps]))
    post = br.predictive.from_modules([net])
    moved = br.attacks.PGD(eps=eps)(post, data.x_test, data.y_test, seed=0)
    table = judged(data, lambda x: post(x).argmax(1), moved)
    assert table["robust_accuracy"].values.tolist() == [[0.0], [1.0]]


def test_moving_the_weak_feature_of_the_toy():
    """A classifier by x_2 alone, moved by 2 eta: 0.1% robust by the norm, 99.6% by the definition.

    The attack carries x_2 to where the other class is likelier; only where x_2 comes to lie near 0 does x_1 (log odds of 2.2
    against 6 x_2) keep the label. There, and only there, a success counts.
    """
    p, eta = 0.9, 3.0
    data = br.data.load("tradeoff_toy", n_train=1, n_test=50_000, p=p, eta=eta)
    y = (2 * data.y_test - 1)[:, None]
    moved = data.x_test - torch.tensor([0.0, 2 * eta]) * y
    table = judged(data, lambda x: (x[:, 1] > 0).long(), moved)
    norm, invariant = (table.sel(definition=name, attack=0) for name in ("norm", "label_invariant"))
    low, high = norm["robust_accuracy_interval"].values
    assert low <= float(linear_accuracy([0, 1], eta, p, 2 * eta)[0]) <= high
    # Exactly: x_1 = y, and y x_2', which is N(-eta, 1), between -log(p / (1 - p)) / (2 eta) and 0; then f(x) = y too.
    reach = math.log(p / (1 - p)) / (2 * eta)
    phi = torch.distributions.Normal(0.0, 1.0).cdf
    expected = p * float(phi(torch.tensor(eta)) - phi(torch.tensor(eta - reach)))
    low, high = binomial_interval(int(invariant["count"]), 50_000, 0.99)
    assert low <= expected <= high
    assert float(invariant["share"]) < 0.02
    assert float(invariant["robust_accuracy"]) > 0.99


@pytest.mark.parametrize("name", ["tradeoff_toy", "robust_features", "moons", "sphere"])
def test_the_bayes_classifier_has_none_under_the_definition(name):
    parameters = {"d": 3, "eta": 0.5, "p": 0.8} if name == "robust_features" else {}
    data = br.data.load(name, n_train=1, n_test=2000, **parameters)
    generator = torch.Generator().manual_seed(0)
    moved = [data.x_test + size * torch.randn(data.x_test.shape, generator=generator) for size in (0.1, 1.0, 10.0)]
    table = judged(data, lambda x: data.conditional(data.project(x)).argmax(1), moved)
    assert (table["count"].sel(definition="norm") > 0).any()
    assert (table["count"].sel(definition="label_invariant") == 0).all()
    assert float(table["worst_case_accuracy"].sel(definition="label_invariant")) == float(table["accuracy"])


def test_it_agrees_with_the_criterion_that_attacks_look_for():
    data = br.data.load("tradeoff_toy", n_train=1, n_test=3000, eta=0.7)
    post = br.predictive.from_modules([br.nets.mlp(2, (16,), 2, seed=3).eval()])
    moved = br.attacks.PGD(eps=0.8)(post, data.x_test, data.y_test, seed=0)
    table = judged(data, lambda x: post(x).argmax(1), moved)
    criterion = br.attacks.LabelInvariant(data.conditional, data.project)(post(moved), data.y_test, moved)
    right = post(data.x_test).argmax(1) == data.y_test
    assert table["adversarial_example"].sel(definition="label_invariant")[0].values.tolist() == (criterion & right).tolist()
    assert 0 < float(table["share"].sel(definition="label_invariant")[0]) < 1


def test_log_probabilities_and_names():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 50)
    clean, after, p = (rng.dirichlet([1, 1, 1], size) for size in (50, (2, 50), (2, 50)))
    named = xr.DataArray(np.log(after), dims=("attack", "point", "class"), coords={"attack": ["fgsm", "pgd"]})
    table = validity(np.log(clean), named.transpose("point", "class", "attack"), y, p)
    plain = validity(clean.argmax(-1), after.argmax(-1), y, p)
    assert table["attack"].values.tolist() == ["fgsm", "pgd"]
    xr.testing.assert_equal(table.drop_vars("attack"), plain.drop_vars("attack"))


def test_without_a_success_there_is_no_share():
    y = np.array([0, 1])
    table = validity(y, y[None], y, np.eye(2)[None])
    assert np.isnan(table["share"]).all()
    assert np.isnan(table["share_interval"]).all()
    assert (table["robust_accuracy"] == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0.0, 1.0])}, "labels are float64"),
        ({"labels": np.array([0, 2])}, "labels reach 2"),
        ({"clean": np.array([0, 1, 1])}, "clean is int64"),
        ({"clean": np.array([0, 5])}, "classes up to 5"),
        ({"adversarial": np.full((1, 2, 2), np.nan)}, "NaNs"),
        ({"adversarial": np.zeros((3, 2), int)}, "3 attacks, conditionals of 1"),
        ({"conditional": np.full((1, 2, 2), np.nan)}, "a probability"),
        ({"conditional": np.zeros((1, 3, 2))}, "2 points were labelled"),
        ({"supported": np.array([1, 0])}, "supported is int64"),
        ({"allowed": np.ones((2, 2), bool)}, "allowed is bool"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {
        "clean": np.array([0, 1]),
        "adversarial": np.array([[1, 1]]),
        "labels": np.array([0, 1]),
        "conditional": np.full((1, 2, 2), 0.5),
    }
    validity(**good)
    with pytest.raises(InputError, match=message):
        validity(**(good | change))
