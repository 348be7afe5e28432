"""The audit: would this robustness number survive scrutiny? Runs that the checks need, then the checks, one row each."""

from bayesrob.analysis import Check, Finding
from bayesrob.analysis.checks import CHECKS
from bayesrob.auditing.audit import audit
from bayesrob.auditing.levels import LEVELS, Level, well_configured
from bayesrob.auditing.summary import summary, verdicts

__all__ = ["CHECKS", "LEVELS", "Check", "Finding", "Level", "audit", "summary", "verdicts", "well_configured"]
