"""Which test points an evaluation uses, and what it refuses before any work."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import whole
from bayesrob.data import Dataset
from bayesrob.errors import InputError
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["check_arguments", "chosen_points"]


def chosen_points(dataset: Dataset, num_points: int | None, seed: int) -> tuple[Tensor, Batch, Labels]:
    """Return indices, inputs and labels of a seeded subset of the test points.

    They are in the order of the test set, which may be sorted by class. Every evaluation with the same seed uses the same
    points.

    Args:
        dataset: its test points are used.
        num_points: how many; None, or more than there are: all.
        seed: fixes the subset.

    Raises:
        InputError: `num_points` is no whole number above 0.

    Example:
        >>> index, inputs, labels = br.evaluation.chosen_points(ds, 5, seed=0)
        >>> bool((ds.x_test[index] == inputs).all())
        True
    """
    whole("num_points", num_points, or_none=True)
    available = len(dataset.x_test)
    order = torch.randperm(available, generator=rng.generator(seed, "evaluate", "points"))
    index = order[: available if num_points is None else num_points].sort().values
    return index, dataset.x_test[index], dataset.y_test[index]


def check_arguments(function: str, predictive: object, dataset: object) -> Predictive:
    """Return the predictive, or raise `InputError` unless these are a Predictive and a Dataset."""
    if not isinstance(predictive, Predictive):
        raise InputError(
            f"{function} got a {type(predictive).__name__}.",
            "It needs a Predictive.",
            "Wrap networks: predictive.from_modules.",
        )
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"The data set is a {type(dataset).__name__}.",
            "Test points come with their labels and bounds.",
            "Use data.load(...) or data.from_arrays(...).",
        )
    return predictive
