"""A Predictive is a distribution over functions: draws of a network's weights, whatever made them."""

from bayesrob.predictive.base import Predictive
from bayesrob.predictive.checks import are_probabilities
from bayesrob.predictive.draws import ORIGINS
from bayesrob.predictive.fresh import FreshDraws
from bayesrob.predictive.gaussian import GaussianDraws, LowRankGaussianDraws, NormalDraws
from bayesrob.predictive.gradients import DrawsFunction
from bayesrob.predictive.held import HeldDraws
from bayesrob.predictive.kinds import MeanOutputs, value_and_slope
from bayesrob.predictive.loading import load
from bayesrob.predictive.masked import MaskedDraws, Masks, check_rate, maskable
from bayesrob.predictive.modules import from_modules
from bayesrob.predictive.objectives import OBJECTIVES, DrawMean, Margin, Objective, Pooled, Weighted, agree
from bayesrob.predictive.preprocessed import Preprocessed
from bayesrob.predictive.random_resize import RandomResizePad
from bayesrob.predictive.stacking import from_predictives, stacked
from bayesrob.predictive.votes import majority

__all__ = [
    "OBJECTIVES",
    "ORIGINS",
    "DrawMean",
    "DrawsFunction",
    "FreshDraws",
    "GaussianDraws",
    "HeldDraws",
    "LowRankGaussianDraws",
    "Margin",
    "MaskedDraws",
    "Masks",
    "MeanOutputs",
    "NormalDraws",
    "Objective",
    "Pooled",
    "Predictive",
    "Preprocessed",
    "RandomResizePad",
    "Weighted",
    "agree",
    "are_probabilities",
    "check_rate",
    "from_modules",
    "from_predictives",
    "load",
    "majority",
    "maskable",
    "stacked",
    "value_and_slope",
]
