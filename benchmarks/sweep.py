"""Sweeps: networks (cells) a minute, planned and in processes, beside the same cells one by one with plain torch and Pyro.

python benchmarks/sweep.py [--runs 3] [--cells 24] [--methods HMC SGD SVI] [--smoke]

A stratified sample of the small grids of `studies/18_architecture_sweep.py` on MNIST: whole runs (all their numbers of draws
or epochs), evenly spaced when sorted by cost, until there are `--cells` cells of each method. "plain": DataLoader and Adam;
Pyro's HMC kernel and MCMC; Pyro's AutoDiagonalNormal with TraceMeanField_ELBO; one network for each draw in the attacks;
one thread each in two processes at once (half of the cells each), as the sweep has two. "one by one": this package, nothing
shared. Processes wait, with everything imported, before anything is timed. HMC, minutes a round, has a third of the rounds.
Wanted: 3.5 times plain for HMC, 8 for SGD, 6 for SVI; Dask with two workers within 15% of the processes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from loky import ProcessPoolExecutor
from plain_sweep import plain_cell
from timing import Ways, alternate, header, options, table

from bayesrob import cli, sweeps
from bayesrob.processes import ENVIRONMENT
from bayesrob.sweeps import Cell, Grid

STUDY = Path(__file__).resolve().parents[1] / "studies" / "18_architecture_sweep.py"


def sample(cells: list[Cell], count: int) -> list[Cell]:
    """Cells of whole runs, evenly spaced among the runs sorted by cost."""
    runs = sweeps.plan(cells).runs
    number = max(1, -(-count // len(runs[0].cells)))
    picked = [runs[round((i + 0.5) * len(runs) / number - 0.5)] for i in range(number)]
    return [cell for run in picked for cell in run.cells]


def fresh(cells: list[Cell], **settings: Any) -> Callable[[], object]:
    """A sweep of these cells in an empty folder."""

    def run() -> object:
        folder = Path(tempfile.mkdtemp())
        try:
            found = sweeps.run(Cells(cells), folder, **settings)
            assert found["done"] == len(cells), found
        finally:
            shutil.rmtree(folder)

    return run


class Cells(Grid):
    """Given cells, instead of a product."""

    def __init__(self, cells: list[Cell]):
        super().__init__()
        object.__setattr__(self, "given", cells)

    def __iter__(self) -> Any:
        return iter(self.given)  # type: ignore[attr-defined]


def plainly(configs: list[dict[str, Any]]) -> int:
    torch.set_num_threads(1)
    for config in configs:
        plain_cell(Cell(**config))
    return len(configs)


def ready(seconds: float) -> float:
    """Keeps one process busy, so that the others get one too."""
    time.sleep(seconds)  # everything is imported by now: `plainly` asks for it
    return seconds + plainly([])


def main() -> None:
    methods = {"nargs": "*", "default": ["HMC", "SGD", "SVI"], "choices": ["HMC", "SGD", "SVI"]}
    settings = options(__doc__, cells={"type": int, "default": 24, "metavar": "N"}, methods=methods)
    print(header())
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(2, env={**ENVIRONMENT, "PYTHONPATH": ":".join(sys.path)}))
        dask: Any = None
        if importlib.util.find_spec("distributed"):
            dask = stack.enter_context(sweeps.local_dask(2)).get_executor()
        for executor in (pool, dask):
            if executor is not None:
                list(executor.map(ready, [1.0] * 4))
        compare(settings, pool, dask)


def compare(settings: Any, pool: Executor, dask: Any) -> None:
    study = cli.load_study(STUDY)
    scale, data = ("smoke", "digits") if settings.smoke else ("small", "mnist")
    for method, grid in study.grids(scale, data, 0).items():
        if method not in settings.methods:
            continue
        cells = sample(grid.cells(), 2 if settings.smoke else settings.cells)
        halves = [[cell.config for cell in cells[i::2]] for i in range(2)]
        whole = sweeps.plan(cells)

        def plain(halves: Any = halves) -> object:
            return [future.result() for future in [pool.submit(plainly, half) for half in halves]]

        ways = Ways(peers=False)
        ways.add("bayesrob", fresh(cells, executor=pool))
        ways.add("bayesrob, in this process", fresh(cells, workers=1))
        ways.add("bayesrob, in this process, one by one", fresh(cells, workers=1, share=False))
        if dask is not None:
            ways.add("bayesrob, Dask, 2 workers", fresh(cells, executor=dask))
        ways.add("plain, 2 processes, one by one", plain)
        seconds = alternate(ways, max(1, settings.runs // 3) if method == "HMC" else settings.runs, warm_up=method != "HMC")
        column = {name: f"{60 * len(cells) / min(values):.0f}" for name, values in seconds.items()}
        title = (
            f"{method}: {len(cells)} cells of {len(whole.runs)} runs; sharing saves {whole.separate_cost / whole.cost:.2f}x"
        )
        print(table(title, seconds, 1.0, "s", ways, {"cells a minute": column}), flush=True)


if __name__ == "__main__":
    main()
