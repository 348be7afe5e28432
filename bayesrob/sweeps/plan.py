"""What must be trained for a list of cells: cells that are reached in the course of one training run share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bayesrob.arguments import is_whole
from bayesrob.models import network_of
from bayesrob.sweeps.cell import Cell, canonical

__all__ = ["PREFIXES", "Plan", "Run", "plan"]

PREFIXES: dict[str, str] = {"HMC": "num_samples", "NUTS": "num_samples", "SGD": "epochs", "SVI": "epochs"}
"""The setting of which a run with a larger value passes through the smaller ones, to the last bit. It is the number of draws
of chains after one warmup, and the number of epochs where the learning rate does not fall (`decay` False; half a cosine has
another shape for each length)."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run, and the cells that are scored in its course.

    Args:
        cells: the cells in the order in which they are reached. Only the setting in `PREFIXES` and the evaluation differ.
        ends: at how many draws of each chain, or after how many epochs, each cell is reached; None for the end of the run.
        cost: rough number of floating point operations of training and scoring, for the order and the progress bar.
    """

    cells: tuple[Cell, ...]
    ends: tuple[int | None, ...]
    cost: float

    @property
    def key(self) -> str:
        """The key of the last cell, which names the run."""
        return self.cells[-1].key


@dataclasses.dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Args:
        runs: the runs, longest first, so that the last ones to finish are short.
    """

    runs: tuple[Run, ...]

    @property
    def cells(self) -> list[Cell]:
        """The cells of all runs."""
        return [cell for run in self.runs for cell in run.cells]

    @property
    def cost(self) -> float:
        """Rough number of floating point operations of all runs."""
        return sum(run.cost for run in self.runs)

    @property
    def separate_cost(self) -> float:
        """Rough number of floating point operations if every cell had a training run of its own."""
        return sum(cost_of([cell]) for cell in self.cells)

    def describe(self) -> str:
        """Return one sentence with the numbers of cells, runs and operations."""
        return (
            f"{len(self.cells)} cells from {len(self.runs)} training runs, {self.cost:.2e} operations; one by one "
            f"{self.separate_cost:.2e}, {self.separate_cost / self.cost:.1f} times as many."
        )


def plan(cells: Sequence[Cell], share: bool = True) -> Plan:
    """Group cells into training runs.

    Args:
        cells: the cells of the sweep.
        share: whether cells share runs; False gives every cell a run of its own, for comparison.
    """
    groups: dict[str, list[tuple[int, Cell]]] = {}
    for cell in cells:
        prefix = _prefix(cell) if share else None
        end = None if prefix is None else int(cell.inference[prefix])
        rest = {name: value for name, value in cell.inference.items() if name != prefix}
        group = canonical([cell.data, cell.net, rest, cell.seed, None if share else cell.key])
        groups.setdefault(group, []).append((-1 if end is None else end, cell))
    runs = []
    for members in groups.values():
        members.sort(key=lambda member: (member[0], member[1].key))
        ordered, ends = [cell for _, cell in members], [None if end < 0 else end for end, _ in members]
        runs.append(Run(tuple(ordered), tuple(ends), cost_of(ordered)))
    return Plan(tuple(sorted(runs, key=lambda run: (-run.cost, run.key))))


def _prefix(cell: Cell) -> str | None:
    """Return the setting by which the cell can share a run; None where it cannot."""
    prefix = PREFIXES.get(str(cell.inference.get("method")))
    if prefix is None or not is_whole(cell.inference.get(prefix)):
        return None  # the default may depend on the data
    return prefix if prefix != "epochs" or cell.inference.get("decay") is False else None


def cost_of(cells: Sequence[Cell]) -> float:
    """Return the rough number of operations of one run: the products of weights and points.

    Args:
        cells: the cells of the run. Training goes on to the last of them, and all of them are scored.
    """
    last = cells[-1]
    size, points = _size(canonical([last.net, last.data, last.inference.get("method"), last.seed]), last)
    settings: Mapping[str, Any] = last.inference
    if "num_samples" in settings:
        length = settings["num_samples"] + settings.get("warmup", 250)
        passes = settings.get("num_chains", 4) * length * settings.get("num_steps", 10)
    else:
        passes = settings.get("epochs") or 20
    total = 6.0 * size * points * passes
    for cell in cells:
        draws = cell.evaluation.get("num_draws") or _draws(cell.inference)
        passes = sum(1 + int(attack.get("steps", 1)) for attack in cell.evaluation.get("attacks", {}).values())
        total += 4.0 * size * cell.evaluation.get("num_points", 500) * draws * passes
    return total


def _draws(settings: Mapping[str, Any]) -> int:
    """Return how many draws a posterior of these inference settings has."""
    if "num_samples" in settings:
        return settings["num_samples"] * settings.get("num_chains", 4)
    return settings.get("num_draws", 100 if settings.get("method") == "SVI" else 1)


_sizes: dict[str, tuple[int, int]] = {}


def _size(key: str, cell: Cell) -> tuple[int, int]:
    """Return the numbers of the network's weights and of training points, computed once for each `key`."""
    if key not in _sizes:
        net = network_of(cell.network())
        _sizes[key] = sum(parameter.numel() for parameter in net.parameters()), len(cell.dataset().x_train)
    return _sizes[key]
