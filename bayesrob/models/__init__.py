"""Pyro models: network x prior x likelihood."""

from bayesrob.models.bayesian_network import BayesianNetwork, network_of
from bayesrob.models.flat import LogJoint
from bayesrob.models.flat_network import FlatNetwork
from bayesrob.models.gradient import LikelihoodGradient
from bayesrob.models.likelihoods import LIKELIHOODS, Categorical, Likelihood, Normal

__all__ = [
    "LIKELIHOODS",
    "BayesianNetwork",
    "Categorical",
    "FlatNetwork",
    "Likelihood",
    "LikelihoodGradient",
    "LogJoint",
    "Normal",
    "network_of",
]
