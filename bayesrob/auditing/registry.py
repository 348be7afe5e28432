"""The list of checks: each a function of the bench, registered under its number, threshold and source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from bayesrob.errors import InputError, check_name

if TYPE_CHECKING:
    from bayesrob.auditing.bench import Bench

__all__ = ["CHECKS", "IMAGES", "Check", "Finding", "check", "not_applicable", "thresholds_for"]

IMAGES = 2
"""Thresholds in points of accuracy are never below so many images: of 100, half a point is no image at all."""


class Finding(NamedTuple):
    """What one check found."""

    value: float
    """What is compared with the threshold; NaN where nothing was measured."""
    passed: bool
    reason: str
    """A sentence or two with the numbers."""
    status: Literal["passed", "failed", "not_applicable", "error"] | None = None
    """None: as `passed` says."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One question that an audit asks.

    Args:
        number: of the issue's list; rows are in this order. name: of its row.
        question: one line, the function's own docstring's first.
        threshold: what `Finding.value` is compared with; the function says in which direction.
        accuracy: whether the threshold is in points of accuracy, and so at least two images.
        source: the paper that asks it.
        verdict: whether it speaks about the attack or about the posterior.
        run: the check itself, of the bench and the threshold in force.
    """

    number: int
    name: str
    question: str
    threshold: float
    accuracy: bool
    source: str
    verdict: Literal["attack", "posterior"]
    run: Callable[[Bench, float], Finding]


CHECKS: dict[str, Check] = {}
"""By name, in the order of their numbers."""


def check(
    number: int,
    threshold: float,
    source: str,
    accuracy: bool = False,
    verdict: Literal["attack", "posterior"] = "attack",
) -> Callable[[Callable[[Bench, float], Finding]], Callable[[Bench, float], Finding]]:
    """Register the function under its own name."""

    def register(run: Callable[[Bench, float], Finding]) -> Callable[[Bench, float], Finding]:
        question = (run.__doc__ or "").splitlines()[0]
        name = run.__name__  # pyright: ignore[reportFunctionMemberAccess]
        CHECKS[name] = Check(number, name, question, threshold, accuracy, source, verdict, run)
        for known in sorted(CHECKS.values(), key=lambda one: one.number):
            CHECKS[known.name] = CHECKS.pop(known.name)
        return run

    return register


def not_applicable(reason: str) -> Finding:
    """It passes: what cannot go wrong here did not."""
    return Finding(math.nan, True, reason, "not_applicable")


def thresholds_for(chosen: dict[str, float] | None, num_points: int) -> dict[str, float]:
    """Every check's threshold, those of `chosen` in place of the defaults; in accuracy never below two images.

    Raises:
        UnknownNameError: a check that does not exist. InputError: a threshold that is no number.
    """
    chosen = dict(chosen or {})
    for name, value in chosen.items():
        check_name("check", name, CHECKS)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"The threshold of {name!r} is {value!r}.", "Values are compared with it.", "Give a number.")
    stated = {name: float(chosen.get(name, one.threshold)) for name, one in CHECKS.items()}
    least = IMAGES / max(num_points, 1)
    return {name: max(value, least) if CHECKS[name].accuracy else value for name, value in stated.items()}
