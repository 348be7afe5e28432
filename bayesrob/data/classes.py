"""Selecting some classes of a data set, such as MNIST's 5 against 7."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from bayesrob.arguments import is_whole
from bayesrob.data.dataset import Dataset
from bayesrob.errors import InputError

__all__ = ["keep_classes"]


def keep_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """Return the points of some classes, in their original order, with the classes numbered anew from 0.

    Args:
        dataset: a data set for classification.
        classes: two or more of its classes, e.g. (5, 7). The first one given becomes class 0, the second class 1, ...

    Returns:
        A data set named e.g. "mnist_5_7". Its distribution is not known, even if that of `dataset` was.

    Raises:
        InputError: a data set for regression; a class that does not exist or is given twice; fewer than two classes; a
            class without training or test points.

    Example:
        >>> digits = br.data.load("digits", n_train=100, n_test=50)
        >>> pair = br.data.keep_classes(digits, (5, 7))
        >>> pair.name, pair.num_classes
        ('digits_5_7', 2)
    """
    if dataset.num_classes is None:
        raise InputError(
            f"{dataset.name!r} is a data set for regression.", "It has no classes.", "Give one for classification."
        )
    wanted = list(classes)
    known = all(is_whole(cls) and 0 <= cls < dataset.num_classes for cls in wanted)
    if not known or len(wanted) < 2 or len(set(wanted)) < len(wanted):
        raise InputError(
            f"classes is {classes!r}.",
            f"{dataset.name!r} has the classes 0 to {dataset.num_classes - 1}, and a classifier needs at least two.",
            "Give two or more of them, each once, e.g. (5, 7).",
        )
    selected: dict[str, Tensor] = {}
    for part, x, y in (("train", dataset.x_train, dataset.y_train), ("test", dataset.x_test, dataset.y_test)):
        missing = [cls for cls in wanted if not (y == cls).any()]
        if missing:
            raise InputError(
                f"No {part} point of {dataset.name!r} is of class {missing[0]}.",
                "Each class needs training and test points.",
                f"Load more points (n_{part}), or balanced=True.",
            )
        number = torch.full((dataset.num_classes,), -1, device=y.device)
        number[torch.tensor(wanted, device=y.device)] = torch.arange(len(wanted), device=y.device)
        labels = number[y]
        selected |= {f"x_{part}": x[labels >= 0], f"y_{part}": labels[labels >= 0]}
    name = "_".join([dataset.name, *map(str, wanted)])
    return dataclasses.replace(dataset, name=name, num_classes=len(wanted), truth=None, **selected)
