"""A Predictive is a distribution over functions: draws of a network's weights, whatever made them."""

from bayesrob.predictive.base import Predictive
from bayesrob.predictive.fresh import FreshDraws
from bayesrob.predictive.gaussian import GaussianDraws, LowRankGaussianDraws
from bayesrob.predictive.held import HeldDraws
from bayesrob.predictive.loading import load
from bayesrob.predictive.masked import MaskedDraws
from bayesrob.predictive.modules import from_modules
from bayesrob.predictive.objectives import OBJECTIVES
from bayesrob.predictive.preprocessed import Preprocessed
from bayesrob.predictive.random_resize import RandomResizePad
from bayesrob.predictive.stacking import from_predictives
from bayesrob.predictive.votes import majority

__all__ = [
    "OBJECTIVES",
    "FreshDraws",
    "GaussianDraws",
    "HeldDraws",
    "LowRankGaussianDraws",
    "MaskedDraws",
    "Predictive",
    "Preprocessed",
    "RandomResizePad",
    "from_modules",
    "from_predictives",
    "load",
    "majority",
]
