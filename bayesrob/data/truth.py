"""What is known about the distribution behind a data set that somebody wrote down, rather than collected."""

from __future__ import annotations

import abc
import dataclasses
import math

import torch
from torch import Tensor

__all__ = ["TOLERANCE", "Truth", "phi"]

TOLERANCE = 1e-5
"""How far from the support a point may lie and still count as on it, relative to its largest component: a little more than
float32's rounding."""


@dataclasses.dataclass(frozen=True)
class Truth(abc.ABC):
    """A known distribution of inputs and classes.

    A truth holds numbers only, so that it can be compared, hashed and sent to other processes. Inputs are `[n, dim]` on any
    device, in float32 or float64; sums are computed in float64. A subclass defines `conditional`; one whose support is not
    the whole space also defines `project` and `normal_basis`.

    Example:
        >>> truth = br.data.load("moons", n_train=10, n_test=5).truth
        >>> isinstance(truth, br.data.Truth)
        True
    """

    @abc.abstractmethod
    def conditional(self, x: Tensor) -> Tensor:
        """Return p(y | x) at points x `[n, dim]` on the support, float64 `[n, class]`."""

    def project(self, x: Tensor) -> Tensor:
        """Return the point of the support that is nearest (in l_2) to each x `[n, dim]`, in the dtype of x."""
        return x

    def normal_basis(self, x: Tensor) -> Tensor:
        """Return orthonormal vectors normal to the support at points x on it, float64 `[n, codimension, dim]`."""
        return x.new_zeros(len(x), 0, x.shape[1], dtype=torch.float64)

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """Return the best accuracy of any classifier if every input may move by at most eps; None where it is unknown."""
        return None

    def on_support(self, x: Tensor) -> Tensor:
        """Return whether each x `[n, dim]` lies on the support, up to rounding: bool `[n]`."""
        return (self.project(x) - x).abs().amax(1) <= TOLERANCE * x.abs().amax(1)


def phi(z: float) -> float:
    """The standard normal distribution function, exact in both tails."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
