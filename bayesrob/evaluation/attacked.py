"""Attacks run batch by batch: their perturbations, what those cost, and in which ball or norm they are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import xarray as xr
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis import median_perturbation, robust_points, smallest_perturbation, worst_case
from bayesrob.attacks import Attack, Transfer, norms
from bayesrob.numerics import slices
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Bounds, Labels

__all__ = ["SIZES", "Run", "add_worst_case", "attack_points", "ball", "measures"]

SIZES = ("l_inf", "l_2", "l_1", "l_0")
"""Norms that perturbations are measured in."""


class Run(NamedTuple):
    """What one attack made of all points, on the CPU."""

    x: Tensor
    """Adversarial inputs, `[point, *shape]`."""
    queries: Tensor
    """Predictions asked for at each point, `[point]`."""
    gradients: Tensor
    """Gradients taken at each point, `[point]`."""
    seconds: float
    """Wall-clock seconds for all points, on this machine."""


def attack_points(
    attack: Attack,
    predictive: Predictive,
    x: Batch,
    y: Labels,
    *,
    batch_size: int,
    seeds: tuple[int, *tuple[str, ...]],
    done: Callable[[], None] = lambda: None,
) -> Run:
    """Run `attack` on the points batch by batch.

    Args:
        attack: the attack.
        predictive: what is attacked.
        x: the points.
        y: their labels.
        batch_size: points attacked at once.
        seeds: a seed and names of a random stream, from which, with its index, each batch's seed is derived.
        done: called after each batch.
    """
    seed, *names = seeds
    parts, started = [], time.perf_counter()
    for i, part in enumerate(slices(len(x), batch_size)):
        parts.append(attack.run(predictive, x[part], y[part], seed=rng.derive(seed, *names, i)))
        done()
    seconds = time.perf_counter() - started
    z, queries, gradients = (torch.cat([values.cpu() for values in column]) for column in zip(*parts, strict=True))
    return Run(z, queries, gradients, seconds)


def ball(attack: Attack) -> tuple[str, float] | None:
    """Return norm and radius of the ball that the attack stays in; None if it has none."""
    if isinstance(attack, Transfer):
        return ball(attack.attack)
    norm, eps = getattr(attack, "norm", None), getattr(attack, "eps", None)
    return None if attack.minimal or norm not in SIZES or eps is None else (norm, float(eps))


def own_norm(attack: Attack) -> str | None:
    """Return the norm that the attack makes as small as it can; None for an attack that has a radius, or no norm."""
    if isinstance(attack, Transfer):
        return own_norm(attack.attack)
    norm = getattr(attack, "norm", None)
    return norm if norm in SIZES and ball(attack) is None else None


def measures(x: Batch, attacked: Mapping[str, Run], bounds: Bounds | None) -> xr.Dataset:
    """Return size, place and cost of every perturbation, `[attack, point]`."""
    x = x.cpu()
    columns = {f"perturbation_{norm}": [norms(run.x - x, norm) for run in attacked.values()] for norm in SIZES}
    columns["inside_bounds"] = [_inside(run.x, bounds) for run in attacked.values()]
    columns["queries"] = [run.queries for run in attacked.values()]
    columns["gradients"] = [run.gradients for run in attacked.values()]
    empty = torch.zeros(0, len(x))
    return xr.Dataset(
        {name: (("attack", "point"), (torch.stack(rows) if rows else empty).numpy()) for name, rows in columns.items()}
    )


def add_worst_case(
    points: xr.Dataset, scores: xr.Dataset, attacks: Mapping[str, Attack], attacked: Mapping[str, Run], level: float
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return `points` and `scores` with the worst case over all attacks, smallest perturbations and costs.

    Args:
        points: the group `points` of an evaluation.
        scores: its group `robustness`.
        attacks: the attacks by name.
        attacked: the run of each of them.
        level: coverage of the intervals.
    """
    balls = {name: where for name, attack in attacks.items() if (where := ball(attack)) is not None}
    own = {name: norm for name, attack in attacks.items() if (norm := own_norm(attack)) is not None}
    robust, smallest = robust_points(points, balls), smallest_perturbation(points, own)
    scores = xr.merge([scores, worst_case(robust, level), median_perturbation(smallest, level)], combine_attrs="override")
    scores["queries"], scores["gradients"] = points["queries"].mean("point"), points["gradients"].mean("point")
    # A coordinate: a clock says something else each time, and the data of the same seed are the same to the last bit.
    scores = scores.assign_coords(seconds=("attack", [run.seconds for run in attacked.values()]))
    return points.assign(robust=robust, smallest_perturbation=smallest), scores


def _inside(z: Tensor, bounds: Bounds | None) -> Tensor:
    if bounds is None:
        return torch.ones(len(z), dtype=torch.bool)
    return ((z >= bounds[0]) & (z <= bounds[1])).flatten(1).all(1)
