"""Boundary sees decisions only, pays for each, and keeps the nearest wrong point."""

from __future__ import annotations

import pytest
import torch

from bayesrob.attacks import Boundary
from bayesrob.attacks.boundary import _Recent
from bayesrob.attacks.geometry import norms, project
from bayesrob.errors import InputError
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(9)
FEATURES = 10
WEIGHT = torch.randn(1, 2, FEATURES, generator=GENERATOR, dtype=torch.float64)
X = torch.rand(12, FEATURES, generator=GENERATOR, dtype=torch.float64)
UPHILL = WEIGHT[0, 1] - WEIGHT[0, 0]
BIAS = torch.stack([(X @ UPHILL).sort().values[5:7].mean(), torch.zeros(()).double()])[None]
"""Half of the points are of either class, and none on the boundary: there rounding would decide."""
POST = linear(WEIGHT, BIAS)
Y = POST(X).argmax(1)
DISTANCE = (X @ UPHILL + BIAS[0, 1] - BIAS[0, 0]).abs() / UPHILL.norm()


def test_only_decisions_count():
    """Logits four times as large give other probabilities, the same classes, and the same bits."""
    sharp = linear(4 * WEIGHT, 4 * BIAS)
    found = [Boundary(steps=200)(post, X, Y) for post in (POST, sharp)]
    assert torch.equal(*found)


def test_steps_never_lead_away():
    """The same seed's longer walk is the shorter one's continued."""
    distances = [norms(Boundary(steps=n)(POST, X, Y) - X, "l_2") for n in (0, 50, 400, 1500)]
    for near, far in zip(distances[1:], distances, strict=False):
        assert (near <= far).all()
    assert (distances[-1] >= DISTANCE - 1e-9).all()


def test_more_halvings_end_on_the_boundary():
    found = Boundary(steps=0, halvings=40)(POST, X, Y)
    gap = (found @ UPHILL + BIAS[0, 1] - BIAS[0, 0]).abs()
    assert (gap < 1e-6).all()
    assert (POST(found).argmax(1) != Y).all()


def test_a_box_cuts_the_nearest_point_off():
    """Distances in the box are at least the plane's, and the walk finds the nearest point of the plane inside it."""
    post = linear(WEIGHT, BIAS, bounds=(0.0, 1.0))
    found = Boundary(steps=3000, check_every=1)(post, X, Y)
    assert ((found >= 0) & (found <= 1)).all()
    assert (post(found).argmax(1) != Y).all()
    # Bisection over the radius: the smallest ball and box with a wrong point in them.
    low, high = torch.zeros(12).double(), torch.full((12,), 4.0).double()
    sign = torch.where(Y == 0, 1.0, -1.0).double()
    for _ in range(40):
        middle = (low + high) / 2
        reach = torch.cat(
            [
                project(x + 1e6 * s * UPHILL, x, float(r), "l_2", (0.0, 1.0))
                for x, s, r in zip(X.split(1), sign, middle, strict=True)
            ]
        )
        wrong = sign * (reach @ UPHILL + BIAS[0, 1] - BIAS[0, 0]) > 0
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    ratio = norms(found - X, "l_2") / high
    assert (ratio > 1 - 1e-6).all()
    assert (ratio < 1.05).all()


def test_every_decision_is_paid_for():
    """One at x, some starts, the halvings, one a step, one more at every check; one only for points that are wrong."""
    y = Y.clone()
    y[:3] = 1 - y[:3]
    result = Boundary(steps=100, halvings=6, check_every=10).run(POST, X, y)
    assert (result.queries[:3] == 1).all()
    assert torch.equal(result.x[:3], X[:3])
    starts = result.queries[3:] - (1 + 6 + 100 + 10)
    assert ((starts >= 1) & (starts <= 100)).all()


def test_no_start_no_change():
    post = linear(WEIGHT, torch.tensor([[1000.0, 0.0]]), bounds=(0.0, 1.0))
    result = Boundary(starts=5).run(post, X, torch.zeros_like(Y))
    assert torch.equal(result.x, X)
    assert (result.queries == 1 + 5).all()


def test_converged_points_ask_no_more():
    result = Boundary(steps=20_000, check_every=1, convergence=1e-3).run(POST, X, Y)
    assert (result.queries < 20_000).all()


def test_reaches_its_target():
    weight = torch.randn(1, 4, FEATURES, generator=GENERATOR, dtype=torch.float64)
    post = linear(weight)
    target = (post(X).argmax(1) + 1) % 4
    found = Boundary(steps=500, target="given")(post, X, target)
    reached = post(found).argmax(1) == target
    assert reached.sum() > 6  # where a random start was of that class
    assert torch.equal(found[~reached], X[~reached])


def test_step_sizes_follow_the_last_decisions():
    like = torch.zeros(3)
    recent = _Recent(10, like)
    for i in range(9):
        recent.add(torch.tensor([True, i % 3 == 0, False]))
    assert torch.equal(recent.factor(0.2, 0.5, 1.5, like), torch.ones(3))  # not full yet
    recent.add(torch.tensor([True, False, False]))
    torch.testing.assert_close(recent.factor(0.2, 0.5, 1.5, like), torch.tensor([1.5, 1.0, 1 / 1.5]))
    recent.add(torch.tensor([False, False, True]))
    assert torch.equal(recent.factor(0.2, 0.5, 1.5, like), torch.ones(3))  # steps changed: they count anew
    recent.keep(torch.tensor([True, False, True]))
    assert recent.counts.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps is -1"),
        ({"check_every": 0}, "check_every is 0"),
        ({"starts": 0}, "starts is 0"),
        ({"spherical_step": 0.0}, "spherical_step is 0"),
        ({"source_step": None}, "source_step is None"),
        ({"step_adaptation": 1.0}, "step_adaptation is 1"),
        ({"norm": "l_inf"}, "l_inf"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        Boundary(**settings)
