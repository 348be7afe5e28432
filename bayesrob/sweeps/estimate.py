"""An estimate of how long a plan will take, from a short run of each method."""

from __future__ import annotations

import dataclasses
import time
import warnings

import torch

from bayesrob.sweeps.cell import Cell
from bayesrob.sweeps.plan import Plan, Run, cost_of

__all__ = ["estimate"]


def estimate(plan: Plan, workers: int = 1) -> float:
    """Return roughly how many seconds a plan will take.

    One pass of each method's median run is timed, and the other runs of the method are taken to cost in proportion to
    their operations. Small networks and scoring take longer than their operations say, so that the estimate is right to a
    factor of two or three. The progress bar of a running sweep is more exact.

    Args:
        plan: the plan of the sweep.
        workers: number of processes that will do the runs side by side.
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
            for _ in range(2):  # the first fit also prepares caches and kernels
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    start = time.perf_counter()
                    method.fit(network, dataset, seed=cell.seed)
                    seconds = time.perf_counter() - start
            unscored = dataclasses.replace(cell, evaluation={"attacks": {}, "num_points": 1})
            total += seconds / cost_of([unscored]) * sum(run.cost for run in runs)
    finally:
        torch.set_num_threads(before)
    return total / workers


def _short(cell: Cell) -> Cell:
    """Return the cell with one epoch, or two draws of one chain."""
    settings = dict(cell.inference)
    if "num_samples" in settings or cell.inference.get("method") in ("HMC", "NUTS"):
        settings |= {"num_samples": 2, "warmup": 2 if settings.get("warmup", 250) else 0, "num_chains": 1}
    elif "epochs" in settings:
        settings["epochs"] = 1
    return dataclasses.replace(cell, inference=settings)
