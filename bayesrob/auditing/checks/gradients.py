"""Checks 3 and 15: is there a gradient, and is it more than noise?"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.attacks.geometry import norms
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.levels import members, objectives_of
from bayesrob.auditing.registry import Finding, check, not_applicable
from bayesrob.numerics import slices
from bayesrob.predictive import Predictive
from bayesrob.types import Batch

__all__ = ["gradient_noise", "zero_gradients"]

BATCH = 50
NO_GRADIENTS = "The attack takes no gradients."


@check(3, threshold=0.01, source="Carlini & Wagner 2017, section V; AutoAttack")
def zero_gradients(bench: Bench, threshold: float) -> Finding:
    """At how many points is the gradient that the attack climbs exactly zero?

    The value is the share of points where every component is zero, in the model's own precision, for all objectives of the
    attack. A softmax that rounds to one has no gradient in float32, and may have one in float64; the margin still has one.
    """
    names = objectives_of(bench.attack)
    if not names:
        return not_applicable(NO_GRADIENTS)
    zero = torch.stack([norms(_gradient(bench, bench.post, bench.x, name), "l_inf") == 0 for name in names]).all(0)
    value, rows = float(zero.double().mean()), torch.nonzero(zero)[:, 0]
    text = f"The gradient of {' and '.join(names)} is exactly zero at {len(rows)} of {len(zero)} points"
    if len(rows) == 0:
        return Finding(value, value <= threshold, f"{text}.")
    double = _double(bench, rows, names)
    margin = norms(_gradient(bench, bench.post, bench.x[rows], "margin_per_draw", rows), "l_2")
    text += f" ({double}); there the draws' own margin has a gradient of median norm {float(margin.median()):.2g}."
    return Finding(value, value <= threshold, text)


@check(15, threshold=0.5, source="Carbone et al. 2020, section 5.1; Athalye et al. 2018, section 4.2")
def gradient_noise(bench: Bench, threshold: float) -> Finding:
    """Is the gradient that the attack climbs more than noise?

    The value is the share of points where looks at the same place, as the attack makes them, differ by more than what they
    have in common: the standard deviation of a look, over components, exceeds the norm of their mean with the noise taken
    out. Beside it, where there are several draws: at how many points the averaged loss gradient is within two of its Monte
    Carlo standard errors of zero. Calling those vanished would be calling noise vanished.
    """
    names = objectives_of(bench.attack)
    if not names:
        return not_applicable(NO_GRADIENTS)
    draws = next(one.num_draws for one in members(bench.attack) if one.sees == "gradients")
    count = bench.level.repeats
    looks = torch.stack([
        _gradient(bench, bench.post, bench.x, names[0], draws=f"look {i}", num_draws=draws) for i in range(count)
    ]).flatten(2).double()  # fmt: skip
    mean = looks.mean(0)
    noise = looks.var(0).sum(-1)
    signal = (mean.square().sum(-1) - noise / count).clamp(min=0)
    lost = (noise > signal) & (noise > 1e-12 * mean.square().sum(-1))
    value = float(lost.double().mean())
    same = (
        "are the same each time"
        if float(noise.max()) == 0
        else f"are mostly noise at {int(lost.sum())} of {len(lost)} points"
    )
    text = f"{count} gradients of {names[0]} at the same points {same}."
    error = _monte_carlo(bench)
    return Finding(value, value <= threshold, text if error is None else f"{text} {error}")


def _gradient(
    bench: Bench, post: Predictive, x: Batch, objective: str, rows: Tensor | None = None, draws: str = "gradient",
    num_draws: int | None = None,
) -> Batch:  # fmt: skip
    y = bench.y if rows is None else bench.y[rows]
    seed = rng.derive(bench.seed, "audit", draws)
    with rng.global_seed(bench.seed, "audit", draws):
        parts = [post.input_gradient(x[part], y[part], objective, num_draws, seed) for part in slices(len(x), BATCH)]
    return torch.cat(parts)


def _double(bench: Bench, rows: Tensor, names: list[str]) -> str:
    """What float64 says about those points, in words."""
    if bench.x.dtype == torch.float64:
        return "in float64"
    try:
        post = bench.post[:].double()
        zero = torch.stack([norms(_gradient(bench, post, bench.x[rows].double(), n, rows), "l_inf") == 0 for n in names])
    except RuntimeError as error:  # a network of the user's own that knows one precision only
        return f"float64 could not be tried: {error}"
    return f"in float64 at {int(zero.all(0).sum())} of them"


def _monte_carlo(bench: Bench) -> str | None:
    if bench.post.num_draws < 2:
        return None
    seed, small = rng.derive(bench.seed, "audit", "error"), []
    for part in slices(min(len(bench.x), bench.level.errors), BATCH):
        mean, error = bench.post.input_gradient(bench.x[part], bench.y[part], seed=seed, standard_error=True)
        small.append(norms(mean, "l_2") < 2 * norms(error, "l_2"))
    noise = torch.cat(small)
    return (
        f"Of {bench.post.num_draws} draws the averaged loss gradient is within two Monte Carlo standard errors of zero at "
        f"{int(noise.sum())} of {len(noise)} points: there it has not vanished, it is not known."
    )
