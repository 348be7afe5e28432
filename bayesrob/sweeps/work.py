"""One run of a sweep: it trains, scores the cells in the course of training, and stores each result at once."""

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
from bayesrob.evaluation import Scorer, chosen_points, distinct_draws
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.sweeps import files
from bayesrob.sweeps.cell import Cell

__all__ = ["do", "score"]

BATCH = 250
"""How many points are attacked at once, as in `evaluate`."""


def do(
    configs: Sequence[dict[str, Any]],
    ends: Sequence[int | None],
    folder: str,
    route: str,
    device: str = "cpu",
    *,
    threads: int | None = 1,
) -> int:
    """Train one run and store the scores of its cells.

    Nothing is trained for cells whose results exist already. An error is stored as the error of every cell that was not
    reached before it.

    Args:
        configs: the settings of the cells, in the order in which they are reached.
        ends: at how many draws of each chain, or after how many epochs, each cell is reached, see `plan.Run`.
        folder: folder of the results.
        route: name of the route of float32 products on a CPU, see `numerics.route`.
        device: device of the networks.
        threads: number of torch's threads during this call (1, because the processes of a sweep are the parallelism);
            None leaves it as it is.

    Returns:
        How many cells this call finished.
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
            warnings.simplefilter("ignore")  # the results hold the notes of training
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

    def store(post: Predictive, reached: int | None) -> None:
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
            store(post if reached is None else post[: reached * post.num_chains], reached)
    else:
        post = method.fit(model, dataset, seed=cell.seed, each_epoch=lambda epoch, post: store(post, epoch))
        # A loss that is no longer finite ends a run early, with its last finite weights, as it would end separate runs.
        for reached in dict.fromkeys(at for one, at in left if one.key not in done):
            store(post, reached)


def score(post: Predictive, cell: Cell) -> xr.Dataset:
    """Return accuracy and robustness of one cell, the statistics of its chains, and the notes of its training.

    Attacks and scores use the same held draws.

    Args:
        post: the cell's posterior.
        cell: the cell, whose evaluation says which attacks are run on which points.

    Returns:
        Dataset over `attack` with the scores of `analysis.robustness`; `resoftmaxed_robustness`, which is softmax
        robustness with the softmax applied twice, as the reference code of Carbone et al. 2020 reports it for Bayesian
        networks; `loss`, the mean negative log probability of the true class; and `acceptance_rate`, `divergences`,
        `distinct_draws` and `num_draws`.
    """
    attacks, chains = cell.attacks(), _chains(post)
    if "num_draws" in cell.evaluation or not isinstance(post, HeldDraws):  # copying takes as long as a forward pass
        post = post.freeze(cell.evaluation.get("num_draws"), rng.derive(cell.seed, "sweep", "score"))
    _, x, y = chosen_points(cell.dataset(), cell.evaluation.get("num_points", 500), cell.seed)
    device = next(post.net.parameters()).device
    x, y = x.to(device), y.to(device)

    scorer = Scorer(post, num_draws=None, seed=cell.seed, batch_size=BATCH)

    def predict(inputs: torch.Tensor) -> np.ndarray:
        return scorer(inputs).double().cpu().numpy()

    clean, attacked = predict(x), []
    for name, attack in attacks.items():
        seed = rng.derive(cell.seed, "sweep", "attack", name)
        parts = [attack(post, x[part], y[part], seed=seed) for part in numerics.slices(len(x), BATCH)]
        attacked.append(predict(torch.cat(parts)))
    names = {"attack": list(attacks)}
    adversarial = np.stack(attacked) if attacked else np.empty((0, *clean.shape))
    labels = xr.DataArray(y.cpu().numpy(), dims="point")
    scores = robustness(
        xr.DataArray(clean, dims=("point", "class")),
        xr.DataArray(adversarial, dims=("attack", "point", "class"), coords=names),
        labels,
    )
    twice = [_softmax(np.exp(values)) for values in (clean, adversarial)]
    more = {
        "resoftmaxed_robustness": ("attack", 1 - np.abs(twice[0] - twice[1]).max(-1).mean(-1)),
        "loss": -clean[np.arange(len(y)), labels.values].mean(),
    }
    return scores.assign(more | chains).assign_attrs(
        notes=json.dumps(post.info.get("notes", [])),
        numerics=numerics.asked(),  # within a sweep this is the route of all its runs
        versions=json.dumps({"bayesrob": __version__, "torch": torch.__version__, "device": str(device)}),
    )


def _softmax(values: np.ndarray) -> np.ndarray:
    high = np.exp(values - values.max(-1, keepdims=True))
    return high / high.sum(-1, keepdims=True)


def _chains(post: Predictive) -> dict[Any, Any]:
    """Return statistics of the sampler over all chains; all but `num_draws` are NaN for methods without chains."""
    names = ("acceptance_rate", "divergences", "distinct_draws", "num_draws")
    record = dict.fromkeys(names, float("nan"))
    record["num_draws"] = float(post.num_draws)
    if isinstance(post, HeldDraws) and post.sample_stats:
        stats = post.sample_stats
        record["acceptance_rate"] = float(np.mean(stats["acceptance_rate"]))
        record["divergences"] = float(np.sum(stats["diverging"]))
        record["distinct_draws"] = float(distinct_draws(post))
    return record
