"""What is known of the distribution behind a data set that somebody wrote down, rather than collected."""

from __future__ import annotations

import abc
import dataclasses
import math
import numbers

import torch
from torch import Tensor

from bayesrob.errors import InputError

__all__ = ["TOLERANCE", "Truth", "check_eps", "check_number", "phi"]

TOLERANCE = 1e-5
"""How far from the support a point may lie and still count as on it, relative to its largest component: a little more than
float32's rounding."""


@dataclasses.dataclass(frozen=True)
class Truth(abc.ABC):
    """A known distribution of inputs and classes: numbers only, so that it can be compared, hashed and sent to processes.

    Inputs are `[n, dim]` on any device, in float32 or float64; sums are taken in float64. A truth says `conditional`; one
    whose support is not the whole space also says `project` and `normal_basis`.
    """

    @abc.abstractmethod
    def conditional(self, x: Tensor) -> Tensor:
        """p(y | x) at x `[n, dim]` on the support, float64 `[n, class]`."""

    def project(self, x: Tensor) -> Tensor:
        """The nearest point (in l_2) of the support to each x `[n, dim]`, in the dtype of x."""
        return x

    def normal_basis(self, x: Tensor) -> Tensor:
        """Orthonormal vectors that are normal to the support at x on it, float64 `[n, codimension, dim]`."""
        return x.new_zeros(len(x), 0, x.shape[1], dtype=torch.float64)

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """The best accuracy of any classifier while every input moves by at most eps; None where it is not known."""
        return None

    def on_support(self, x: Tensor) -> Tensor:
        """Whether each x `[n, dim]` lies on the support, but for rounding: bool `[n]`."""
        return (self.project(x) - x).abs().amax(1) <= TOLERANCE * x.abs().amax(1)


def check_number(name: str, value: object, why: str, lo: float = 0.0, hi: float = math.inf) -> float:
    """`value` as a float if it is a number strictly between `lo` and `hi`, else `InputError`."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not lo < value < hi:  # pyright: ignore[reportOperatorIssue]
        allowed = f"a finite number above {lo:g}" if hi == math.inf else f"a number above {lo:g} and below {hi:g}"
        raise InputError(f"{name} is {value!r}.", why, f"Pass {allowed}.")
    return float(value)  # pyright: ignore[reportArgumentType]


def check_eps(eps: object) -> float:
    """`eps` as a float if it is a radius, 0 or more and finite, else `InputError`."""
    number = isinstance(eps, numbers.Real) and not isinstance(eps, bool)
    if not number or not 0 <= eps < math.inf:  # pyright: ignore[reportOperatorIssue]
        raise InputError(f"eps is {eps!r}.", "It is the radius of a ball.", "Pass a finite number of at least 0.")
    return float(eps)  # pyright: ignore[reportArgumentType]


def phi(z: float) -> float:
    """The standard normal distribution function, exact in both tails."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
