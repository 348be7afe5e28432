"""Pure statistics: arrays and xarray in, xarray out; no torch. What needs gradients gets them as arrays."""

from bayesrob.analysis.diagnostics import chain_diagnostics
from bayesrob.analysis.intervals import binomial_interval, mean_interval
from bayesrob.analysis.robustness import robustness

__all__ = ["binomial_interval", "chain_diagnostics", "mean_interval", "robustness"]
