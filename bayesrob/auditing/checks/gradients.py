"""Checks 3 and 15: is there a gradient, and is it more than noise?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis import checks
from bayesrob.attacks.geometry import norms
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, shared
from bayesrob.evaluation.looks import at_zero, gradient, members, objectives_of, vanished
from bayesrob.numerics import slices

__all__ = ["gradient_noise", "zero_gradients"]

BATCH = 50


@shared
def zero_gradients(bench: Bench, threshold: float) -> Finding:
    names, seeds = objectives_of(bench.attack), (bench.seed, "audit", "gradient")
    zero = vanished(bench.post, bench.x, bench.y, names, seeds) if names else bench.clean
    rows, there = torch.nonzero(zero)[:, 0], ""
    if names and len(rows):
        x, y = bench.x[rows], bench.y[rows]
        there = f" ({_double(bench, rows, names)}){at_zero(bench.post, x, y, seeds)}"
    return checks.zero_gradients(zero.cpu().numpy(), names, there, threshold)


@shared
def gradient_noise(bench: Bench, threshold: float) -> Finding:
    names = objectives_of(bench.attack)
    if not names:
        return checks.gradient_noise(None, "", None, 0, threshold)
    draws = next(one.num_draws for one in members(bench.attack) if one.sees == "gradients")
    looks = torch.stack([
        gradient(bench.post, bench.x, bench.y, names[0], (bench.seed, "audit", f"look {i}"), draws).flatten(1)
        for i in range(bench.level.repeats)
    ])  # fmt: skip
    return checks.gradient_noise(looks.cpu().numpy(), names[0], _monte_carlo(bench), bench.post.num_draws, threshold)


def _double(bench: Bench, rows: Tensor, names: list[str]) -> str:
    """What float64 says about those points, in words."""
    if bench.x.dtype == torch.float64:
        return "in float64"
    try:
        post = bench.post[:].double()
        zero = vanished(post, bench.x[rows].double(), bench.y[rows], names, (bench.seed, "audit", "gradient"))
    except RuntimeError as error:  # a network of the user's own that knows one precision only
        return f"float64 could not be tried: {error}"
    return f"in float64 at {int(zero.sum())} of them"


def _monte_carlo(bench: Bench) -> np.ndarray | None:
    """At which points the averaged loss gradient is within two of its standard errors of zero."""
    if bench.post.num_draws < 2:
        return None
    seed, small = rng.derive(bench.seed, "audit", "error"), []
    for part in slices(min(len(bench.x), bench.level.errors), BATCH):
        mean, error = bench.post.input_gradient(bench.x[part], bench.y[part], seed=seed, standard_error=True)
        small.append(norms(mean, "l_2") < 2 * norms(error, "l_2"))
    return torch.cat(small).cpu().numpy()
