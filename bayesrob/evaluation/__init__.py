"""Predictive x attacks x data -> one labelled DataTree: the only bridge from torch to xarray; and results on disk."""

from bayesrob.evaluation import probes
from bayesrob.evaluation.attacked import Run, attack_points, ball
from bayesrob.evaluation.chains import chain_groups
from bayesrob.evaluation.datatree import record, to_datatree
from bayesrob.evaluation.evaluate import evaluate
from bayesrob.evaluation.gradients import evaluate_gradients
from bayesrob.evaluation.points import chosen_points
from bayesrob.evaluation.probes import distinct_draws
from bayesrob.evaluation.results import Results, read_manifest
from bayesrob.evaluation.scoring import Scorer
from bayesrob.evaluation.slopes import slopes
from bayesrob.evaluation.transfer import transfer_matrix

__all__ = [
    "Results",
    "Run",
    "Scorer",
    "attack_points",
    "ball",
    "chain_groups",
    "chosen_points",
    "distinct_draws",
    "evaluate",
    "evaluate_gradients",
    "probes",
    "read_manifest",
    "record",
    "slopes",
    "to_datatree",
    "transfer_matrix",
]
