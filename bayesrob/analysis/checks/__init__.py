"""The checks, a file for each group: each is one function of evidence and threshold. Importing them fills `CHECKS`."""

from bayesrob.analysis.checks import counts, draws, gradients, inference, outputs, radius, strength, without_gradients
from bayesrob.analysis.checks.outputs import SAME
from bayesrob.analysis.checks.radius import GREY
from bayesrob.analysis.findings import CHECKS

__all__ = [
    "CHECKS",
    "GREY",
    "SAME",
    "counts",
    "draws",
    "gradients",
    "inference",
    "outputs",
    "radius",
    "strength",
    "without_gradients",
]
