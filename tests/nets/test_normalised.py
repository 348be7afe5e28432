from __future__ import annotations

import math

import pytest
import torch

import bayesrob as br
from bayesrob import nets
from bayesrob.errors import InputError
from bayesrob.predictive import from_modules
from tests.nets.helpers import random_inputs

MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.25, 0.3)


def scaled(x: torch.Tensor) -> torch.Tensor:
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_it_is_the_network_at_scaled_inputs():
    net = nets.cnn((3, 16, 16), 4, 3)
    x = random_inputs(5, 3, 16, 16, dtype=torch.float32)
    assert torch.equal(nets.normalised(net, MEAN, STD)(x), net(scaled(x)))


def test_one_number_is_for_inputs_of_any_shape():
    net = nets.mlp(6, (4,), 3)
    for shape in ((6,), (1, 2, 3), (2, 3)):
        x = random_inputs(5, *shape, dtype=torch.float32)
        assert torch.equal(nets.normalised(net, 0.1307, 0.3081)(x), net((x - 0.1307) / 0.3081))


def test_a_radius_in_pixels_is_one_in_normalised_units_times_std():
    """FGSM of radius eps behind the layer moves the normalised input by eps / std, per channel, where nothing is clipped."""
    net = nets.cnn((3, 16, 16), 4, 3).eval()
    x, y = 0.2 + 0.6 * torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    inside = br.attacks.FGSM(eps=0.01)(from_modules([nets.normalised(net, MEAN, STD).eval()], bounds=(0, 1)), x, y)
    z = scaled(x)
    outside = br.attacks.FGSM(eps=1.0)(from_modules([net]), z, y) - z
    expected = 0.01 * outside / torch.tensor(STD)[:, None, None]
    assert torch.allclose(scaled(inside) - z, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.1, 0.2), (1.0,)), ((), ()), (0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.0, math.inf)]
)
def test_bad_input(mean, std):
    with pytest.raises(InputError, match="std"):
        nets.normalised(nets.mlp(2, (3,), 2), mean, std)
