"""Two point masses: the smallest problem on which two definitions of an adversarial example disagree (Stutz 2018)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import number
from bayesrob.data.dataset import Dataset
from bayesrob.data.subsets import alternating_labels, checked_counts
from bayesrob.data.truth import Truth
from bayesrob.errors import InputError

__all__ = ["TwoPoints", "two_points"]


def two_points(n_train: int = 100, n_test: int = 100, seed: int = 0, *, eps: float = 0.1) -> Dataset:
    """Draw x = 0 with label +1 and x = eps with label -1, which are classes 1 and 0 here: x `[n, 1]`, no bounds.

    Half of the points of each set are of each class; of an odd number class 0 has one more.

    Args:
        n_train: number of training points.
        n_test: number of test points.
        seed: seed of the points' order.
        eps: distance between the two points. The known distribution has eps rounded to float32, as the points have.

    Raises:
        InputError: a count below 1; an eps that is not positive and finite, or that is 0 or infinite in float32.

    Example:
        >>> pair = br.data.load("two_points", n_train=4, n_test=2, eps=0.5)
        >>> pair.robust_accuracy(0.1), pair.robust_accuracy(0.3)
        (1.0, 0.5)
    """
    n_train, n_test = checked_counts(n_train, n_test)
    eps = number("eps", eps, "It is the distance between the two points.", above=0)
    rounded = torch.tensor(eps, dtype=torch.float32).item()
    if not 0 < rounded < float("inf"):
        raise InputError(f"eps is {eps!r}.", "The points are float32, which cannot hold it.", "Pass e.g. 0.1.")
    generator = rng.generator(seed, "data", "two_points")
    parts = []
    for count in (n_train, n_test):
        y = alternating_labels(count, generator)
        parts += [rounded * (1 - y[:, None]).float(), y]
    return Dataset("two_points", *parts, bounds=None, num_classes=2, truth=TwoPoints(rounded))


@dataclasses.dataclass(frozen=True)
class TwoPoints(Truth):
    """The distribution of `two_points`, whose support {0, eps} has no tangent.

    Args:
        eps: distance between the two points.
    """

    eps: float

    def conditional(self, x: Tensor) -> Tensor:
        far = (self.project(x)[:, 0] != 0).double()
        return torch.stack([far, 1 - far], dim=1)

    def project(self, x: Tensor) -> Tensor:
        """Return eps if that is nearer than 0, else 0: a tie goes to 0, as in Stutz's article."""
        return torch.where((x - self.eps).abs() < x.abs(), self.eps, 0.0).to(x)

    def normal_basis(self, x: Tensor) -> Tensor:
        return x.new_ones(len(x), 1, 1, dtype=torch.float64)

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """1 while the balls around the points are disjoint, else 1/2, in every norm that is a length (all agree in R)."""
        return None if norm == "l_0" else 1.0 if eps < self.eps / 2 else 0.5
