from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from bayesrob import nets
from bayesrob.errors import InputError, UnknownNameError
from tests.nets.helpers import random_inputs


class Paper(nn.Module):
    """The network of Carbone et al. 2020 (supplement), written out."""

    def __init__(self, hidden: int, channels: int, flat: int, classes: int):
        super().__init__()
        self.first = nn.Conv2d(channels, 32, 5)
        self.second = nn.Conv2d(32, hidden, 5)
        self.out = nn.Linear(flat, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(leaky_relu(self.first(x)), 2)
        x = nn.functional.max_pool2d(leaky_relu(self.second(x)), 2, stride=1)
        return self.out(x.reshape(len(x), -1))


@pytest.mark.parametrize(("shape", "pixels"), [((1, 28, 28), 49), ((3, 32, 32), 81), ((2, 16, 20), 3)])
def test_it_is_the_papers_network(shape, pixels):
    net = nets.cnn(shape, 6, 10).double()
    paper = Paper(6, shape[0], pixels * 6, 10).double()
    paper.load_state_dict(dict(zip(paper.state_dict(), net.state_dict().values(), strict=True)))
    x = random_inputs(2, *shape)
    torch.testing.assert_close(net(x), paper(x), rtol=1e-12, atol=1e-13)
    leaf = x.requires_grad_()
    for ours, theirs in zip(
        *(torch.autograd.grad(f(x)[:, 0].sum(), [leaf, *f.parameters()]) for f in (net, paper)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    assert list(net.parameters())[-2].shape == (10, 6 * pixels)


def test_smallest_image():
    assert nets.cnn((1, 16, 16), 2, 3)(torch.zeros(1, 1, 16, 16)).shape == (1, 3)
    for shape in ((1, 15, 16), (1, 16, 15)):
        with pytest.raises(InputError, match="at least 16x16"):
            nets.cnn(shape, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((28, 28), 4, 10), r"in_shape is \(28, 28\)"),
        (((0, 28, 28), 4, 10), "in_shape is 0"),
        (((1, 28, 28), 0, 10), "hidden is 0"),
        (((1, 28, 28), 4, -2), "out_features is -2"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises(InputError, match=message):
        nets.cnn(*arguments)


def test_unknown_activation_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        nets.cnn((1, 28, 28), 4, 10, activation="relus")
