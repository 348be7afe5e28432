"""Runs of a sweep, side by side: in processes, on any executor, or here; what is done stays done."""

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

from bayesrob import __version__, numerics, progress
from bayesrob.errors import BayesrobError, InputError
from bayesrob.sweeps import files, work
from bayesrob.sweeps.cell import Cell, canonical
from bayesrob.sweeps.grid import Grid, differences
from bayesrob.sweeps.plan import Plan, Run, plan

__all__ = ["Status", "run", "status"]

MANIFEST = "sweep.json"

BYTES = 10_000
"""Of a result on disk; they take 5,000 to 7,000."""


class Status(dict[str, int]):
    """How many cells are `done`, `failed`, `damaged` and `missing`; `errors` by key of the cell."""

    errors: dict[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{count} {word}" for word, count in self.items())


@dataclasses.dataclass(frozen=True)
class Task:
    """What `work.do` is told besides the run itself."""

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

    A cell's result is the same to the last bit whatever the number of workers, and whether the sweep was interrupted: each
    run has one thread of torch and the route of float32 products that the first start chose for all (`numerics.route`).
    Ctrl-C ends the workers; a worker that dies (a signal, no memory left) takes the cells in flight along, which are tried
    again. Two sweeps on one folder do no harm: results appear whole or not at all.

    Args:
        grids: one or more.
        folder: of the results; `collect(folder)` reads them.
        workers: processes on this machine. None: one for each usable core; 1: none, all is done here.
        executor: anything with `submit` as in PEP 3148 instead, e.g. `dask.distributed.Client(address).get_executor()`,
            whose workers see `folder` under the same name.
        devices: of the networks; runs take them in turn, e.g. ("cuda:0", "cuda:1") for two workers.
        retry: try the cells again that failed.
        share: False trains every cell by itself, for comparison.

    Raises:
        InputError: a setting that cannot work, another grid than the folder's, a folder that cannot be written to or has
            too little room: before any training.
    """
    cells, place = cells_of(grids), Path(folder)
    whole = plan(cells, share)
    for cell in _kinds(cells):
        cell.check()
    for device in devices:
        _check_device(device)
    task = Task(place, _begin(place, cells, whole), tuple(devices))
    left = [one for one in whole.runs if _left(place, one, retry)]
    with progress.bar("sweep", len(cells)) as advance:
        advance(len(cells) - sum(len(one.cells) for one in left))
        try:
            if executor is not None:
                if lost := _submit(executor, left, task, advance):
                    raise BayesrobError(
                        f"The executor broke at {len(lost)} of {len(left)} runs.",
                        "A process of it died.",
                        "Start the sweep again with a new one: what is done stays done.",
                    )
            elif workers == 1:
                for one in left:
                    work.do(*task(one))
                    advance(len(one.cells), note=one.cells[-1].inference.get("method", ""))
            else:
                _processes(left, task, workers, advance)
        finally:
            found = status(place)
    return found


def status(folder: str | os.PathLike[str]) -> Status:
    """What there is of a sweep's cells.

    Raises:
        InputError: no sweep in the folder.
    """
    place = Path(folder)
    found = Status(done=0, failed=0, damaged=0, missing=0)
    found.errors = {}
    for cell in cells_in(place):
        text = files.error(place, cell)
        if files.is_done(place, cell):
            found["done"] += 1
        elif text is not None:
            found["failed"] += 1
            found.errors[cell.key] = text
        else:
            found["damaged" if files.path_of(place, cell).exists() else "missing"] += 1
    return found


def cells_of(grids: Grid | Sequence[Grid]) -> list[Cell]:
    first, *others = [grids] if isinstance(grids, Grid) else list(grids) or [Grid(where=lambda _: False)]
    return first.cells(*others)


def cells_in(folder: Path) -> list[Cell]:
    """The cells that a folder's sweep has."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return [Cell(**config) for config in manifest["cells"]]
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no sweep.", f"It has no {MANIFEST}.", "Run one: sweeps.run(grid, folder)."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / MANIFEST} is damaged: {error}.", "It says what the results are of.", "Use another."
        ) from error


def _kinds(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Cells among which every data set, network, method and attack occurs: to check all combinations would take long."""
    seen: set[str] = set()
    for cell in cells:
        new = {canonical([part, getattr(cell, part)]) for part in ("data", "net", "inference", "evaluation")} - seen
        if new:
            seen |= new
            yield cell


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"There is no device {device!r}: {error}.", "Networks are trained there.", 'E.g. "cpu".') from error


def _begin(place: Path, cells: Sequence[Cell], whole: Plan) -> str:
    """Write the folder's manifest, or agree with it; the route of products that the sweep takes."""
    configs = [cell.config for cell in cells]
    try:
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free
        if (place / MANIFEST).exists():
            manifest = json.loads((place / MANIFEST).read_text())
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
        largest = max(whole.runs, key=lambda one: one.cost).cells[-1].network()
        route = numerics.choose(getattr(largest, "net", largest)).name
        manifest = {"cells": configs, "numerics": route, "versions": {"bayesrob": __version__, "torch": torch.__version__}}
        files.replace(place / MANIFEST, json.dumps(manifest).encode())
    except OSError as error:
        raise InputError(f"{place} cannot be written to: {error}.", "Results are kept there.", "Choose another.") from error
    return route


def _left(place: Path, one: Run, retry: bool) -> bool:
    """Whether something of the run is to be done; failed cells only on request."""
    open_ = [cell for cell in one.cells if not files.is_done(place, cell)]
    failed = [cell for cell in open_ if files.error(place, cell) is not None]
    return bool(open_) if retry else len(failed) < len(open_)


def _submit(executor: Any, left: Sequence[Run], task: Task, advance: Any) -> list[Run]:
    """All of `left` on an executor; the runs that it lost, by a death of a worker."""
    asked = {executor.submit(work.do, *task(one, number)): one for number, one in enumerate(left)}
    lost: list[Run] = []
    try:
        for future in concurrent.futures.as_completed(asked):
            one, error = asked[future], future.exception()
            if error is None:
                advance(len(one.cells), note=str(one.cells[-1].inference.get("method", "")))
            elif isinstance(error, concurrent.futures.BrokenExecutor):
                lost.append(one)
            else:
                for cell in one.cells:
                    if not files.is_done(task.folder, cell):
                        files.fail(task.folder, cell, f"{type(error).__name__}: {error}")
    except BaseException:
        for future in asked:
            future.cancel()
        raise
    return lost


def _processes(left: Sequence[Run], task: Task, workers: int | None, advance: Any) -> None:
    """Processes of loky's. When one dies all do: who was in flight is tried again at the end, alone, the others at once."""
    from loky import cpu_count

    suspects: list[Run] = []
    while left:
        lost = _pool(left, min(workers or cpu_count(), len(left)), task, advance)
        begun = {one.key for one in lost if files.running(task.folder, one.key)}
        suspects += [one for one in lost if one.key in begun]
        left = [one for one in lost if one.key not in begun]
    for one in suspects:
        files.end(task.folder, one.key)
        if _pool([one], 1, task, advance):
            files.end(task.folder, one.key)
            for cell in one.cells:
                if not files.is_done(task.folder, cell):
                    files.fail(
                        task.folder, cell, "Its process died twice, once with no other beside it. Was there memory enough?"
                    )


def _pool(runs: Sequence[Run], count: int, task: Task, advance: Any) -> list[Run]:
    from loky import ProcessPoolExecutor

    from bayesrob.processes import ENVIRONMENT, set_up

    pool = ProcessPoolExecutor(count, initializer=set_up, initargs=(os.getpid(),), env=ENVIRONMENT)
    try:
        return _submit(pool, runs, task, advance)
    finally:
        pool.shutdown(kill_workers=True)
