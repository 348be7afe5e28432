"""Two point masses: the smallest problem on which two definitions of an adversarial example disagree (Stutz)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import subsets
from bayesrob.data.dataset import Dataset
from bayesrob.data.truth import Truth, check_number
from bayesrob.errors import InputError

__all__ = ["TwoPoints", "two_points"]


def two_points(n_train: int = 100, n_test: int = 100, seed: int = 0, eps: float = 0.1) -> Dataset:
    """x = 0 with label +1, x = eps with label -1, classes 1 and 0 here: x `[n, 1]`, no bounds.

    Of the points of each set half are of either class; of an odd number class 0 has one more.

    Args:
        n_train, n_test: points. seed: of their order.
        eps: distance of the points. What is known is of eps in float32, as the points are.

    Raises:
        InputError: a count below 1, eps that is not positive and finite or that float32 cannot tell from 0 or infinity.
    """
    n_train, n_test = subsets.check_count("n_train", n_train), subsets.check_count("n_test", n_test)
    eps = check_number("eps", eps, "It is the distance of the two points.")
    held = torch.tensor(eps, dtype=torch.float32).item()
    if not 0 < held < float("inf"):
        raise InputError(f"eps is {eps!r}.", "The points are float32, which cannot hold it.", "Pass e.g. 0.1.")
    generator = rng.generator(seed, "data", "two_points")
    parts = []
    for count in (n_train, n_test):
        y = (torch.arange(count) % 2)[torch.randperm(count, generator=generator)]
        parts += [held * (1 - y[:, None]).float(), y]
    return Dataset("two_points", *parts, bounds=None, num_classes=2, truth=TwoPoints(held))


@dataclasses.dataclass(frozen=True)
class TwoPoints(Truth):
    """The distribution of `two_points`; its support is {0, eps}, which has no tangent."""

    eps: float

    def conditional(self, x: Tensor) -> Tensor:
        far = (self.project(x)[:, 0] != 0).double()
        return torch.stack([far, 1 - far], dim=1)

    def project(self, x: Tensor) -> Tensor:
        """eps if that is nearer than 0, else 0: a tie goes to 0, as in the article."""
        return torch.where((x - self.eps).abs() < x.abs(), self.eps, 0.0).to(x)

    def normal_basis(self, x: Tensor) -> Tensor:
        return x.new_ones(len(x), 1, 1, dtype=torch.float64)

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """1 while the balls around both points are apart, else 1/2. Every norm that is a length is the same in R."""
        return None if norm == "l_0" else 1.0 if eps < self.eps / 2 else 0.5
