"""Predictive x attacks x data -> one labelled DataTree: the only bridge from torch to xarray; and results on disk."""

from bayesrob.evaluation.datatree import to_datatree
from bayesrob.evaluation.evaluate import evaluate
from bayesrob.evaluation.gradients import evaluate_gradients
from bayesrob.evaluation.results import Results
from bayesrob.evaluation.slopes import slopes
from bayesrob.evaluation.transfer import transfer_matrix

__all__ = ["Results", "evaluate", "evaluate_gradients", "slopes", "to_datatree", "transfer_matrix"]
