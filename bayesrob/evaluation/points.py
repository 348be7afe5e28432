"""Which test points an evaluation looks at."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.types import Batch, Labels

__all__ = ["chosen_points"]


def chosen_points(dataset: Dataset, num_points: int | None, seed: int) -> tuple[Tensor, Batch, Labels]:
    """Indices, inputs and labels of a seeded subset, in the order of the test set: for that may be sorted by class.

    Every evaluation with the same seed looks at the same points.
    """
    available = len(dataset.x_test)
    order = torch.randperm(available, generator=rng.generator(seed, "evaluate", "points"))
    index = order[: available if num_points is None else num_points].sort().values
    return index, dataset.x_test[index], dataset.y_test[index]
