"""The class of all data sets: training and test points, the bounds of the inputs, the kind of target."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bayesrob.arguments import number
from bayesrob.data.checks import (
    check_inputs,
    check_labels,
    check_lengths,
    check_same,
    check_targets,
    described,
    finite_range,
)
from bayesrob.data.truth import Truth
from bayesrob.errors import InputError, check_name
from bayesrob.types import Bounds, checked_bounds

__all__ = ["Dataset"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test points for one task, checked when the object is made.

    Two data sets are equal only if they are the same object (comparing every number would be slow and hashing
    impossible), so that a data set can be a dictionary's key.

    Args:
        name: name of the data set in tables and file names.
        x_train: training inputs, float32 `[n, *shape]`; images are `[n, channel, height, width]` in [0, 1].
        y_train: int64 classes `[n]`, or float32 regression targets `[n, out]`.
        x_test: test inputs, float32 `[m, *shape]`.
        y_test: test targets as `y_train`, `[m]` or `[m, out]`.
        bounds: smallest and largest value an input component may take (in the inputs' own unit), or None if any value
            is meaningful. Attacks stay inside these bounds.
        num_classes: number of classes, or None for regression.
        truth: the distribution of the points, or None (the default) where it is not known. `conditional`, `project`,
            `supports`, `normal_basis`, `tangent_basis` and `robust_accuracy` need it, and raise `InputError` without one.

    Raises:
        InputError: a dtype, shape or length that does not fit, an empty set, a value that is not finite or lies outside
            `bounds` (compared in float32), a label outside 0 ... num_classes - 1.

    Example:
        >>> ds
        Dataset('half_moons': 60 train, 20 test, shape (2,), 2 classes, bounds (0.0, 1.0))
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    bounds: Bounds | None
    num_classes: int | None
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if self.truth is not None and not isinstance(self.truth, Truth):
            raise InputError(f"truth is {described(self.truth)}.", "It must give p(y | x).", "Pass a data.Truth, or None.")
        if self.bounds is not None:
            object.__setattr__(self, "bounds", checked_bounds(self.bounds))
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            check_inputs(f"x_{part}", x, self.bounds)
            if self.num_classes is None:
                check_targets(f"y_{part}", y)
            else:
                check_labels(f"y_{part}", y, self.num_classes)
            check_lengths(part, x, y)
        check_same("inputs", "x_train", self.x_train, "x_test", self.x_test)
        check_same("targets", "y_train", self.y_train, "y_test", self.y_test)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch axis."""
        return tuple(self.x_train.shape[1:])

    @property
    def out_features(self) -> int:
        """The number of outputs that a network needs: the number of classes, or of regression targets."""
        return self.y_train.shape[1] if self.num_classes is None else self.num_classes

    def training(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training points for a computation with some tensor.

        Args:
            like: a tensor whose device and dtype the points take. Class labels keep their dtype.

        Returns:
            `x_train` and `y_train`.
        """
        return self.x_train.to(like), self.y_train.to(like) if self.num_classes is None else self.y_train.to(like.device)

    def conditional(self, x: Tensor) -> Tensor:
        """Return the true p(y | x). `attacks.LabelInvariant(data.conditional, data.project)` uses it.

        Args:
            x: points on the support, `[n, *shape]`.

        Returns:
            Probabilities, float64 `[n, class]`.

        Raises:
            InputError: the distribution is not known; x has another shape, is not finite, or lies off the support.
        """
        truth = self._truth("conditional p(y | x)")
        return truth.conditional(self._on_support(truth, x))

    def project(self, x: Tensor) -> Tensor:
        """Return pi(x), the point of the support that is nearest in l_2; x itself if the support is the whole space.

        Args:
            x: points `[n, *shape]`.

        Raises:
            InputError: the distribution is not known; x has another shape or is not finite.
        """
        return self._truth("projection onto the support").project(self._points(x))

    def supports(self, x: Tensor, y: Tensor) -> Tensor:
        """Return whether p(x, y) > 0, up to float32's rounding of x: bool `[n]`.

        Args:
            x: points `[n, *shape]`.
            y: classes `[n]`.

        Raises:
            InputError: as for `project`; labels that are no classes, or not one for each point.
        """
        truth, x = self._truth("support"), self._points(x)
        check_labels("y", y, self.num_classes)
        if len(x) != len(y):
            raise InputError(
                f"There are {len(x)} points and {len(y)} classes.", "Each point needs its own class.", "Check the arrays."
            )
        probability = truth.conditional(truth.project(x))
        return truth.on_support(x) & (probability.gather(1, y[:, None]).squeeze(1) > 0)

    def normal_basis(self, x: Tensor) -> Tensor:
        """Return orthonormal vectors normal to the support, float64 `[n, codimension, dim]`.

        Args:
            x: points on the support, `[n, dim]`.

        Raises:
            InputError: as for `conditional`.
        """
        truth = self._truth("support")
        return truth.normal_basis(self._on_support(truth, x))

    def tangent_basis(self, x: Tensor) -> Tensor:
        """Return orthonormal vectors tangent to the support, float64 `[n, dim - codimension, dim]`.

        They complete `normal_basis`, which is much the smaller of the two where the codimension is small.

        Args:
            x: points on the support, `[n, dim]`.

        Raises:
            InputError: as for `conditional`.
        """
        normal = self.normal_basis(x)
        complete, _ = torch.linalg.qr(normal.mT, mode="complete")
        return complete[:, :, normal.shape[1] :].mT

    def robust_accuracy(self, eps: float, norm: str = "l_inf") -> float:
        """Return the best accuracy of any classifier if an attack may move every input by at most eps.

        An example counts as adversarial by its norm alone. Under the label-invariant definition the Bayes classifier of
        pi(x) has no adversarial examples at any eps.

        Args:
            eps: radius of the ball, in the unit of the inputs; 0 gives the accuracy of the Bayes classifier.
            norm: norm of the ball, "l_inf", "l_2" or "l_0" (the default is the norm of most attacks).

        Raises:
            InputError: no known distribution, or one whose best robust accuracy is not known at this radius and norm.
        """
        truth = self._truth("robust accuracy")
        eps = number("eps", eps, "It is the radius of a ball.", least=0)
        check_name("norm", norm, ["l_0", "l_2", "l_inf"])
        accuracy = truth.robust_accuracy(eps, norm)
        if accuracy is None:
            raise InputError(
                f"The best robust accuracy of {self.name!r} in {norm} at eps={eps:g} is not known.",
                f"{type(truth).__name__}.robust_accuracy says where it is.",
                "Take a norm and a radius for which it is known.",
            )
        return accuracy

    def _truth(self, what: str) -> Truth:
        if self.truth is None:
            raise InputError(
                f"{self.name!r} has no known {what}.",
                "Only distributions that somebody wrote down have one.",
                "Take e.g. robust_features, two_points, tradeoff_toy, sphere or moons, or pass truth=.",
            )
        return self.truth

    def _points(self, x: object) -> Tensor:
        if not isinstance(x, Tensor) or not x.is_floating_point() or tuple(x.shape[1:]) != self.shape or x.dim() < 2:
            raise InputError(
                f"x is {described(x)}.", f"Points of {self.name!r} are {list(self.shape)} each.", "Give [n, *shape]."
            )
        if x.numel():
            finite_range("x", x)
        return x

    def _on_support(self, truth: Truth, x: object) -> Tensor:
        points = self._points(x)
        off = int((~truth.on_support(points)).sum())
        if off:
            raise InputError(
                f"{off} of {len(points)} points lie off the support of {self.name!r}.",
                "p(y | x) is not defined there.",
                "Give project(x) instead.",
            )
        return points

    def __repr__(self) -> str:
        target = f"{self.out_features} outputs" if self.num_classes is None else f"{self.num_classes} classes"
        sizes = f"{len(self.x_train)} train, {len(self.x_test)} test"
        return f"Dataset({self.name!r}: {sizes}, shape {self.shape}, {target}, bounds {self.bounds})"
