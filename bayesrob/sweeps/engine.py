"""Doing the runs of a sweep, in processes, on any executor, or in this process; finished cells are never done again."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bayesrob import numerics, progress
from bayesrob._version import __version__
from bayesrob.errors import BayesrobError, InputError
from bayesrob.models import network_of
from bayesrob.processes import process_pool
from bayesrob.sweeps import files, work
from bayesrob.sweeps.cell import PARTS, Cell, canonical
from bayesrob.sweeps.grid import Grid, differences
from bayesrob.sweeps.plan import Plan, Run, plan

__all__ = ["Status", "run", "status"]

BYTES = 10_000
"""An upper limit for the size of a result on disk; results take 5,000 to 7,000 bytes."""


class Status(dict[str, int]):
    """How many cells are `done`, `failed`, `damaged` and `missing`; `errors` holds the error of each failed cell by its key.

    Example:
        >>> print(br.sweeps.Status(done=3, missing=1))
        3 done, 1 missing
    """

    errors: dict[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{count} {word}" for word, count in self.items())


@dataclasses.dataclass(frozen=True)
class Task:
    """The arguments of `work.do` that all runs share.

    Args:
        folder: folder of the results.
        route: name of the route of float32 products, see `numerics.route`.
        devices: devices of the networks; run number k is done on device k modulo their number.
    """

    folder: Path
    route: str
    devices: tuple[str, ...]

    def __call__(self, one: Run, number: int = 0) -> tuple[list[dict[str, Any]], tuple[int | None, ...], str, str, str]:
        device = self.devices[number % len(self.devices)]
        return [cell.config for cell in one.cells], one.ends, str(self.folder.resolve()), self.route, device


def run(
    grids: Grid | Sequence[Grid],
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    executor: concurrent.futures.Executor | None = None,
    devices: Sequence[str] = ("cpu",),
    retry: bool = False,
    share: bool = True,
) -> Status:
    """Train and score every cell whose result is not in `folder` yet.

    A cell's result is the same to the last bit whatever the number of workers, and whether or not the sweep was
    interrupted: each run has one thread of torch and the route of float32 products that the first start chose for all
    (`numerics.route`). Ctrl-C ends the workers. If a worker dies (a signal, no memory left), the cells in flight are lost
    and tried again. Two sweeps on one folder do no harm, since results are written whole or not at all.

    Args:
        grids: one grid or several.
        folder: folder of the results; `collect(folder)` reads them.
        workers: number of processes on this machine. None, the default, is one for each usable core; 1 does all the work
            in this process.
        executor: an executor with `submit` as in PEP 3148, used instead of processes on this machine, e.g.
            `dask.distributed.Client(address).get_executor()`. Its workers must see `folder` under the same name.
        devices: devices of the networks, which the runs use in rotation, e.g. ("cuda:0", "cuda:1") for two workers.
        retry: whether to try cells again that failed.
        share: whether cells share training runs. False trains every cell by itself, for comparison.

    Returns:
        How many cells are done, failed, damaged and missing now.

    Raises:
        InputError: a setting that cannot work, another grid than the folder's, or a folder that cannot be written to or
            has too little room; all of these before any training.
        BayesrobError: the executor broke. What was done by then stays done.
    """
    cells, place = cells_of(grids), Path(folder)
    everything = plan(cells, share)
    for cell in _kinds(cells):
        cell.check()
    for device in devices:
        _check_device(device)
    task = Task(place, _begin(place, cells, everything), tuple(devices))
    left = [one for one in everything.runs if _left(place, one, retry)]
    with progress.bar("sweep", len(cells)) as advance:
        advance(len(cells) - sum(len(one.cells) for one in left))
        try:
            if executor is not None:
                if lost := _submit(executor, left, task, advance):
                    raise BayesrobError(
                        f"The executor broke at {len(lost)} of {len(left)} runs.",
                        "One of its processes died.",
                        "Start the sweep again with a new executor: what is done stays done.",
                    )
            elif workers == 1:
                for one in left:
                    work.do(*task(one))
                    advance(len(one.cells), note=one.cells[-1].inference.get("method", ""))
            else:
                _processes(left, task, workers, advance)
        finally:
            reached = status(place)
    return reached


def status(folder: str | os.PathLike[str]) -> Status:
    """Count the cells of a sweep that are done, failed, damaged and missing.

    Args:
        folder: folder of the sweep's results.

    Raises:
        InputError: no sweep in the folder.
    """
    place = Path(folder)
    counts = Status(done=0, failed=0, damaged=0, missing=0)
    counts.errors = {}
    for cell in files.cells_in(place):
        text = files.error(place, cell)
        if files.is_done(place, cell):
            counts["done"] += 1
        elif text is not None:
            counts["failed"] += 1
            counts.errors[cell.key] = text
        else:
            counts["damaged" if files.path_of(place, cell).exists() else "missing"] += 1
    return counts


def cells_of(grids: Grid | Sequence[Grid]) -> list[Cell]:
    """Return the cells of one grid or several, each cell once."""
    first, *others = [grids] if isinstance(grids, Grid) else list(grids) or [Grid(where=lambda _: False)]
    return first.cells(*others)


def _kinds(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Yield cells among which every data set, network, method and evaluation occurs: checking all cells would take long."""
    seen: set[str] = set()
    for cell in cells:
        new = {canonical([part, getattr(cell, part)]) for part in PARTS} - seen
        if new:
            seen |= new
            yield cell


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"There is no device {device!r}: {error}.", "Networks are trained there.", 'E.g. "cpu".') from error


def _begin(place: Path, cells: Sequence[Cell], everything: Plan) -> str:
    """Write the folder's manifest, or compare with it; returns the route of products that the sweep takes."""
    configs = [cell.config for cell in cells]
    manifest_path = place / files.MANIFEST
    try:
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free
        if manifest_path.exists():
            manifest = json.loads(manifest_path.read_text())
            if changed := differences(manifest["cells"], configs):
                raise InputError(
                    f"{place} holds another sweep: {changed}.",
                    "Its results would be mixed with others.",
                    "Choose another folder, or restore the grid.",
                )
            return manifest["numerics"]
        if free < BYTES * len(cells):
            raise InputError(
                f"{place} has room for {free:,} bytes.", f"{len(cells):,} cells need {BYTES * len(cells):,}.", "Make room."
            )
        largest = max(everything.runs, key=lambda one: one.cost).cells[-1].network()
        route = numerics.choose(network_of(largest)).name
        manifest = {"cells": configs, "numerics": route, "versions": {"bayesrob": __version__, "torch": torch.__version__}}
        files.replace(manifest_path, json.dumps(manifest).encode())
    except OSError as error:
        raise InputError(
            f"{place} cannot be written to: {error}.", "Results are stored there.", "Choose another."
        ) from error
    return route


def _left(place: Path, one: Run, retry: bool) -> bool:
    """Return whether a run has cells to do. Failed cells count only if `retry` is true."""
    undone = [cell for cell in one.cells if not files.is_done(place, cell)]
    failed = [cell for cell in undone if files.error(place, cell) is not None]
    return bool(undone) if retry else len(failed) < len(undone)


def _submit(executor: Any, left: Sequence[Run], task: Task, advance: Any) -> list[Run]:
    """Do runs on an executor; returns those that were lost because it broke."""
    submitted = {executor.submit(work.do, *task(one, number)): one for number, one in enumerate(left)}
    lost: list[Run] = []
    try:
        for future in concurrent.futures.as_completed(submitted):
            one, error = submitted[future], future.exception()
            if error is None:
                advance(len(one.cells), note=str(one.cells[-1].inference.get("method", "")))
            elif isinstance(error, concurrent.futures.BrokenExecutor):
                lost.append(one)
            else:
                _fail(task.folder, one, f"{type(error).__name__}: {error}")
    except BaseException:
        for future in submitted:
            future.cancel()
        raise
    return lost


def _processes(left: Sequence[Run], task: Task, workers: int | None, advance: Any) -> None:
    """Do runs in processes of loky, all of which end when one dies.

    The runs that had not begun by then are done next, in as many processes. Those that had begun are tried once more at the
    end, one at a time, so that the one whose process dies again is known.
    """
    from loky import cpu_count

    suspects: list[Run] = []
    while left:
        lost = _pool(left, min(workers or cpu_count(), len(left)), task, advance)
        begun = {one.key for one in lost if files.running(task.folder, one.key)}
        suspects += [one for one in lost if one.key in begun]
        left = [one for one in lost if one.key not in begun]
    for one in suspects:
        files.end(task.folder, one.key)
    while suspects:
        lost = {one.key for one in _pool(suspects, 1, task, advance)}
        again = [one for one in suspects if one.key in lost]
        for one in again[:1]:  # a single process does the runs in their order, so that it died at the first that it lost
            files.end(task.folder, one.key)
            _fail(task.folder, one, "Its process died twice, once with no other beside it. Was there memory enough?")
        suspects = again[1:]


def _pool(runs: Sequence[Run], count: int, task: Task, advance: Any) -> list[Run]:
    """Do runs in `count` processes; returns those that were lost because a process died."""
    pool = process_pool(count)
    try:
        return _submit(pool, runs, task, advance)
    finally:
        pool.shutdown(kill_workers=True)


def _fail(folder: Path, one: Run, text: str) -> None:
    """Store an error for every cell of a run that has no result."""
    for cell in one.cells:
        if not files.is_done(folder, cell):
            files.fail(folder, cell, text)
