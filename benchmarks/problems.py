"""The jobs that are timed: random data for networks of given sizes, and draws of weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob.data import Dataset
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws

__all__ = [
    "PRIORS", "FromOwnWeights", "dataset_and_model", "fast_route", "held_draws", "learnable", "name_of", "network", "points",
    "share_of_denormals", "trained",
]  # fmt: skip


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


PRIORS = {"N(0, 1)": 1.0, "fan-in": "fan_in"}
"""Priors under which chains are run to trained weights."""


def trained(sizes: Sequence[int], prior: str, num: int = 1000, draws: int = 1) -> tuple[Dataset, BayesianNetwork, HeldDraws]:
    """Real data, a network whose weights are the last draw of an HMC chain of 80 transitions on them, and its last draws.

    MNIST where it is on disk, else ten classes that a network can learn; half moons for inputs of two values.
    """
    dataset = learnable(sizes, num)
    scale: Any = PRIORS[prior]
    bnn = BayesianNetwork(network(sizes), prior_scale=scale)
    post = br.inference.HMC(num_samples=draws, warmup=80, num_steps=10, num_chains=1).fit(bnn, dataset)
    assert isinstance(post, HeldDraws)
    with torch.no_grad():
        for name, parameter in bnn.net.named_parameters():
            parameter.copy_(post.weights[name][-1])
    return dataset, bnn, post


def learnable(sizes: Sequence[int], num: int) -> Dataset:
    """MNIST, ten classes around centres, or half moons; `num` training points and 500 others."""
    if sizes[0] == 2:
        return br.data.load("half_moons", n_train=num, n_test=500)
    if sizes[0] == 784:
        with contextlib.suppress(br.errors.BayesrobError):
            mnist = br.data.load("mnist", n_train=num, n_test=500)
            return dataclasses.replace(mnist, x_train=mnist.x_train.flatten(1), x_test=mnist.x_test.flatten(1))
    generator = torch.Generator().manual_seed(2)
    centres = torch.rand(sizes[-1], sizes[0], generator=generator)
    y = torch.randint(sizes[-1], (num + 500,), generator=generator)
    x = (centres[y] + 0.4 * torch.randn(len(y), sizes[0], generator=generator)).clamp_(0, 1)
    return br.data.from_arrays(x[:num], y[:num], x[num:], y[num:], num_classes=sizes[-1], name="ten classes around centres")


class FromOwnWeights(br.inference.HMC):
    """HMC whose chain starts at the network's own weights."""

    def _start(self, bnn: BayesianNetwork, generator: torch.Generator, seed: int, chain: int) -> Tensor:
        return bnn.flatten(dict(bnn.net.named_parameters())).detach()


def share_of_denormals(bnn: BayesianNetwork, dataset: Dataset) -> str:
    """How many probabilities of the network at the data are denormal, and how many zero."""
    with torch.no_grad():
        p = bnn.net(dataset.x_train).softmax(1)
    denormal = (p > 0) & (p < torch.finfo(p.dtype).tiny)
    found = f"{float(denormal.float().mean()):.1%} of the probabilities denormal, {float((p == 0).float().mean()):.1%} zero"
    return f"{dataset.name}: {found}"


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
