"""How an attack looks at a predictive, and what it sees there: what checks of attacks need to know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.attacks import Attack
from bayesrob.attacks.geometry import norms
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.predictive.checks import are_probabilities
from bayesrob.types import Batch, Labels

__all__ = [
    "at_zero", "distinct", "draws_seen", "fixed_steps", "gradient", "iterated", "members", "objectives_of", "suspicious",
    "takes_new", "vanished",
]  # fmt: skip

BATCH = 50


# ---- settings -----------------------------------------------------------------------------------------------------------


def members(attack: Attack) -> list[Attack]:
    """The attacks that it runs on the predictive itself: its own, or those of an ensemble."""
    return list(attack.members())


def objectives_of(attack: Attack) -> list[str]:
    """What it climbs by gradients; nothing for attacks that take none."""
    found = [getattr(one, "objective", None) for one in members(attack) if one.sees == "gradients"]
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def draws_seen(attack: Attack, post: Predictive) -> int:
    """Draws of `post` that the attack averages at each look, the fewest of an ensemble's members; 0: it never looks."""
    if attack.sees == "nothing":
        return 0
    return min(one.num_draws or post.num_draws for one in members(attack))


def takes_new(attack: Attack) -> bool:
    """Whether draws made anew are new at every look."""
    return all(one.draws == "fresh" for one in members(attack))


def iterated(attack: Attack) -> bool:
    """Whether it takes more than one step."""
    return any(getattr(one, "steps", 1) > 1 for one in members(attack))


def fixed_steps(attack: Attack) -> list[float]:
    """Lengths of steps that it repeats, where they were fixed."""
    steps = [(getattr(one, "step_size", None), getattr(one, "steps", 1)) for one in members(attack)]
    return [float(size) for size, count in steps if size is not None and count > 1]


# ---- what is seen -------------------------------------------------------------------------------------------------------


def suspicious(post: Predictive, x: Batch, seeds: tuple[int, *tuple[str, ...]]) -> list[bool]:
    """Of each draw, whether its raw outputs are probabilities, where logits belong."""
    with torch.no_grad(), rng.global_seed(*seeds):
        return [are_probabilities(one) for one in post.logits(x, None, rng.derive(*seeds))]


def gradient(
    post: Predictive, x: Batch, y: Labels, objective: str, seeds: tuple[int, *tuple[str, ...]], num_draws: int | None = None
) -> Batch:
    """The gradient of `objective` on the draws of `seeds`."""
    with rng.global_seed(*seeds):
        parts = [
            post.input_gradient(x[part], y[part], objective, num_draws, rng.derive(*seeds)) for part in slices(len(x), BATCH)
        ]
    return torch.cat(parts)


def vanished(post: Predictive, x: Batch, y: Labels, names: Sequence[str], seeds: tuple[int, *tuple[str, ...]]) -> Tensor:
    """At which points every component of the gradients of all these objectives is exactly zero."""
    return torch.stack([norms(gradient(post, x, y, name, seeds), "l_inf") == 0 for name in names]).all(0)


def at_zero(post: Predictive, x: Batch, y: Labels, seeds: tuple[int, *tuple[str, ...]]) -> str:
    """What the draws' own margins say where the gradient of an attack is zero, in words."""
    margin = norms(gradient(post, x, y, "margin_per_draw", seeds), "l_2")
    return f"; there the draws' own margin has a gradient of median norm {float(margin.median()):.2g}"


def distinct(post: HeldDraws) -> int:
    """How many draws of the weights differ from all others, each counted once."""
    digests: list[Any] = [hashlib.blake2b() for _ in range(post.num_draws)]
    for tensor in post.weights.values():
        for digest, draw in zip(digests, tensor, strict=True):
            digest.update(draw.detach().cpu().contiguous().numpy().tobytes())
    return len({digest.digest() for digest in digests})
