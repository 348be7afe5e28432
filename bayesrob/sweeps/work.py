"""One run of a sweep, wherever it is done: train, score the cells along the way, keep each at once."""

from __future__ import annotations

import json
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from bayesrob import numerics, rng
from bayesrob._version import __version__
from bayesrob.analysis import robustness
from bayesrob.evaluation.looks import distinct
from bayesrob.evaluation.points import chosen_points
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.sweeps import files
from bayesrob.sweeps.cell import Cell

__all__ = ["do", "score"]

BATCH = 250
"""Points attacked at once, as `evaluate` has them."""


def do(
    configs: Sequence[dict[str, Any]],
    ends: Sequence[int | None],
    folder: str,
    route: str,
    device: str = "cpu",
    threads: int | None = 1,
) -> int:
    """Train one run and keep what its cells score; returns how many were done here.

    Cells whose results are there already are left alone, so that nothing is trained for them. An error is kept beside the
    results, as theirs; what was reached before it stays.

    Args:
        configs: of the cells, in the order in which they are reached; ends: see `plan.Run`.
        folder: of the results. route: of float32 products on a CPU. device: of the networks.
        threads: of torch, here only; None: as they are.
    """
    cells, place = [Cell(**config) for config in configs], Path(folder)
    left = [(cell, end) for cell, end in zip(cells, ends, strict=True) if not files.is_done(place, cell)]
    if not left:
        return 0
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    done: list[str] = []
    files.begin(place, cells[-1].key)
    try:
        with numerics.route(route), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes are in the results
            _train(left, place, done, device)
    except Exception:
        for cell, _ in left:
            if cell.key not in done:
                files.fail(place, cell, traceback.format_exc())
    finally:
        torch.set_num_threads(before)
        files.end(place, cells[-1].key)
    return len(done)


def _train(left: Sequence[tuple[Cell, int | None]], place: Path, done: list[str], device: str) -> None:
    cell, end = left[-1]
    method, dataset, model = cell.method(), cell.dataset(), cell.network().to(device)
    spent, start = 0.0, time.perf_counter()

    def keep(post: Predictive, reached: int | None) -> None:
        nonlocal spent
        seconds = time.perf_counter() - start - spent
        for one, at in left:
            if at == reached:
                began = time.perf_counter()
                scores = score(post, one)
                spent += time.perf_counter() - began
                files.write(place, one, scores.assign(training_seconds=seconds, scoring_seconds=time.perf_counter() - began))
                done.append(one.key)

    if end is None or "num_samples" in cell.inference:
        post: Any = method.fit(model, dataset, seed=cell.seed)
        for reached in dict.fromkeys(at for _, at in left):
            keep(post if reached is None else post[: reached * post.num_chains], reached)
    else:
        post = method.fit(model, dataset, seed=cell.seed, each_epoch=lambda epoch, post: keep(post, epoch))
        # A loss that blew up ends a run early, at its last finite weights: so would those cells by themselves.
        for reached in dict.fromkeys(at for one, at in left if one.key not in done):
            keep(post, reached)


def score(post: Predictive, cell: Cell) -> xr.Dataset:
    """Accuracy and robustness of one cell, over `attack`; what chains did; what training noticed.

    Attacks and scores look at the same draws, held.
    `robustness` says what the scores are; `resoftmaxed_robustness` is softmax robustness with the softmax applied twice, as
    the reference code of Carbone et al. 2020 reports it for Bayesian networks.
    """
    attacks, chains = cell.attacks(), _chains(post)
    if "num_draws" in cell.evaluation or not isinstance(post, HeldDraws):  # a copy takes as long as a look at it
        post = post.freeze(cell.evaluation.get("num_draws"), rng.derive(cell.seed, "sweep", "score"))
    _, x, y = chosen_points(cell.dataset(), cell.evaluation.get("num_points", 500), cell.seed)
    device = next(post.net.parameters()).device
    x, y = x.to(device), y.to(device)

    def predict(inputs: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            parts = [post(inputs[part]) for part in numerics.slices(len(inputs), BATCH)]
        return torch.cat(parts).double().cpu().numpy()

    clean, attacked = predict(x), []
    for name, attack in attacks.items():
        seed = rng.derive(cell.seed, "sweep", "attack", name)
        parts = [attack(post, x[part], y[part], seed=seed) for part in numerics.slices(len(x), BATCH)]
        attacked.append(predict(torch.cat(parts)))
    names = {"attack": list(attacks)}
    adversarial = np.stack(attacked) if attacked else np.empty((0, *clean.shape))
    labels = xr.DataArray(y.cpu().numpy(), dims="point")
    found = robustness(
        xr.DataArray(clean, dims=("point", "class")),
        xr.DataArray(adversarial, dims=("attack", "point", "class"), coords=names),
        labels,
    )
    twice = [_softmax(np.exp(values)) for values in (clean, adversarial)]
    more = {
        "resoftmaxed_robustness": ("attack", 1 - np.abs(twice[0] - twice[1]).max(-1).mean(-1)),
        "loss": -clean[np.arange(len(y)), labels.values].mean(),
    }
    return found.assign(more | chains).assign_attrs(
        notes=json.dumps(post.info.get("notes", [])),
        numerics=numerics.asked(),  # within a sweep the route of all its runs
        versions=json.dumps({"bayesrob": __version__, "torch": torch.__version__, "device": str(device)}),
    )


def _softmax(values: np.ndarray) -> np.ndarray:
    high = np.exp(values - values.max(-1, keepdims=True))
    return high / high.sum(-1, keepdims=True)


def _chains(post: Predictive) -> dict[Any, Any]:
    """Of chains; NaN of what has none."""
    names = ("acceptance_rate", "divergences", "distinct_draws", "num_draws")
    found = dict.fromkeys(names, float("nan"))
    found["num_draws"] = float(post.num_draws)
    if isinstance(post, HeldDraws) and post.sample_stats:
        stats = post.sample_stats
        found["acceptance_rate"] = float(np.mean(stats["acceptance_rate"]))
        found["divergences"] = float(np.sum(stats["diverging"]))
        found["distinct_draws"] = float(distinct(post))
    return found
