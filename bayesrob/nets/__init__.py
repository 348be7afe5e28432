"""Architectures as plain `nn.Module`s. A new one: one file with its function, one row in `ARCHITECTURES`."""

from bayesrob.nets.cnn import cnn
from bayesrob.nets.forward import draws_forward, forward, in_fast_layout, sequence
from bayesrob.nets.joined import Joined
from bayesrob.nets.lstm import LSTM, lstm
from bayesrob.nets.mlp import mlp
from bayesrob.nets.mobilenet import mobilenet_v2
from bayesrob.nets.normalised import Normalise, normalised
from bayesrob.nets.resnet import resnet18, resnet34, resnet50
from bayesrob.nets.spec import ARCHITECTURES, build, initialise, spec_of
from bayesrob.nets.stack import Affine, Stack, Workspace, activate, feature_major, through_activation, values_kept

ARCHITECTURES.update(
    mlp=mlp,
    cnn=cnn,
    lstm=lstm,
    resnet18=resnet18,
    resnet34=resnet34,
    resnet50=resnet50,
    mobilenet_v2=mobilenet_v2,
    normalised=normalised,
)

__all__ = [
    "ARCHITECTURES",
    "LSTM",
    "Affine",
    "Joined",
    "Normalise",
    "Stack",
    "Workspace",
    "activate",
    "build",
    "cnn",
    "draws_forward",
    "feature_major",
    "forward",
    "in_fast_layout",
    "initialise",
    "lstm",
    "mlp",
    "mobilenet_v2",
    "normalised",
    "resnet18",
    "resnet34",
    "resnet50",
    "sequence",
    "spec_of",
    "through_activation",
    "values_kept",
]
