"""Some classes of a data set alone, such as MNIST's 5 against 7."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from bayesrob.data.dataset import Dataset
from bayesrob.errors import InputError

__all__ = ["keep_classes"]


def keep_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """The points of some classes, in their order, with the classes numbered anew: the first one given is class 0.

    Args:
        dataset: of classes. classes: two or more of its own, e.g. (5, 7).

    Returns:
        A data set named e.g. "mnist_5_7". Its distribution is not known, even if that of `dataset` was.

    Raises:
        InputError: a regression, a class that there is not or twice, fewer than two, or one without training or test points.
    """
    if dataset.num_classes is None:
        raise InputError(f"{dataset.name!r} is a regression.", "It has no classes.", "Give a data set that has.")
    wanted = list(classes)
    known = all(isinstance(cls, int) and not isinstance(cls, bool) and 0 <= cls < dataset.num_classes for cls in wanted)
    if not known or len(wanted) < 2 or len(set(wanted)) < len(wanted):
        raise InputError(
            f"classes is {classes!r}.",
            f"{dataset.name!r} has the classes 0 to {dataset.num_classes - 1}; two at least are told apart.",
            "Give some of them, each once, e.g. (5, 7).",
        )
    kept: dict[str, Tensor] = {}
    for part, x, y in (("train", dataset.x_train, dataset.y_train), ("test", dataset.x_test, dataset.y_test)):
        missing = [cls for cls in wanted if not (y == cls).any()]
        if missing:
            raise InputError(
                f"No {part} point of {dataset.name!r} is of class {missing[0]}.",
                "It would be known by its number alone.",
                f"Load more points (n_{part}), or balanced=True.",
            )
        number = torch.full((dataset.num_classes,), -1, device=y.device)
        number[torch.tensor(wanted, device=y.device)] = torch.arange(len(wanted), device=y.device)
        found = number[y]
        kept |= {f"x_{part}": x[found >= 0], f"y_{part}": found[found >= 0]}
    name = "_".join([dataset.name, *map(str, wanted)])
    return dataclasses.replace(dataset, name=name, num_classes=len(wanted), truth=None, **kept)
