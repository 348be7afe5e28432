"""Pyro models: network x prior x likelihood."""

from bayesrob.models.bayesian_network import BayesianNetwork
from bayesrob.models.flat import LogJoint
from bayesrob.models.gradient import LikelihoodGradient
from bayesrob.models.likelihoods import LIKELIHOODS, Categorical, Likelihood, Normal

__all__ = ["LIKELIHOODS", "BayesianNetwork", "Categorical", "Likelihood", "LikelihoodGradient", "LogJoint", "Normal"]
