from __future__ import annotations

import torch

from bayesrob.attacks import Random
from bayesrob.attacks.geometry import norms
from tests.attacks.helpers import held

X = torch.full((5000, 2, 3), 0.5)
Y = torch.zeros(5000, dtype=torch.int64)


def test_signs_are_fair_and_independent():
    delta = Random(eps=0.2)(held(), X, Y) - X
    torch.testing.assert_close(delta.abs(), torch.full_like(X, 0.2), rtol=0, atol=1e-6)
    signs = delta.sign().flatten(1)
    assert signs.mean(0).abs().max() < 5 / 5000**0.5
    assert (torch.corrcoef(signs.T) - torch.eye(6)).abs().max() < 5 / 5000**0.5


def test_directions_are_uniform_on_the_sphere():
    delta = Random(eps=0.2, norm="l_2")(held(), X, Y) - X
    torch.testing.assert_close(norms(delta, "l_2"), torch.full((5000,), 0.2), rtol=0, atol=1e-6)
    direction = delta.flatten(1) / 0.2
    assert direction.mean(0).abs().max() < 5 / (6 * 5000) ** 0.5
    assert (direction.T @ direction / 5000 - torch.eye(6) / 6).abs().max() < 0.02


def test_it_does_not_look_at_the_model():
    x, y = X[:10], Y[:10]
    assert torch.equal(Random()(held(1), x, y), Random()(held(5), x, (y + 1) % 4))
