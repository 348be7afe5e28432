from __future__ import annotations

import pytest
import torch

from bayesrob.data import load
from bayesrob.errors import InputError


def test_sizes_and_bounds_hold_exactly():
    data = load("half_moons")
    both = torch.cat([data.x_train, data.x_test])
    assert data.x_train.shape == (2000, 2)
    assert data.x_test.shape == (500, 2)
    assert both.amin(0).tolist() == [0, 0]
    assert both.amax(0).tolist() == [1, 1]
    assert torch.bincount(torch.cat([data.y_train, data.y_test])).tolist() == [1250, 1250]


def test_without_noise_the_points_lie_on_the_two_half_circles():
    data = load("half_moons", n_train=150, n_test=50, noise=0)
    x, y = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    # Undo the scaling: x from -1 to 2; y from the lower moon's lowest point to the top of the upper moon.
    angle = torch.linspace(0, torch.pi, 100)
    lowest, highest = float((0.5 - angle.sin()).min()), float(angle.sin().max())
    horizontal, vertical = x[:, 0] * 3 - 1, x[:, 1] * (highest - lowest) + lowest
    outer, inner = y == 0, y == 1
    torch.testing.assert_close(horizontal[outer] ** 2 + vertical[outer] ** 2, torch.ones(100), atol=1e-5, rtol=0)
    radius = (horizontal[inner] - 1) ** 2 + (vertical[inner] - 0.5) ** 2
    torch.testing.assert_close(radius, torch.ones(100), atol=1e-5, rtol=0)


def test_seeds():
    first, again, other = (load("half_moons", n_train=40, n_test=10, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.x_train, again.x_train)
    assert torch.equal(first.y_test, again.y_test)
    assert not torch.equal(first.x_train, other.x_train)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), "much", True])
def test_refuses_noise(noise):
    with pytest.raises(InputError, match="noise is"):
        load("half_moons", noise=noise)


def test_refuses_counts():
    with pytest.raises(InputError, match=r"n_test is 0.*>= 1"):
        load("half_moons", n_test=0)
