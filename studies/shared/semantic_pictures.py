"""Pictures of study 14: rows of points or networks, and the way from an image to an adversarial example."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

__all__ = ["WAY", "chosen", "grid", "strip", "way"]

WAY = 11
"""Points on the way from an image to its adversarial example, both ends among them."""


def way(x: Tensor, moved: Tensor, count: int = WAY) -> Tensor:
    """The images `[count, point, *shape]` from x to `moved` in equal steps; the ends are these very images."""
    return torch.stack([torch.lerp(x, moved, t) for t in torch.linspace(0, 1, count).tolist()])


def chosen(y: Tensor, count: int = 4) -> list[int]:
    """The first point of each of the first `count` classes that come up."""
    firsts = {label: i for i, label in reversed(list(enumerate(y.tolist())))}
    return sorted(firsts.values())[:count]


def grid(
    x: Tensor, y: Tensor, shown: list[int], made: Mapping[str, Tensor], guesses: Mapping[str, Tensor] | None
) -> xr.DataTree:
    """A row for each point: the image, then each network's picture of it; gradients (without guesses) are signed."""
    columns = [x[shown], *(picture[shown] for picture in made.values())]
    text = [[""] + [str(int(guess[i])) for guess in (guesses or {}).values()] for i in shown]
    text = [row if guesses else [""] * len(columns) for row in text]
    signed = [False] + [guesses is None] * len(made)
    return pictured(torch.stack(columns, 1), [f"label {int(y[i])}" for i in shown], ["image", *made], text, signed)


def strip(x: Tensor, made: Mapping[str, Tensor], guesses: Mapping[str, Tensor], y: Tensor, point: int) -> xr.DataTree:
    """A row for each network: the way from one image to its example, with the classes of both ends."""
    steps = torch.stack([way(x[[point]], moved[[point]], 7)[:, 0] for moved in made.values()])
    ends = [f"{int(y[point])}", *[""] * 5]
    text = [[*ends, str(int(guess[point]))] for guess in guesses.values()]
    return pictured(steps, list(made), [f"t {t:.2f}" for t in np.linspace(0, 1, 7)], text, [False] * 7)


def pictured(
    pictures: Tensor, rows: list[str], columns: list[str], text: list[list[str]], signed: list[bool]
) -> xr.DataTree:
    """The tree that `plots.pictures` draws."""
    axes = ("row", "column", "channel", "height", "width")
    dataset = xr.Dataset(
        {"picture": (axes, pictures.numpy()), "text": (("row", "column"), text), "signed": ("column", signed)},
        coords={"row": rows, "column": columns},
    )
    return xr.DataTree.from_dict({"pictures": dataset})
