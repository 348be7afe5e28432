"""How long a plan will take, by a short run of each method."""

from __future__ import annotations

import dataclasses
import time
import warnings

import torch

from bayesrob.sweeps.cell import Cell
from bayesrob.sweeps.plan import Plan, Run, cost_of

__all__ = ["estimate"]


def estimate(plan: Plan, workers: int = 1) -> float:
    """Seconds, roughly: of each method one pass of its median run is made, and the others are taken to be in proportion.

    Small networks and scoring take longer than their products say, so this is right to a factor of two or three; a running
    sweep's own bar knows better.
    """
    by_method: dict[str, list[Run]] = {}
    for run in plan.runs:
        by_method.setdefault(str(run.cells[-1].inference.get("method")), []).append(run)
    total, before = 0.0, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for runs in by_method.values():
            cell = _short(runs[len(runs) // 2].cells[-1])
            method, network, dataset = cell.method(), cell.network(), cell.dataset()
            seconds = 0.0
            for _ in range(2):  # the first time something is always prepared
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    start = time.perf_counter()
                    method.fit(network, dataset, seed=cell.seed)
                    seconds = time.perf_counter() - start
            alone = dataclasses.replace(cell, evaluation={"attacks": {}, "num_points": 1})
            total += seconds / cost_of([alone]) * sum(run.cost for run in runs)
    finally:
        torch.set_num_threads(before)
    return total / workers


def _short(cell: Cell) -> Cell:
    settings = dict(cell.inference)
    if "num_samples" in settings or cell.inference.get("method") in ("HMC", "NUTS"):
        settings |= {"num_samples": 2, "warmup": 2 if settings.get("warmup", 250) else 0, "num_chains": 1}
    elif "epochs" in settings:
        settings["epochs"] = 1
    return dataclasses.replace(cell, inference=settings)
