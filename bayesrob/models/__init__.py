"""Pyro models: network x prior x likelihood."""

from bayesrob.models.bayesian_network import BayesianNetwork, network_of
from bayesrob.models.flat import LogJoint
from bayesrob.models.flat_network import FlatNetwork
from bayesrob.models.gradient import Data, LikelihoodGradient
from bayesrob.models.likelihoods import LIKELIHOODS, Categorical, Likelihood, Normal, likelihood_from

__all__ = [
    "LIKELIHOODS",
    "BayesianNetwork",
    "Categorical",
    "Data",
    "FlatNetwork",
    "Likelihood",
    "LikelihoodGradient",
    "LogJoint",
    "Normal",
    "likelihood_from",
    "network_of",
]
