"""The registry of checks, what a check finds, and the verdict over several findings: shared by evaluations and audits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from bayesrob.analysis.evidence import Evidence, NotAvailable
from bayesrob.arguments import number
from bayesrob.errors import BayesrobError, check_name

__all__ = [
    "BELIEVED",
    "CHECKS",
    "IMAGES",
    "NOT_JUDGED",
    "Check",
    "Finding",
    "allowed",
    "attempt",
    "check",
    "not_applicable",
    "thresholds",
    "verdict",
]

IMAGES = 2
"""Thresholds in points of accuracy are never below this number of images: of 100, half a point is no image at all."""

ROUNDING = 1e-9
"""The rounding error allowed in differences of accuracies."""

BELIEVED, NOT_JUDGED = "believed", "not judged"
"""Verdicts, beside "doubtful because of ..."; the second for one network, or a posterior that nothing is known about."""


class Finding(NamedTuple):
    """What one check finds."""

    value: float
    """What is compared with the threshold; NaN where nothing was measured."""
    passed: bool
    reason: str
    """A sentence or two with the numbers."""
    status: Literal["passed", "failed", "not_applicable", "error"] | None = None
    """None: as `passed` says."""

    @property
    def outcome(self) -> str:
        """The status in a table."""
        return self.status or ("passed" if self.passed else "failed")


Judge = Callable[[Evidence, float], Finding]


@dataclasses.dataclass(frozen=True)
class Check:
    """A question about an accuracy under attack, or about the posterior behind it, and the function that answers it.

    Args:
        number: the position of its row in the table.
        name: the name of its row, which is that of the function.
        question: one line, the first of the function's docstring.
        threshold: what `Finding.value` is compared with; the function says in which direction.
        accuracy: whether the threshold is in points of accuracy, and so at least two images.
        source: the paper that asks the question.
        verdict: whether the check speaks about the attack or about the posterior.
        needs: methods of `Evidence` that only some implementations have, without which nothing can be said.
        run: the function, of evidence and the threshold in force.
    """

    number: int
    name: str
    question: str
    threshold: float
    accuracy: bool
    source: str
    verdict: Literal["attack", "posterior"]
    needs: tuple[str, ...]
    run: Judge

    def is_answered_by(self, evidence: type[Evidence]) -> bool:
        """Whether evidence of this class has all that the check needs."""
        return all(getattr(evidence, name) is not getattr(Evidence, name) for name in self.needs)


CHECKS: dict[str, Check] = {}
"""All checks by name, in the order of their numbers; `analysis.checks` fills it."""


def check(
    number: int,
    *,
    threshold: float,
    source: str,
    accuracy: bool = False,
    verdict: Literal["attack", "posterior"] = "attack",
    needs: tuple[str, ...] = (),
) -> Callable[[Judge], Judge]:
    """Register a function of evidence and threshold as a check, under its own name; arguments as of `Check`."""

    def register(run: Judge) -> Judge:
        name = run.__name__  # pyright: ignore[reportFunctionMemberAccess]
        question = (run.__doc__ or "").splitlines()[0]
        CHECKS[name] = Check(number, name, question, threshold, accuracy, source, verdict, needs, run)
        for known in sorted(CHECKS.values(), key=lambda one: one.number):
            CHECKS[known.name] = CHECKS.pop(known.name)
        return run

    return register


def not_applicable(reason: str) -> Finding:
    """Return the finding of a check that has nothing to judge: it passes, because what cannot go wrong did not."""
    return Finding(math.nan, True, reason, "not_applicable")


def attempt(run: Judge, evidence: Evidence, threshold: float) -> Finding:
    """Return what a check finds.

    A check whose evidence is not available here is not applicable. One that ends in an error does not cost the others, and
    does not pass.
    """
    try:
        return run(evidence, threshold)
    except NotAvailable as missing:
        return not_applicable(str(missing))
    except (BayesrobError, RuntimeError) as error:
        return Finding(math.nan, False, f"It could not be made: {error}", "error")


def thresholds(checks: Mapping[str, Check], num_points: int, chosen: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return the threshold of every check, those of `chosen` in place of the defaults; in accuracy at least two images.

    Raises:
        UnknownNameError: `chosen` names a check that does not exist.
        InputError: a threshold is no number.
    """
    own: dict[str, float] = {}
    for name, value in (chosen or {}).items():
        check_name("check", name, checks)
        own[name] = number(f"The threshold of {name!r}", value, "The check's value is compared with it.")
    stated = {name: float(own.get(name, one.threshold)) for name, one in checks.items()}
    least = IMAGES / max(num_points, 1)
    return {name: max(value, least) if checks[name].accuracy else value for name, value in stated.items()}


def allowed(check: Check, threshold: float) -> float:
    """Return what values are compared with: two images are two images, though 0.40 - 0.35 > 2 / 40 in floating point."""
    return threshold + ROUNDING if check.accuracy else threshold


def verdict(failed: Iterable[str]) -> str:
    """Return "believed", or "doubtful because of ..." with the names of the checks that failed."""
    names = list(failed)
    return f"doubtful because of {', '.join(names)}" if names else BELIEVED
