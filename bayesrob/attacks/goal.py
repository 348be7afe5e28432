"""What an attack wants: towards which class, what counts as success, and on which draws of the predictive."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bayesrob.arguments import is_whole, require, whole
from bayesrob.attacks.criteria import Criterion, Misclassified
from bayesrob.errors import check_name

__all__ = ["DrawMinibatch", "Draws", "Goal", "Label", "Sees", "Target"]

Target = int | Literal["least_likely", "most_likely", "random", "given"] | None
"""A class, a rule that chooses one for each point, or None: any class but the true one."""
Draws = Literal["fresh", "held"]
"""Whether an attack on a predictive drawn fresh sees new draws at every model evaluation, or one set, drawn at the start."""
Label = Literal["true", "predicted"]
"""The class that an attack moves away from: the true one, or the one predicted for the clean input."""
Sees = Literal["gradients", "probabilities", "classes", "nothing"]
"""What an attack uses of the predictive."""

RULES = ("least_likely", "most_likely", "random", "given")


@dataclasses.dataclass(frozen=True)
class Goal:
    """The part of an attack's settings that decides how it sees a predictive; `Attack` has the same fields.

    Args:
        target: the class to move towards, or a rule that chooses it; None: away from the true class.
        criterion: what counts as success.
        num_draws: draws of the predictive in each model evaluation; None: the predictive's own number.
        draws: "fresh" or "held", for predictives drawn fresh.
    """

    target: Target = None
    criterion: Criterion = dataclasses.field(default=Misclassified())
    num_draws: int | None = None
    draws: Draws = "fresh"

    def __post_init__(self) -> None:
        if self.target is not None and not is_whole(self.target):
            check_name("target", self.target, RULES)
        require(
            isinstance(self.criterion, Criterion),
            f"criterion is a {type(self.criterion).__name__}.",
            "It decides what counts as success.",
            "Give Misclassified().",
        )
        check_name("draws", self.draws, ["fresh", "held"])
        whole("num_draws", self.num_draws, "A model evaluation averages so many draws.", or_none=True)


@dataclasses.dataclass(frozen=True)
class DrawMinibatch:
    """A minibatch of draws: its size and the index of the step. Held draws rotate with the step.

    The rotation makes all held draws count over the steps, and not only the first ones. A predictive drawn fresh draws new
    ones anyway; of a user's modules the minibatch is always the first ones, because parts of them would be copies.

    Args:
        size: number of draws.
        step: index of the attack's step, from 0.
    """

    size: int
    step: int
