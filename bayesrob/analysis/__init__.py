"""Pure statistics of arrays and xarray objects, without torch. Functions that need gradients take them as arrays."""

from bayesrob.analysis.bias_variance import bias_variance
from bayesrob.analysis.curves import median_perturbation, robustness_curve, smallest_perturbation
from bayesrob.analysis.detection import auroc, detection, uncertainty
from bayesrob.analysis.diagnostics import MIN_BFMI, chain_diagnostics
from bayesrob.analysis.evidence import (
    Change,
    Compared,
    Doubled,
    Evidence,
    NotAvailable,
    OneDraw,
    RadiusCurve,
    Rescored,
    Steps,
    Tried,
)
from bayesrob.analysis.findings import (
    BELIEVED,
    DOUBTFUL,
    NOT_JUDGED,
    Check,
    Finding,
    allowed,
    attempt,
    state,
    thresholds,
    verdict,
)
from bayesrob.analysis.gradients import checked_prefixes, component_quantiles, gradient_statistics, mean_cosine
from bayesrob.analysis.intervals import (
    LEVEL,
    binomial_interval,
    difference_interval,
    mean_interval,
    median_interval,
    paired_interval,
)
from bayesrob.analysis.manifold import manifold_statistics, split_gradients
from bayesrob.analysis.perturbation_terms import perturbation_terms
from bayesrob.analysis.rank_correlation import rank_correlation
from bayesrob.analysis.robustness import robust_points, robustness, worst_case
from bayesrob.analysis.svm import population_svm, soft_margin_svm
from bayesrob.analysis.tradeoff import hinge_loss, linear_accuracy, tradeoff
from bayesrob.analysis.validity import validity

__all__ = [
    "BELIEVED",
    "DOUBTFUL",
    "LEVEL",
    "MIN_BFMI",
    "NOT_JUDGED",
    "Change",
    "Check",
    "Compared",
    "Doubled",
    "Evidence",
    "Finding",
    "NotAvailable",
    "OneDraw",
    "RadiusCurve",
    "Rescored",
    "Steps",
    "Tried",
    "allowed",
    "attempt",
    "auroc",
    "bias_variance",
    "binomial_interval",
    "chain_diagnostics",
    "checked_prefixes",
    "component_quantiles",
    "detection",
    "difference_interval",
    "gradient_statistics",
    "hinge_loss",
    "linear_accuracy",
    "manifold_statistics",
    "mean_cosine",
    "mean_interval",
    "median_interval",
    "median_perturbation",
    "paired_interval",
    "perturbation_terms",
    "population_svm",
    "rank_correlation",
    "robust_points",
    "robustness",
    "robustness_curve",
    "smallest_perturbation",
    "soft_margin_svm",
    "split_gradients",
    "state",
    "thresholds",
    "tradeoff",
    "uncertainty",
    "validity",
    "verdict",
    "worst_case",
]
