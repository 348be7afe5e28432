"""Bias and variance attacks beside random directions of the same length, for regressions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis import mean_interval
from bayesrob.attacks import BiasAttack, VarianceAttack
from bayesrob.predictive import Predictive, from_predictives
from shared.model_sets import cell, outputs

__all__ = ["RMS", "TABLE", "Compared", "compare"]

RMS = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Root mean squares of the perturbations."""

TABLE = (
    "(c) Change of mean squared bias and of mean variance (plug-in) along each attack, every point moved equally far "
    "('each point') or in proportion to its direction's length, as the paper prints it, at the same mean square ('the "
    "batch'). '|change of bias|': mean over points, 95% t interval. 'Random': mean over as many directions at each point; "
    "'best': at each point the best of them, for bias and for variance by themselves."
)

ATTACKS = {
    "bias, paper": BiasAttack(mse=1.0, direction="paper"),
    "bias, exact": BiasAttack(mse=1.0),
    "variance": VarianceAttack(mse=1.0),
}


class Compared(NamedTuple):
    """What `compare` returns.

    Args:
        changes: changes of bias and variance `[rms, attack, term, point]`.
        rows: the rows of the table.
        notes: what the paper's claims come to.
    """

    changes: xr.Dataset
    rows: list[dict[str, str]]
    notes: list[str]


def compare(models: Sequence[Predictive], x: Tensor, truth: Tensor, count: int, seed: int) -> Compared:
    """Every attack at every size, `count` random directions at each point, and what the paper's claims come to.

    Args:
        models: regressions of one output.
        x: the points `[point, feature]`.
        truth: the true f `[point, 1]`, which does not move with x.
        count: number of random directions at each point.
        seed: fixes the random directions.
    """
    ensemble = from_predictives(list(models))
    clean = _terms(models, x, truth)
    way = torch.randn(count, *x.shape, generator=rng.generator(seed, "directions"))
    way /= way.square().mean(-1, keepdim=True).sqrt()
    parts = []
    for rms in RMS:
        change = {}
        for scaled in ("point", "batch"):
            for name, attack in ATTACKS.items():
                sized = dataclasses.replace(attack, mse=rms**2, mse_per=scaled)
                change[f"{name}, {scaled}"] = _terms(models, sized(ensemble, x, truth, seed), truth) - clean
        drawn = np.stack([_terms(models, x + rms * w, truth) - clean for w in way])  # [direction, term, point]
        change["random, mean"] = drawn.mean(0)
        change["random, best"] = drawn.max(0)
        size = np.abs(drawn[:, 0]).mean(0)
        data = xr.Dataset(
            {
                "change": (("attack", "term", "point"), np.stack(list(change.values()))),
                "random_size": ("point", size),
            },
            coords={"attack": list(change), "term": ["bias", "variance"]},
        )
        parts.append(data.expand_dims(rms=[rms]))
    changes = xr.concat(parts, "rms").assign_attrs(directions=count)
    return Compared(changes, _rows(changes), _notes(changes))


def _terms(models: Sequence[Predictive], x: Tensor, truth: Tensor) -> np.ndarray:
    """Squared bias and variance (plug-in) at each point, `[2, point]`."""
    values = np.stack([outputs(model, x)[:, 0] for model in models])
    return np.stack([(values.mean(0) - truth[:, 0].double().numpy()) ** 2, values.var(0)])


def _rows(changes: xr.Dataset) -> list[dict[str, str]]:
    lines = []
    for rms in changes["rms"].values.tolist():
        for name in changes["attack"].values.tolist():
            change = changes["change"].sel(rms=rms, attack=name)
            attack, _, scaled = name.rpartition(", ")
            size = np.abs(change.sel(term="bias").values)
            if name == "random, mean":
                size = changes["random_size"].sel(rms=rms).values
            lines.append(
                {
                    "rms": f"{rms:g}",
                    "attack": name if attack == "random" else attack,
                    "scaled by": {"point": "each point", "batch": "the batch"}.get(scaled, "each point"),
                    **{f"change of {t}": _mean(change.sel(term=t).values) for t in ("bias", "variance")},
                    "|change of bias|": _mean(size),
                }
            )
    return lines


def _mean(values: np.ndarray) -> str:
    return cell(values.mean(), mean_interval(values))


def _notes(changes: xr.Dataset) -> list[str]:
    texts = []
    for rms in changes["rms"].values.tolist():
        at = changes.sel(rms=rms)
        change = at["change"]
        top, varied = (change.sel(attack="random, best", term=t).values for t in ("bias", "variance"))
        exact, paper, spread = (change.sel(attack=f"{n}, point") for n in ATTACKS_IN_ORDER)
        size = np.abs(spread.sel(term="bias").values)
        low, high = mean_interval(size - at["random_size"].values)
        verdict = "less than" if high < 0 else "more than" if low > 0 else "not to be told from"
        texts.append(
            f"rms {rms:g}: of the bias that the best random direction at each point gains the bias attack gains "
            f"{_part(exact, 'bias', top)} with the sign, {_part(paper, 'bias', top)} as printed; of the best variance the "
            f"variance attack {_part(spread, 'variance', varied)}. It moves the bias by {size.mean():.3g} in the mean over "
            f"points, {verdict} a random direction's {float(at['random_size'].mean()):.3g}"
        )
    return [f"(c) {text}." for text in texts]


ATTACKS_IN_ORDER = ("bias, exact", "bias, paper", "variance")


def _part(change: Any, term: str, best: np.ndarray) -> str:
    return f"{float(change.sel(term=term).mean()) / best.mean():.3f}"
