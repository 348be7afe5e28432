"""The registry of checks, what a check finds, and the verdict over several findings: shared by evaluations and audits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from bayesrob.analysis.evidence import Evidence, NotAvailable
from bayesrob.arguments import number
from bayesrob.errors import BayesrobError, check_name

__all__ = [
    "BELIEVED",
    "CHECKS",
    "DOUBTFUL",
    "IMAGES",
    "NOT_JUDGED",
    "RIVALS",
    "Check",
    "Finding",
    "allowed",
    "attempt",
    "check",
    "not_applicable",
    "state",
    "thresholds",
    "verdict",
]

IMAGES = 2
"""Thresholds in points of accuracy are never below this number of images: of 100, half a point is no image at all."""

ROUNDING = 1e-9
"""The rounding error allowed in differences of accuracies."""

BELIEVED, DOUBTFUL, NOT_JUDGED = "believed", "doubtful", "not judged"
"""The three states of a verdict. The last two are followed by "because" and the reason."""

ALWAYS = ("outputs", "nothing_dropped")
"""Checks of a figure that must have answered, or it is not judged: what the model puts out, and which points count."""
RIVALS = ("objectives", "convergence", "gradient_free", "transfer")
"""Checks of a figure of which one at least must have answered.

What an attack leaves bounds robustness from above. It can be taken for the robustness only if something as strong, which
might have found more, was tried and did not. One step and random points are weaker than any attack worth believing, so
they may cast doubt, but are not enough to believe."""


class Finding(NamedTuple):
    """What one check finds."""

    value: float
    """What is compared with the threshold; NaN where nothing was measured."""
    passed: bool
    """True only where the check answered and found nothing."""
    reason: str
    """A sentence or two with the numbers."""
    status: Literal["passed", "failed", "not_applicable", "error"] | None = None
    """None: as `passed` says."""

    @property
    def outcome(self) -> str:
        """The status in a table."""
        return self.status or ("passed" if self.passed else "failed")

    @property
    def answered(self) -> bool:
        """Whether the check came to an answer, either way."""
        return self.outcome in ("passed", "failed")

    @property
    def objects(self) -> bool:
        """Whether the finding makes its verdict doubtful: the check failed, or ended in an error."""
        return self.outcome in ("failed", "error")


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
    """Return the finding of a check that has nothing to judge: it neither passes nor fails, and is counted apart."""
    return Finding(math.nan, False, reason, "not_applicable")


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


def verdict(findings: Mapping[str, Finding], about: Literal["attack", "posterior"]) -> str:
    """Return "believed", "doubtful because of ..." with the names of checks, or "not judged because ..." with the reason.

    A figure is believed if no check objects, all of `ALWAYS` answered, and one of `RIVALS` did. A posterior is believed if
    `inference` answered and does not object.

    Args:
        findings: what the checks found, by their names; those about something else are passed over.
        about: what the verdict is about.
    """
    mine = {name: one for name, one in findings.items() if CHECKS[name].verdict == about}
    doubts = [name for name, one in mine.items() if one.objects]
    if doubts:
        return f"{DOUBTFUL} because of {', '.join(doubts)}"
    answered = {name for name, one in mine.items() if one.answered}
    if about == "posterior":
        missing = [one.reason for name, one in mine.items() if name not in answered]
        reason = missing[0].rstrip(".") if missing else ""
        return f"{NOT_JUDGED} because {reason[:1].lower()}{reason[1:]}" if missing or not mine else BELIEVED
    silent = [name for name in ALWAYS if name not in answered]
    if silent:
        return f"{NOT_JUDGED} because {' and '.join(silent)} did not answer"
    if not answered.intersection(RIVALS):
        return f"{NOT_JUDGED} because nothing as strong was tried beside it ({', '.join(RIVALS)})"
    return BELIEVED


def state(stated: str) -> str:
    """Return the state of a verdict, one of `BELIEVED`, `DOUBTFUL` and `NOT_JUDGED`."""
    return next(one for one in (BELIEVED, DOUBTFUL, NOT_JUDGED) if stated.startswith(one))
