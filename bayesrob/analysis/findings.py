"""What a check asks, what it found, and the verdict of several: shared by evaluations and audits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from bayesrob.errors import BayesrobError, InputError, check_name

__all__ = [
    "BELIEVED",
    "IMAGES",
    "NOT_JUDGED",
    "QUESTIONS",
    "Finding",
    "Question",
    "allowed",
    "asks",
    "attempt",
    "limits",
    "not_applicable",
    "verdict",
]

IMAGES = 2
"""Thresholds in points of accuracy are never below so many images: of 100, half a point is no image at all."""

ROUNDING = 1e-9
"""Of differences of accuracies."""

BELIEVED, NOT_JUDGED = "believed", "not judged"
"""Verdicts, beside "doubtful because of ..."; of a posterior that nothing is known about, or that is one network."""


class Finding(NamedTuple):
    """What one check found."""

    value: float
    """What is compared with the threshold; NaN where nothing was measured."""
    passed: bool
    reason: str
    """A sentence or two with the numbers."""
    status: Literal["passed", "failed", "not_applicable", "error"] | None = None
    """None: as `passed` says."""

    @property
    def outcome(self) -> str:
        return self.status or ("passed" if self.passed else "failed")


@dataclasses.dataclass(frozen=True)
class Question:
    """What a check asks of a robustness figure.

    Args:
        number: of the issue's list; rows are in this order. name: of its row.
        question: one line, the first of the docstring of the function that judges.
        threshold: what `Finding.value` is compared with; the function says in which direction.
        accuracy: whether the threshold is in points of accuracy, and so at least two images.
        source: the paper that asks it.
        verdict: whether it speaks about the attack or about the posterior.
    """

    number: int
    name: str
    question: str
    threshold: float
    accuracy: bool
    source: str
    verdict: Literal["attack", "posterior"]


QUESTIONS: dict[str, Question] = {}
"""Those that an evaluation can answer cheaply too, by name: see `analysis.checks`."""


def asks(
    number: int, threshold: float, source: str, accuracy: bool = False, verdict: Literal["attack", "posterior"] = "attack"
) -> Callable[[Callable[..., Finding]], Callable[..., Finding]]:
    """Register a function of numbers and arrays, under its own name, as what judges this question."""

    def register(judge: Callable[..., Finding]) -> Callable[..., Finding]:
        name = judge.__name__  # pyright: ignore[reportFunctionMemberAccess]
        line = (judge.__doc__ or "").splitlines()[0]
        QUESTIONS[name] = Question(number, name, line, threshold, accuracy, source, verdict)
        return judge

    return register


def not_applicable(reason: str) -> Finding:
    """It passes: what cannot go wrong here did not."""
    return Finding(math.nan, True, reason, "not_applicable")


def attempt(judge: Callable[[], Finding]) -> Finding:
    """What it found. One check that cannot be made must not cost the others, and must not pass either."""
    try:
        return judge()
    except (BayesrobError, RuntimeError) as error:
        return Finding(math.nan, False, f"It could not be made: {error}", "error")


def limits(
    questions: Mapping[str, Question], num_points: int, chosen: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Every question's threshold, those of `chosen` in place of the defaults; in accuracy never below two images.

    Raises:
        UnknownNameError: a check that does not exist. InputError: a threshold that is no number.
    """
    own: dict[str, float] = dict(chosen or {})
    for name, value in own.items():
        check_name("check", name, questions)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"The threshold of {name!r} is {value!r}.", "Values are compared with it.", "Give a number.")
    stated = {name: float(own.get(name, one.threshold)) for name, one in questions.items()}
    least = IMAGES / max(num_points, 1)
    return {name: max(value, least) if questions[name].accuracy else value for name, value in stated.items()}


def allowed(question: Question, threshold: float) -> float:
    """What a judge compares with: two images are two images, though 0.40 - 0.35 > 2 / 40 in floating point."""
    return threshold + ROUNDING if question.accuracy else threshold


def verdict(failed: Iterable[str]) -> str:
    """ "believed", or "doubtful because of ..." with the names of the checks that failed."""
    names = list(failed)
    return f"doubtful because of {', '.join(names)}" if names else BELIEVED
