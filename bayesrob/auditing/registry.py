"""The list of checks: each a function of the bench, registered under its number, threshold and source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from bayesrob.analysis.findings import QUESTIONS, Finding, Question, limits, not_applicable

if TYPE_CHECKING:
    from bayesrob.auditing.bench import Bench

__all__ = ["CHECKS", "Check", "Finding", "check", "not_applicable", "shared", "thresholds_for"]

Run = Callable[["Bench", float], Finding]


@dataclasses.dataclass(frozen=True)
class Check(Question):
    """One question that an audit asks, and `run`, which answers it, of the bench and the threshold in force."""

    run: Run


CHECKS: dict[str, Check] = {}
"""By name, in the order of their numbers."""


def check(
    number: int,
    threshold: float,
    source: str,
    accuracy: bool = False,
    verdict: Literal["attack", "posterior"] = "attack",
) -> Callable[[Run], Run]:
    """Register the function under its own name, for a question that only an audit answers."""

    def register(run: Run) -> Run:
        name = run.__name__  # pyright: ignore[reportFunctionMemberAccess]
        question = (run.__doc__ or "").splitlines()[0]
        return _add(Question(number, name, question, threshold, accuracy, source, verdict), run)

    return register


def shared(run: Run) -> Run:
    """Register the function under its own name, for the question of `analysis.checks` that has the same name."""
    return _add(QUESTIONS[run.__name__], run)  # pyright: ignore[reportFunctionMemberAccess]


def _add(question: Question, run: Run) -> Run:
    CHECKS[question.name] = Check(**dataclasses.asdict(question), run=run)
    for known in sorted(CHECKS.values(), key=lambda one: one.number):
        CHECKS[known.name] = CHECKS.pop(known.name)
    return run


def thresholds_for(chosen: Mapping[str, float] | None, num_points: int) -> dict[str, float]:
    """Every check's threshold: see `analysis.findings.limits`."""
    return limits(CHECKS, num_points, chosen)
