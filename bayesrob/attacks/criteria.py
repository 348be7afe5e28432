"""Success criteria: frozen dataclasses that are called with log predictive probabilities, labels and inputs."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from bayesrob.arguments import number
from bayesrob.errors import InputError
from bayesrob.types import Batch, Labels, Outputs

__all__ = ["Confident", "Criterion", "LabelInvariant", "Misclassified"]


@dataclasses.dataclass(frozen=True)
class Criterion(abc.ABC):
    """Whether an attack has reached its goal, point by point."""

    @abc.abstractmethod
    def __call__(
        self, log_predictive: Outputs, y: Labels, z: Batch, targeted: bool = False, true: Labels | None = None
    ) -> Bool[Tensor, " batch"]:
        """Whether each of the perturbed inputs `z` is a success.

        Args:
            log_predictive: log posterior predictive probabilities at `z`, `[batch, class]`.
            y: true labels, or with `targeted` the classes to move towards.
            z: the perturbed inputs, `[batch, *shape]`.
            targeted: whether `y` are targets.
            true: the true labels, also where `y` are targets; None: `y`.
        """

    def settings(self) -> dict[str, Any]:
        """Name and fields, as JSON can hold them."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"criterion": type(self).__name__} | {
            name: getattr(value, "__qualname__", repr(value)) if callable(value) else value for name, value in fields.items()
        }


@dataclasses.dataclass(frozen=True)
class Misclassified(Criterion):
    """The likeliest class is not the true one; for targeted attacks it is the target.

    Example:
        >>> reached = br.attacks.Misclassified()(post(x), y, x)
        >>> bool((reached == (post(x).argmax(1) != y)).all())
        True
    """

    def __call__(
        self, log_predictive: Outputs, y: Labels, z: Batch, targeted: bool = False, true: Labels | None = None
    ) -> Bool[Tensor, " batch"]:
        same = log_predictive.argmax(-1) == y
        return same if targeted else ~same


@dataclasses.dataclass(frozen=True)
class Confident(Criterion):
    """Misclassified, and with at least `probability` on the class that is predicted instead.

    Args:
        probability: the smallest probability of the wrong class that counts (0.5).

    Example:
        >>> sure = br.attacks.Confident(probability=0.9)(post(x), y, x)
        >>> wrong = br.attacks.Misclassified()(post(x), y, x)
        >>> bool((sure <= wrong).all())
        True
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        number("probability", self.probability, "It is the probability of a wrong class.", above=0, most=1)

    def __call__(
        self, log_predictive: Outputs, y: Labels, z: Batch, targeted: bool = False, true: Labels | None = None
    ) -> Bool[Tensor, " batch"]:
        sure = log_predictive.amax(-1) >= math.log(self.probability)
        return sure & Misclassified()(log_predictive, y, z, targeted)


@dataclasses.dataclass(frozen=True)
class LabelInvariant(Criterion):
    """Misclassified, while the true class stays the likeliest under the true distribution of the data (Stutz).

    With pi the projection onto the support of p: p(y | pi(z)) > p(y' | pi(z)) for all other y'.

    Args:
        conditional: the true p(y | x), `[batch, *shape] -> [batch, class]`.
        project: pi, the orthogonal projection onto the support of p, `[batch, *shape] -> [batch, *shape]`; None: the
            support is the whole space.

    Example:
        >>> certain = br.attacks.LabelInvariant(conditional=lambda z: torch.nn.functional.one_hot(y, 2).float())
        >>> wrong = br.attacks.Misclassified()(post(x), y, x)
        >>> bool((certain(post(x), y, x) == wrong).all())
        True
    """

    conditional: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor] | None = None

    def __call__(
        self, log_predictive: Outputs, y: Labels, z: Batch, targeted: bool = False, true: Labels | None = None
    ) -> Bool[Tensor, " batch"]:
        true = y if true is None else true
        probabilities = self.conditional(z if self.project is None else self.project(z))
        if probabilities.shape != log_predictive.shape:
            raise InputError(
                f"The true conditional gives {tuple(probabilities.shape)}.",
                f"It must give a probability for every point and class, {tuple(log_predictive.shape)}.",
                "Check `conditional`.",
            )
        index = true.unsqueeze(-1)
        others = probabilities.scatter(-1, index, -torch.inf).amax(-1)
        invariant = probabilities.gather(-1, index).squeeze(-1) > others
        return invariant & Misclassified()(log_predictive, y, z, targeted)
