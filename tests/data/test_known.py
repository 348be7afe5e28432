"""Data sets whose distribution is known: draws against its moments, seeds, and parameters that are none."""

from __future__ import annotations

import math

import pytest
import torch

from bayesrob.data import load
from bayesrob.errors import InputError


@pytest.mark.parametrize("name", ["robust_features", "tradeoff_toy"])
def test_features_have_their_means_and_p(name):
    parameters = {"eta": 0.3, "p": 0.85} | ({"d": 6} if name == "robust_features" else {})
    count = 100_000
    data = load(name, n_train=10, n_test=count, **parameters)
    y = 2.0 * data.y_test - 1
    assert data.shape == ((7,) if name == "robust_features" else (2,))
    assert set(data.x_test[:, 0].tolist()) == {-1.0, 1.0}
    right = (data.x_test[:, 0] == y).double().mean()
    assert abs(right - 0.85) < 4 * math.sqrt(0.85 * 0.15 / count)
    rest = data.x_test[:, 1:] * y[:, None]
    assert (rest.mean(0) - 0.3).abs().max() < 4 / math.sqrt(count)
    # Independent given y, with variance 1: the covariance, x_1 included, is diagonal.
    covariance = torch.cov(torch.cat([(data.x_test[:, :1] * y[:, None] - 0.7) / math.sqrt(1 - 0.49), rest], 1).T)
    assert (covariance - torch.eye(len(covariance))).abs().max() < 0.02
    assert abs(data.y_test.double().mean() - 0.5) < 2 / math.sqrt(count)


def test_two_points_are_two():
    data = load("two_points", n_train=7, n_test=50, eps=0.2)
    assert torch.bincount(data.y_train).tolist() == [4, 3]
    assert torch.bincount(data.y_test).tolist() == [25, 25]
    torch.testing.assert_close(data.x_test[:, 0], 0.2 * (1 - data.y_test).float(), rtol=0, atol=0)


def test_spheres_are_uniform():
    data = load("sphere", n_train=5, n_test=60_000, d=4, extra=3, radius=2.0)
    assert data.x_test.shape == (60_000, 7)
    assert (data.x_test[:, 4:] == 0).all()
    direction = data.x_test[:, :4] / (1.0 + data.y_test)[:, None]
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(60_000))
    # Moments of a uniform direction in R^4: second 1/4, mixed 0, fourth 3 / (4 * 6).
    second = direction.T @ direction / 60_000
    torch.testing.assert_close(second, torch.eye(4) / 4, rtol=0, atol=0.005)
    torch.testing.assert_close(direction.pow(4).mean(0), torch.full((4,), 1 / 8), rtol=0, atol=0.005)


def test_moons_are_the_half_circles():
    data = load("moons", n_train=20_000, n_test=5)
    upper, lower = data.x_train[data.y_train == 0], data.x_train[data.y_train == 1]
    for arc, centre, sign in ((upper, (0.0, 0.0), 1), (lower, (1.0, 0.5), -1)):
        ray = sign * (arc - torch.tensor(centre))
        torch.testing.assert_close(ray.norm(dim=1), torch.ones(len(ray)))
        angle = torch.atan2(ray[:, 1], ray[:, 0])
        assert angle.min() > -1e-3
        assert abs(angle.mean() - math.pi / 2) < 4 * math.pi / math.sqrt(12 * len(angle))


@pytest.mark.parametrize("name", ["robust_features", "tradeoff_toy", "two_points", "sphere", "moons"])
def test_seeds(name):
    first, again, other = (load(name, n_train=20, n_test=10, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.x_train, again.x_train)
    assert torch.equal(first.y_test, again.y_test)
    assert not torch.equal(first.x_train, other.x_train)
    assert not torch.equal(first.x_train[:10], first.x_test)


@pytest.mark.parametrize("name", ["robust_features", "tradeoff_toy"])
@pytest.mark.parametrize("p", [0.5, 1.0, 0.2, 1.5, float("nan"), "often", True])
def test_refuses_p(name, p):
    with pytest.raises(InputError, match=r"p is .*> 0.5 and < 1"):
        load(name, p=p)


@pytest.mark.parametrize("name", ["robust_features", "tradeoff_toy"])
@pytest.mark.parametrize("eta", [0, -1.0, float("inf"), float("nan"), None])
def test_refuses_eta(name, eta):
    with pytest.raises(InputError, match=r"eta is .*finite number > 0"):
        load(name, eta=eta)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("robust_features", {"d": 0}, "d is 0"),
        ("two_points", {"eps": 0.0}, "eps is 0.0"),
        ("two_points", {"eps": 1e-60}, "float32"),
        ("sphere", {"d": 1}, "d is 1"),
        ("sphere", {"extra": -1}, "extra is -1"),
        ("sphere", {"radius": 1.0}, "radius is 1.0"),
    ],
)
def test_refuses(name, parameters, message):
    with pytest.raises(InputError, match=message):
        load(name, **parameters)
