"""What must be trained for a list of cells: those that are beginnings of one run share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bayesrob.models import network_of
from bayesrob.sweeps.cell import Cell, canonical

__all__ = ["PREFIXES", "Plan", "Run", "plan"]

PREFIXES: dict[str, str] = {"HMC": "num_samples", "NUTS": "num_samples", "SGD": "epochs", "SVI": "epochs"}
"""The setting whose smaller values are beginnings of a run with a larger one, to the last bit: draws of chains after one
warmup; epochs, where the learning rate does not fall (`decay` False: half a cosine has another shape for each length)."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, and the cells that are scored along the way.

    Args:
        cells: in the order in which they are reached; all but `inference`'s prefix and the evaluation is common to them.
        ends: the prefix at which each is reached, draws a chain or epochs; None: at the end.
        cost: floating point operations of training and scoring, roughly: for the order and the time left.
    """

    cells: tuple[Cell, ...]
    ends: tuple[int | None, ...]
    cost: float

    @property
    def key(self) -> str:
        return self.cells[-1].key


@dataclasses.dataclass(frozen=True)
class Plan:
    """Runs, longest first, so that the last to finish are short."""

    runs: tuple[Run, ...]

    @property
    def cells(self) -> list[Cell]:
        return [cell for run in self.runs for cell in run.cells]

    @property
    def cost(self) -> float:
        return sum(run.cost for run in self.runs)

    @property
    def alone(self) -> float:
        """Operations if every cell were trained by itself."""
        return sum(cost_of([cell]) for cell in self.cells)

    def describe(self) -> str:
        return (
            f"{len(self.cells)} cells from {len(self.runs)} training runs, {self.cost:.2e} operations; one by one "
            f"{self.alone:.2e}, {self.alone / self.cost:.1f} times as many."
        )


def plan(cells: Sequence[Cell], share: bool = True) -> Plan:
    """Group cells into runs.

    Args:
        share: False: every cell by itself, for comparison.
    """
    groups: dict[str, list[tuple[int, Cell]]] = {}
    for cell in cells:
        prefix = _prefix(cell) if share else None
        end = None if prefix is None else cell.inference[prefix]
        rest = {name: value for name, value in cell.inference.items() if name != prefix}
        group = canonical([cell.data, cell.net, rest, cell.seed, None if share else cell.key])
        groups.setdefault(group, []).append((-1 if end is None else end, cell))
    runs = []
    for members in groups.values():
        members.sort(key=lambda member: (member[0], member[1].key))
        found, ends = [cell for _, cell in members], [None if end < 0 else end for end, _ in members]
        runs.append(Run(tuple(found), tuple(ends), cost_of(found)))
    return Plan(tuple(sorted(runs, key=lambda run: (-run.cost, run.key))))


def _prefix(cell: Cell) -> str | None:
    prefix = PREFIXES.get(str(cell.inference.get("method")))
    if prefix is None or not isinstance(cell.inference.get(prefix), int):
        return None  # the default may depend on the data
    return prefix if prefix != "epochs" or cell.inference.get("decay") is False else None


def cost_of(cells: Sequence[Cell]) -> float:
    """Operations of training to the end of the last cell and of scoring all: products of weights and points alone."""
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
        looks = sum(1 + int(attack.get("steps", 1)) for attack in cell.evaluation.get("attacks", {}).values())
        total += 4.0 * size * cell.evaluation.get("num_points", 500) * draws * looks
    return total


def _draws(settings: Mapping[str, Any]) -> int:
    if "num_samples" in settings:
        return settings["num_samples"] * settings.get("num_chains", 4)
    return settings.get("num_draws", 100 if settings.get("method") == "SVI" else 1)


_sizes: dict[str, tuple[int, int]] = {}


def _size(key: str, cell: Cell) -> tuple[int, int]:
    """Weights of the network and training points."""
    if key not in _sizes:
        model = cell.network()
        _sizes[key] = sum(parameter.numel() for parameter in network_of(model).parameters()), len(cell.dataset().x_train)
    return _sizes[key]
