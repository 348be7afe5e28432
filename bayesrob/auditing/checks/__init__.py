"""The checks, a file for each group; importing them fills `CHECKS`."""

from bayesrob.auditing.checks import counts, draws, gradients, inference, outputs, radius, strength, without_gradients
from bayesrob.auditing.registry import CHECKS

__all__ = ["CHECKS", "counts", "draws", "gradients", "inference", "outputs", "radius", "strength", "without_gradients"]
