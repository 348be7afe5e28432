"""The jobs that are timed: random data for networks of given sizes, and draws of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob.data import Dataset
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws

__all__ = ["dataset_and_model", "fast_route", "held_draws", "name_of", "network", "points"]


def network(sizes: Sequence[int]) -> nn.Sequential:
    return br.nets.mlp(sizes[0], sizes[1:-1], sizes[-1], activation="leaky_relu")


def name_of(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def points(sizes: Sequence[int], num: int) -> tuple[Tensor, Tensor]:
    """Uniform inputs in [0, 1] and random labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(num, sizes[0], generator=generator)
    return x, torch.randint(sizes[-1], (num,), generator=generator)


def dataset_and_model(sizes: Sequence[int], num: int) -> tuple[Dataset, BayesianNetwork]:
    """`points` as training data, and a network with N(0, 1) priors."""
    x, y = points(sizes, num)
    return br.data.from_arrays(x, y, x[:10], y[:10], num_classes=sizes[-1]), BayesianNetwork(network(sizes))


def held_draws(sizes: Sequence[int], num_draws: int) -> HeldDraws:
    """Draws N(0, 1 / fan in) of every weight, with bounds [0, 1]."""
    net = network(sizes)
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(num_draws, *parameter.shape, generator=generator).mul_(parameter[0].numel() ** -0.5)
        for name, parameter in net.named_parameters()
    }
    return HeldDraws(net, weights, bounds=(0, 1), input_shape=(sizes[0],))


def fast_route(net: nn.Module) -> tuple[str, contextlib.AbstractContextManager[object]] | None:
    """The route of products that bayesrob takes for this network, for hand-written code; None if it is torch's own."""
    route = br.numerics.choose(net)
    return None if route.name == "plain" else (route.name, route)
