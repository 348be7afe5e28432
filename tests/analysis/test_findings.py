"""Checks whose evidence is not available, and what evaluations leave out."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bayesrob.analysis.checks import CHECKS
from bayesrob.analysis.evidence import Evidence, NotAvailable, if_available
from bayesrob.analysis.findings import Finding, attempt, thresholds
from bayesrob.auditing.bench import Bench
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.evaluation.evidence import FigureEvidence


class Nothing(Evidence):
    """Evidence without anything: its methods are those that nobody has overridden."""


Nothing.__abstractmethods__ = frozenset()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_check_without_its_evidence_is_not_applicable():
    def asks(evidence: Evidence, threshold: float) -> Finding:
        return Finding(evidence.on_one_draw().attack, True, "It was asked.")

    finding = attempt(asks, Nothing(), 0.0)
    assert finding.outcome == "not_applicable"
    assert not finding.passed
    assert not finding.answered
    assert not finding.objects
    assert math.isnan(finding.value)
    assert finding.reason == "The attack was not run on a single draw."


def test_a_part_without_its_evidence_is_left_out():
    assert if_available(Nothing().doubled) is None
    assert if_available(lambda: 3) == 3
    with pytest.raises(NotAvailable):
        Nothing().within_error()


def test_an_error_is_neither_a_pass_nor_the_end():
    def fails(evidence: Evidence, threshold: float) -> Finding:
        raise RuntimeError("no memory")

    finding = attempt(fails, Nothing(), 0.0)
    assert (finding.outcome, finding.passed) == ("error", False)
    assert "no memory" in finding.reason


def test_evaluations_leave_out_what_takes_runs():
    assert all(check.is_answered_by(Bench) for check in CHECKS.values())
    assert {name for name, check in CHECKS.items() if not check.is_answered_by(FigureEvidence)} == {"frozen_draw"}
    new = dataclasses.replace(CHECKS["outputs"], needs=("doubled", "on_one_draw"))
    assert (new.is_answered_by(Bench), new.is_answered_by(FigureEvidence)) == (True, False)


def test_thresholds_are_numbers_of_known_checks():
    limits = thresholds(CHECKS, 100, {"objectives": 0.3, "convergence": 0.001})
    assert (limits["objectives"], limits["convergence"], limits["transfer"]) == (0.3, 0.02, 0.02)
    with pytest.raises(InputError, match="The threshold of 'objectives' is 'much'"):
        thresholds(CHECKS, 100, {"objectives": "much"})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownNameError, match="objectives"):
        thresholds(CHECKS, 100, {"objektives": 0.1})
