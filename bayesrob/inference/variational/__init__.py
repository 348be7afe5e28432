"""Variational inference: distributions over weights (`guides`), estimators of their loss (`elbo`), and the learner."""

from bayesrob.inference.variational.elbo import Estimator, LocalReparameterisation, SharedDraw
from bayesrob.inference.variational.guides import Guide, LowRank, MeanField, Mirrored
from bayesrob.inference.variational.learner import VariationalLearner

__all__ = [
    "Estimator",
    "Guide",
    "LocalReparameterisation",
    "LowRank",
    "MeanField",
    "Mirrored",
    "SharedDraw",
    "VariationalLearner",
]
