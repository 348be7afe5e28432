"""Grids of settings: every combination of the values of several axes, without those that a filter leaves out."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bayesrob.errors import InputError
from bayesrob.sweeps.cell import PARTS, Cell, canonical

__all__ = ["Grid"]


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cartesian product of several axes: each combination of their values, put into `fixed`, is a `Cell`.

    Args:
        fixed: the settings that all cells share: `data`, `net`, `inference`, `evaluation` and `seed`, see `Cell`.
        axes: the values of each axis by its place in a cell: `"net.width"`, `"inference"` as a whole, `"seed"`. The last
            axis varies fastest.
        exclude: combinations that are left out. A cell is left out if every place of one combination has its value.
        where: a function of a cell that returns whether it is part of the grid; None for all cells.

    Raises:
        InputError: a place that no cell has, or an axis without values.

    Example:
        >>> grid = br.sweeps.Grid({"data": {"name": "digits"}}, {"net.width": [8, 16], "seed": [0, 1, 2]})
        >>> [(cell.net["width"], cell.seed) for cell in grid.cells()][:4]
        [(8, 0), (8, 1), (8, 2), (16, 0)]
    """

    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    exclude: Sequence[Mapping[str, Any]] = ()
    where: Callable[[Cell], bool] | None = None

    def __post_init__(self) -> None:
        for place in [*self.fixed, *self.axes, *(place for one in self.exclude for place in one)]:
            if place.partition(".")[0] not in (*PARTS, "seed"):
                raise InputError(
                    f"There is no place {place!r}.",
                    "It would have no effect.",
                    f"The places of a cell begin with {', '.join(PARTS)}, seed.",
                )
        for place, values in self.axes.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise InputError(
                    f"The axis {place!r} is {values!r}.", "It needs a sequence of values.", "Give a list of one or more."
                )

    def __iter__(self) -> Iterator[Cell]:
        for values in itertools.product(*self.axes.values()):
            config: dict[str, Any] = {part: dict(self.fixed.get(part, {})) for part in PARTS}
            config["seed"] = self.fixed.get("seed", 0)
            if not config["evaluation"]:
                del config["evaluation"]
            for place, value in zip(self.axes, values, strict=True):
                _put(config, place, value)
            if any(all(_at(config, place) == value for place, value in one.items()) for one in self.exclude):
                continue
            cell = Cell(**config)
            if self.where is None or self.where(cell):
                yield cell

    def cells(self, *others: Grid) -> list[Cell]:
        """Return the cells of this grid, and then of the others, each cell once.

        Args:
            *others: further grids.

        Raises:
            InputError: no grid has a cell.
        """
        unique = {cell.key: cell for grid in (self, *others) for cell in grid}
        if not unique:
            raise InputError("The grid is empty.", "There is nothing to do.", "Widen the axes or the filter.")
        return list(unique.values())

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> list[Grid]:
        """Read the grids of a TOML file: tables `[[grid]]`, each with `fixed`, `axes` and `exclude`.

        ```toml
        [[grid]]
        fixed.data = {name = "mnist", n_train = 1000}
        fixed.inference = {method = "SGD", decay = false}
        fixed.evaluation = {num_points = 100, attacks = {FGSM = {eps = 0.1}}}
        axes."net.width" = [64, 128]
        axes."net.depth" = [1, 2]
        axes."inference.epochs" = [3, 5, 7]
        ```

        Args:
            path: path of the file.

        Raises:
            InputError: a file that does not exist, is no TOML, or has other tables.
        """
        try:
            content = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path} cannot be read: {error}.", "It describes the grids.", "See Grid.from_toml.") from error
        tables = content.pop("grid", [])
        fields = {"fixed", "axes", "exclude"}
        if content or not tables or not all(isinstance(table, dict) and table.keys() <= fields for table in tables):
            raise InputError(
                f"{path} has {', '.join(content) or 'no or other tables'}.",
                "Grids are tables [[grid]] with fixed, axes and exclude.",
                "See Grid.from_toml.",
            )
        return [cls(**table) for table in tables]


def _put(config: dict[str, Any], place: str, value: Any) -> None:
    """Set one place of nested settings; the dictionaries on the way are copied, since cells share them."""
    *above, last = place.split(".")
    into = config
    for name in above:
        into[name] = dict(into.get(name, {}))
        into = into[name]
    into[last] = value


def _at(config: Mapping[str, Any], place: str) -> Any:
    """Return the value of one place of nested settings; None where there is none."""
    value: Any = config
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def differences(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    """Return in words which cells only one of two lists of settings has; an empty text if they are equal."""
    old, new = ({canonical(config) for config in configs} for configs in (before, now))
    lines = []
    for word, only in (("no longer there", old - new), ("new", new - old)):
        if only:
            lines.append(f"{len(only)} {word}, e.g. {min(only)}")
    return "; ".join(lines)
