"""Which test points an evaluation looks at, and what it refuses before any work."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.errors import InputError
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["check_arguments", "check_count", "chosen_points"]


def chosen_points(dataset: Dataset, num_points: int | None, seed: int) -> tuple[Tensor, Batch, Labels]:
    """Indices, inputs and labels of a seeded subset, in the order of the test set: for that may be sorted by class.

    Every evaluation with the same seed looks at the same points.
    """
    available = len(dataset.x_test)
    order = torch.randperm(available, generator=rng.generator(seed, "evaluate", "points"))
    index = order[: available if num_points is None else num_points].sort().values
    return index, dataset.x_test[index], dataset.y_test[index]


def check_arguments(function: str, predictive: object, dataset: object) -> None:
    """Raise `InputError` unless these are a Predictive and a Dataset."""
    if not isinstance(predictive, Predictive):
        raise InputError(
            f"{function} got a {type(predictive).__name__}.",
            "It looks at a Predictive.",
            "Wrap networks: predictive.from_modules.",
        )
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"The data set is a {type(dataset).__name__}.",
            "Test points, labels and bounds are needed together.",
            "Use data.load(...) or data.from_arrays(...).",
        )


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise `InputError` unless `value` is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}.", "It counts.", f"Give a whole number >= {least}.")
