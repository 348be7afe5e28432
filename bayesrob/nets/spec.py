"""How a network is written down, so that draws saved on disk find their architecture again without running pickled code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from bayesrob import rng
from bayesrob.arguments import whole
from bayesrob.errors import InputError, check_name

__all__ = ["ACTIVATIONS", "ARCHITECTURES", "activation_layer", "build", "describe", "initialise", "positive", "spec_of"]

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01 below zero, torch's default
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation_layer(name: str) -> nn.Module:
    """A new activation layer by its name; `UnknownNameError` suggests the nearest."""
    return ACTIVATIONS[check_name("activation", name, ACTIVATIONS)]()


def positive(what: str, value: int) -> int:
    """Return `value` as an `int` if it is a positive whole number, else raise `InputError`."""
    return whole(what, value, "A layer needs a positive whole number of units.")


def describe(net: nn.Module, architecture: str, /, **arguments: Any) -> nn.Module:
    """Write on `net` how to build it again."""
    net.spec = {"architecture": architecture, **arguments}  # type: ignore[assignment]
    return net


def spec_of(net: nn.Module) -> dict[str, Any] | None:
    """What `describe` wrote on `net`, or None for a network of the user's own."""
    return getattr(net, "spec", None)


def build(spec: dict[str, Any]) -> nn.Module:
    """The network that `spec` describes, with fresh weights."""
    arguments = dict(spec)
    name = check_name("architecture", arguments.pop("architecture", None), ARCHITECTURES)
    try:
        return ARCHITECTURES[name](**arguments)
    except TypeError as error:
        raise InputError(f"The network cannot be built: {error}.", f"{spec} is not a description of {name}.", "") from error


def initialise(net: nn.Module, seed: int, *names: str | int) -> nn.Module:
    """A copy of `net` with every layer's weights drawn anew by the layer's own `reset_parameters`, from `seed`.

    Layers without that method keep their weights.
    """
    net = copy.deepcopy(net)
    with rng.global_seed(seed, "initialise", *names):
        for module in net.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return net
