"""Architectures as plain `nn.Module`s. A new one: one file with its function, one row in `ARCHITECTURES`."""

from bayesrob.nets.cnn import cnn
from bayesrob.nets.forward import draws_forward, forward, sequence
from bayesrob.nets.mlp import mlp
from bayesrob.nets.spec import ARCHITECTURES, build, initialise, spec_of
from bayesrob.nets.stack import Affine, Stack, Workspace, activate, feature_major, through_activation, values_kept

ARCHITECTURES.update(mlp=mlp, cnn=cnn)

__all__ = [
    "ARCHITECTURES",
    "Affine",
    "Stack",
    "Workspace",
    "activate",
    "build",
    "cnn",
    "draws_forward",
    "feature_major",
    "forward",
    "initialise",
    "mlp",
    "sequence",
    "spec_of",
    "through_activation",
    "values_kept",
]
