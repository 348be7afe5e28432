"""What data sets know of their distribution: against brute force, Bayes' rule written out, and an exact linear programme."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.stats
import torch

from bayesrob.attacks import LabelInvariant
from bayesrob.data import load
from bayesrob.data.truth import Truth
from bayesrob.errors import InputError

KNOWN = {
    "robust_features": {"d": 3, "eta": 0.5, "p": 0.8},
    "simulated_classes": {"separation": 0.4},
    "tradeoff_toy": {},
    "two_points": {"eps": 0.3},
    "moons": {},
    "sphere": {"d": 3, "extra": 2, "radius": 1.5},
}


def known(name, **sizes):
    return load(name, **sizes, **KNOWN[name])


def scattered(data, count=400):
    """Points of the data, points near and far, and the ones where a projection is a tie or has no direction."""
    generator = torch.Generator().manual_seed(0)
    near = data.x_test[torch.arange(count) % len(data.x_test)]
    noise = torch.randn(near.shape, generator=generator)
    special = torch.zeros(3, near.shape[1])
    special[1] = 1.0
    special[2, -1] = 0.5
    return torch.cat([near, near + 0.2 * noise, 3 * noise, special])


@pytest.mark.parametrize("name", KNOWN)
def test_a_truth_is_of_its_points(name):
    data = known(name, n_train=300, n_test=300)
    assert isinstance(data.truth, Truth)
    assert data.supports(data.x_test, data.y_test).all()
    torch.testing.assert_close(data.project(data.x_test), data.x_test, rtol=0, atol=3e-7)
    p = data.conditional(data.x_train)
    assert p.dtype == torch.float64
    torch.testing.assert_close(p.sum(1), torch.ones(300).double())


@pytest.mark.parametrize("name", KNOWN)
def test_projections_are_idempotent_and_on_the_support(name):
    data = known(name, n_train=300, n_test=300)
    x = scattered(data)
    for dtype, atol in ((torch.float32, 3e-7), (torch.float64, 1e-15)):
        once = data.project(x.to(dtype))
        assert once.dtype == dtype
        torch.testing.assert_close(data.project(once), once, rtol=0, atol=atol)
        data.conditional(once)  # or it would say that they lie off the support


@pytest.mark.parametrize("name", ["robust_features", "tradeoff_toy", "two_points", "moons", "sphere"])
def test_projections_are_nearest(name):
    """No point of a dense sample of the support is nearer, and some are as near up to the sample's spacing."""
    data = known(name, n_train=100_000, n_test=300)
    x = scattered(data).double()
    sample = data.x_train.double()
    if name in ("robust_features", "tradeoff_toy"):  # every (+-1, x_2, ...) is there, not only what was drawn
        rest = x[:, 1:]
        sample = torch.cat([torch.cat([torch.full_like(x[:, :1], s), rest], 1) for s in (-1.0, 1.0)])
    distance = (data.project(x) - x).norm(dim=1)
    nearest = torch.cat([torch.cdist(part, sample).amin(1) for part in x.split(200)])
    assert (distance <= nearest + 1e-6).all()
    assert (distance >= nearest - 0.03).all()


@pytest.mark.parametrize("name", KNOWN)
def test_bases_are_orthonormal_and_tangents_stay_on_the_support(name):
    data = known(name, n_train=20, n_test=40)
    x = data.x_test.double()
    normal, tangent = data.normal_basis(data.x_test), data.tangent_basis(data.x_test)
    both = torch.cat([normal, tangent], dim=1)
    identity = torch.eye(x.shape[1]).double().expand(len(x), -1, -1)
    torch.testing.assert_close(both @ both.mT, identity, rtol=0, atol=1e-12)
    # A step h along a tangent leaves the support by O(h^2), one along a normal by h: brute force by the projection.
    h = 1e-4
    inside = x[:, 1].abs() > 0.1 if name == "moons" else torch.ones(len(x), dtype=torch.bool)
    for basis, left in ((tangent, 0.0), (normal, h)):
        for k in range(basis.shape[1]):
            moved = (data.project(x) + h * basis[:, k])[inside]
            off = (data.project(moved) - moved).norm(dim=1)
            torch.testing.assert_close(off, torch.full_like(off, left), rtol=0, atol=3 * h**2)


def test_conditionals_are_bayes_rule():
    d, eta, p = 3, 0.5, 0.8
    data = load("robust_features", n_train=5, n_test=200, d=d, eta=eta, p=p)
    x = data.x_test.double().numpy()
    joint = np.ones((200, 2))
    for cls, y in ((0, -1), (1, 1)):
        joint[:, cls] = np.where(x[:, 0] == y, p, 1 - p) * scipy.stats.norm(eta * y).pdf(x[:, 1:]).prod(1)
    np.testing.assert_allclose(data.conditional(data.x_test), joint / joint.sum(1, keepdims=True), rtol=1e-9)
    classes = load("simulated_classes", n_train=5, n_test=200, separation=0.4)
    x = classes.x_test.double().numpy()
    joint = np.stack([scipy.stats.norm(mean).pdf(x).prod(1) for mean in (0, 0.4)], axis=1)
    np.testing.assert_allclose(classes.conditional(classes.x_test), joint / joint.sum(1, keepdims=True), rtol=1e-9)


def test_conditionals_are_calibrated_on_their_own_draws():
    """E[1(y = 1) - p(1 | x)] = 0, overall and where p(1 | x) is in doubt, within 3.5 standard errors."""
    data = load("robust_features", n_train=5, n_test=200_000, d=4, eta=0.3, p=0.7)
    p = data.conditional(data.x_test)[:, 1]
    for cell in (p < 0.2, (p > 0.4) & (p < 0.6), p > 0.9):
        error = (data.y_test.double() - p)[cell].mean()
        assert abs(error) < 3.5 * ((p * (1 - p))[cell].sum().sqrt() / cell.sum())


def best_on_a_grid(eta, p, eps, *, pessimistic, h=0.2, reach=7.4):
    """The best robust accuracy of any classifier on the cells of a grid, by linear programming; a bound on the truth.

    r(cell, y) is how much of the cell is robustly y: at most 1 together with r(other, -y) if the two can meet. That any
    points of two cells can meet (pessimistic) bounds it from below, that all can from above.
    """
    edges = np.arange(-reach, reach + h / 2, h)
    mass, places = [], []
    for y in (-1, 1):
        cells = np.diff(scipy.stats.norm(eta * y).cdf(edges)) / 2
        for first in (-1, 1):
            mass.append(cells * (p if first == y else 1 - p))
            places.append(np.stack([np.full(len(cells), first), edges[:-1] + h / 2], axis=1))
    minus, plus = np.concatenate(places[:2]), np.concatenate(places[2:])
    slack = np.array([0.0, h if pessimistic else -h])
    meet = (np.abs(minus[:, None] - plus[None]) <= 2 * eps + slack + 1e-9).all(-1)
    i, j = meet.nonzero()
    where = (np.tile(np.arange(len(i)), 2), np.concatenate([i, len(minus) + j]))
    conflicts = scipy.sparse.csr_matrix((np.ones(2 * len(i)), where), (len(i), 2 * len(minus)))
    solution = scipy.optimize.linprog(-np.concatenate(mass), conflicts, np.ones(len(i)), bounds=(0, 1), method="highs")
    assert solution.status == 0
    return -solution.fun


@pytest.mark.parametrize(
    ("eta", "p", "eps"), [(1.0, 0.8, 0.4), (1.0, 0.7, 0.9), (0.6, 0.9, 0.8), (1.5, 0.75, 1.2), (0.8, 0.6, 0.1)]
)
def test_no_classifier_is_more_robust_than_the_best(eta, p, eps):
    known = load("tradeoff_toy", n_train=5, n_test=5, eta=eta, p=p).robust_accuracy(eps)
    lower = best_on_a_grid(eta, p, eps, pessimistic=True)
    upper = best_on_a_grid(eta, p, eps, pessimistic=False)
    assert lower - 1e-6 <= known <= upper + 1e-6
    assert upper - lower < 0.1


def test_robust_accuracies_are_reached():
    """The classifier that the argument names, attacked as well as it can be, on 10^5 points."""
    d, eta, p, eps = 9, 0.4, 0.7, 0.15
    data = load("robust_features", n_train=5, n_test=100_000, d=d, eta=eta, p=p)
    y = 2 * data.y_test - 1
    for radius in (0.0, eps):
        score = 2 * (eta - eps if radius else eta) * (data.x_test[:, 1:].sum(1) - radius * d * y)
        right = (y * (score + data.x_test[:, 0] * math.log(p / (1 - p))) > 0).sum().item()
        interval = scipy.stats.binomtest(right, 100_000).proportion_ci(0.99, "wilson")
        assert interval.low < data.robust_accuracy(radius) < interval.high
    assert data.robust_accuracy(2 * eta) == p  # the theorem is tight: x_1 alone has accuracy p, and so delta p/(1 - p) = p
    classes = load("simulated_classes", n_train=5, n_test=100_000, separation=0.5)
    side = 2 * classes.y_test - 1
    for eps, norm, step in ((0.1, "l_inf", 0.1), (0.5, "l_2", 0.5 / math.sqrt(50))):
        right = int((side * (classes.x_test.mean(1) - step * side - 0.25) > 0).sum())
        interval = scipy.stats.binomtest(right, 100_000).proportion_ci(0.99, "wilson")
        assert interval.low < classes.robust_accuracy(eps, norm) < interval.high


def test_robust_accuracy_of_points_and_surfaces():
    points = load("two_points", eps=0.5)
    assert [points.robust_accuracy(eps) for eps in (0, 0.2, 0.25, 9)] == [1, 1, 0.5, 0.5]
    spheres = load("sphere", n_train=5, n_test=5, d=4, radius=1.5)
    assert [spheres.robust_accuracy(eps, "l_2") for eps in (0, 0.2, 0.25)] == [1, 1, 0.5]
    assert [spheres.robust_accuracy(eps) for eps in (0.12, 0.25)] == [1, 0.5]
    with pytest.raises(InputError, match=r"'sphere' in l_inf at eps=0.2 is not known"):
        spheres.robust_accuracy(0.2)
    moons = load("moons", n_train=3000, n_test=5)
    apart = torch.cdist(moons.x_train[moons.y_train == 0], moons.x_train[moons.y_train == 1]).min()
    assert 0.5 <= apart < 0.501
    assert moons.robust_accuracy(0.24, "l_2") == 1
    with pytest.raises(InputError, match="not known"):
        moons.robust_accuracy(0.26, "l_2")


def test_projections_in_float64_are_float64_s():
    data = known("sphere", n_train=5, n_test=50)
    lengths = data.project(data.x_test.double()).norm(dim=1)
    torch.testing.assert_close(lengths, 1 + 0.5 * data.y_test.double(), rtol=0, atol=1e-15)
    data = load("sphere", n_train=5, n_test=50, radius=1.3)
    lengths = data.project(data.x_test.double()).norm(dim=1)
    torch.testing.assert_close(lengths, 1 + 0.3 * data.y_test.double(), rtol=0, atol=1e-15)


def test_a_tie_of_two_points_goes_to_the_first():
    data = load("two_points", eps=0.1)
    eps = data.x_train.max()
    x = torch.stack([eps / 2, torch.nextafter(eps / 2, eps), -eps, 9 * eps])[:, None]
    torch.testing.assert_close(data.project(x), torch.stack([0 * eps, eps, 0 * eps, eps])[:, None], rtol=0, atol=0)
    assert data.conditional(data.project(x)).argmax(1).tolist() == [1, 0, 1, 0]
    assert data.supports(x, torch.tensor([1, 0, 1, 0])).tolist() == [False] * 4
    assert data.supports(data.x_test, 1 - data.y_test).sum() == 0


def test_moving_the_weak_feature_by_twice_eta_breaks_the_definition():
    """The article's own example: y = +1, x = (-1, eta), the attack replaces eta by -eta."""
    data = load("tradeoff_toy", n_train=5, n_test=5, p=0.9, eta=3.0)
    moved = torch.tensor([[-1.0, -3.0]])
    odds = 0.1 * scipy.stats.norm(3).pdf(-3) / (0.9 * scipy.stats.norm(-3).pdf(-3))
    p = data.conditional(moved)[0]
    assert float(p[1] / p[0]) == pytest.approx(odds, rel=1e-9)
    wrong = torch.tensor([[0.9, 0.1]]).log()
    criterion = LabelInvariant(data.conditional, data.project)
    assert not criterion(wrong, torch.tensor([1]), moved).any()
    assert criterion(wrong, torch.tensor([1]), torch.tensor([[-1.0, 3.0]])).all()


def test_truths_survive_what_data_sets_go_through():
    data = known("sphere", n_train=30, n_test=20)
    again = pickle.loads(pickle.dumps(data))
    assert again.truth == data.truth
    part = dataclasses.replace(data, x_train=data.x_train[:5], y_train=data.y_train[:5])
    torch.testing.assert_close(part.conditional(part.x_train), data.conditional(data.x_train)[:5])
    assert hash(data.truth) == hash(again.truth)


@pytest.mark.parametrize("method", ["conditional", "project", "normal_basis", "tangent_basis"])
def test_data_without_a_truth_say_so(method):
    data = load("half_moons", n_train=5, n_test=5)
    with pytest.raises(InputError, match=r"'half_moons' has no known .*robust_features, two_points"):
        getattr(data, method)(data.x_test)
    with pytest.raises(InputError, match="no known support"):
        data.supports(data.x_test, data.y_test)
    with pytest.raises(InputError, match="no known robust accuracy"):
        data.robust_accuracy(0.1)


def test_questions_that_have_no_answer():
    data = known("moons", n_train=5, n_test=5)
    with pytest.raises(InputError, match=r"5 of 5 points lie off the support.*project"):
        data.conditional(data.x_test + 0.1)
    with pytest.raises(InputError, match=r"Points of 'moons' are \[2\]"):
        data.project(torch.zeros(4, 3))
    with pytest.raises(InputError, match="NaN"):
        data.project(torch.full((1, 2), math.nan))
    with pytest.raises(InputError, match="x is of type list"):
        data.project([[0.0, 1.0]])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="labels from 0 to 2"):
        data.supports(data.x_test, torch.tensor([0, 1, 2, 0, 0]))
    with pytest.raises(InputError, match="eps is -1"):
        data.robust_accuracy(-1)
    with pytest.raises(InputError, match="Unknown norm 'l_1'"):
        data.robust_accuracy(0.1, "l_1")


def test_a_truth_is_a_truth():
    data = load("half_moons", n_train=5, n_test=5)
    with pytest.raises(InputError, match="truth is of type str"):
        dataclasses.replace(data, truth="two_points")
