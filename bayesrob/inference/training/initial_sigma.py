"""Initial standard deviations of the stochastic delta rule, by the published rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.arguments import is_number, require
from bayesrob.errors import InputError, check_name
from bayesrob.types import Weights

__all__ = ["RULES", "check_sigma", "initial_sigma"]


def _frazier_logue_2018(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform in [0, 0.5 sqrt(2 / numel)] (code of Frazier-Logue & Hanson 2018)."""
    return torch.rand(shape, generator=generator, dtype=torch.float32) * (0.5 * math.sqrt(2 / shape.numel()))


def _xavier(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """|N(0, 2 / (fan in + fan out))| (Glorot & Bengio 2010): w = mu + sigma eps does not know the sign of sigma."""
    fields = shape[2:].numel()
    fan_out, fan_in = (shape[0] * fields, shape[1] * fields) if len(shape) > 1 else (shape.numel(), shape.numel())
    drawn = torch.randn(shape, generator=generator, dtype=torch.float32).abs_()
    # Never exactly zero, whose logarithm could not be learned.
    return (drawn * math.sqrt(2 / (fan_in + fan_out))).clamp_(min=1e-12)


RULES: dict[str, Callable[[torch.Size, torch.Generator], Tensor]] = {
    "frazier_logue_2018": _frazier_logue_2018,
    "xavier": _xavier,
}


def check_sigma(rule: object, positive: bool) -> None:
    """Check what the user gave as `initial_sigma`: a number, the name of a rule, or one of these for each parameter.

    Args:
        rule: what the user gave.
        positive: whether numbers must be above 0, because the logarithm is learned; else 0 is allowed, too.

    Raises:
        InputError: another number or type.
        UnknownNameError: an unknown rule.
    """
    rules: list[Any] = list(rule.values()) if isinstance(rule, Mapping) else [rule]
    for one in rules:
        if isinstance(one, str):
            check_name("initial_sigma", one, RULES)
            continue
        require(
            is_number(one) and (one > 0 if positive else one >= 0),
            f"initial_sigma is {one!r}.",
            "It is a standard deviation" + (", learned by its logarithm." if positive else "."),
            f"Give a number {'>' if positive else '>='} 0 or one of {sorted(RULES)}.",
        )


def initial_sigma(rule: float | str | Mapping[str, float | str], net: nn.Module, seed: int) -> Weights:
    """Standard deviations by parameter name, of the parameters' shapes.

    Args:
        rule: a number or the name of a rule for every parameter, or one for each by its name.
        net: the network that has the parameters.
        seed: seed of the rules' random numbers.

    Raises:
        InputError: names that are not the network's, or miss some.
        UnknownNameError: an unknown rule.
    """
    parameters = dict(net.named_parameters())
    if isinstance(rule, Mapping) and rule.keys() != parameters.keys():
        raise InputError(
            f"initial_sigma names {sorted(rule)}.", f"The network has {sorted(parameters)}.", "Name each of them once."
        )
    sigma = {}
    for name, parameter in parameters.items():
        own = rule[name] if isinstance(rule, Mapping) else rule
        if isinstance(own, str):
            drawn = RULES[check_name("initial_sigma", own, RULES)](parameter.shape, rng.generator(seed, "sigma", name))
            sigma[name] = drawn.to(parameter.detach())
        else:
            sigma[name] = torch.full_like(parameter.detach(), own)
    return sigma
