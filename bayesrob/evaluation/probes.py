"""Cheap measurements of a predictive that checks ask for: raw outputs, gradients at a few points, distinct draws."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.attacks import norms
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive, are_probabilities
from bayesrob.types import Batch, Labels

__all__ = ["Seeds", "at_zero", "distinct_draws", "gradient", "outputs_are_probabilities", "vanished"]

BATCH = 50
"""Points whose gradients are taken at once."""

type Seeds = tuple[int, *tuple[str, ...]]
"""A seed and the names of the stream derived from it, for `rng.derive`."""


def outputs_are_probabilities(post: Predictive, x: Batch, seeds: Seeds) -> list[bool]:
    """For each draw, whether its raw outputs are probabilities, where logits belong."""
    with torch.no_grad(), rng.global_seed(*seeds):
        return [are_probabilities(one) for one in post.logits(x, None, rng.derive(*seeds))]


def gradient(post: Predictive, x: Batch, y: Labels, objective: str, *, seeds: Seeds, num_draws: int | None = None) -> Batch:
    """The gradient of `objective` at each point, on the draws of `seeds`."""
    with rng.global_seed(*seeds):
        parts = [
            post.input_gradient(x[part], y[part], objective, num_draws, rng.derive(*seeds)) for part in slices(len(x), BATCH)
        ]
    return torch.cat(parts)


def vanished(post: Predictive, x: Batch, y: Labels, objectives: Sequence[str], seeds: Seeds) -> Tensor:
    """At which points every component of the gradients of all these objectives is exactly zero."""
    return torch.stack([norms(gradient(post, x, y, name, seeds=seeds), "l_inf") == 0 for name in objectives]).all(0)


def at_zero(post: Predictive, x: Batch, y: Labels, seeds: Seeds) -> str:
    """What the draws' own margins say at points where the gradient of an attack is zero, in words."""
    margin = norms(gradient(post, x, y, "margin_per_draw", seeds=seeds), "l_2")
    return f"; there the draws' own margin has a gradient of median norm {float(margin.median()):.2g}"


def distinct_draws(post: HeldDraws) -> int:
    """How many draws of the weights differ from all others, each counted once."""
    digests: list[Any] = [hashlib.blake2b() for _ in range(post.num_draws)]
    for tensor in post.weights.values():
        for digest, draw in zip(digests, tensor, strict=True):
            digest.update(draw.detach().cpu().contiguous().numpy().tobytes())
    return len({digest.digest() for digest in digests})
