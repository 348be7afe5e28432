"""What a network's outputs say about a label: the loss that training, attacks and scores have in common."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import torch
from pyro import distributions
from torch import Tensor

from bayesrob.arguments import number
from bayesrob.errors import InputError, check_name
from bayesrob.numerics import (
    Rescaled,
    categorical_log_likelihood,
    categorical_score,
    drop_negligible,
    log_mean_exp,
    log_softmax,
    rescaled,
    rescaled_categorical_score,
)

__all__ = ["LIKELIHOODS", "Categorical", "Likelihood", "Normal", "likelihood_from"]


@dataclasses.dataclass(frozen=True)
class Likelihood(abc.ABC):
    """p(y | outputs of the network)."""

    @abc.abstractmethod
    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Log likelihood of each point, `[*draws, batch]`, from outputs `[*draws, batch, out]`."""

    @abc.abstractmethod
    def total(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Sum of `log_prob` over the batch, float64 `[*draws]`: a sum over 60,000 points keeps its energy differences."""

    @abc.abstractmethod
    def encode(self, y: Tensor, out_features: int, like: Tensor) -> Tensor:
        """Labels `[*draws, batch, out]` in the form that `score` wants, made once for many calls; `like`: dtype, device."""

    @abc.abstractmethod
    def score(self, outputs: Tensor, code: Tensor) -> Tensor:
        """Derivative of `log_prob` with respect to the outputs, `[*draws, batch, out]`, in closed form."""

    def rescaled_score(self, outputs: Tensor, code: Tensor) -> Rescaled:
        """`score` with its size apart, right also where it is too small for the outputs' dtype, if the formula allows it."""
        return rescaled(self.score(outputs, code))

    def total_and_score(self, outputs: Tensor, y: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """`total` and `score`, by what they have in common where that is faster."""
        return self.total(outputs, y), self.score(outputs, code)

    @abc.abstractmethod
    def distribution(self, outputs: Tensor) -> Any:
        """The Pyro distribution over `y` with one batch dimension."""

    @abc.abstractmethod
    def predictive(self, outputs: Tensor) -> Tensor:
        """`[draw, batch, out] -> [batch, out]`: log posterior predictive probabilities, or the posterior mean."""

    def check_shapes(self, outputs: Tensor, y: Tensor) -> None:
        """Raise `InputError` unless `y` has one label for every row of `outputs` `[batch, out]`: nothing may broadcast."""
        shape = outputs.shape if isinstance(self, Normal) else outputs.shape[:1]
        if y.shape != shape:
            raise InputError(
                f"Labels have shape {tuple(y.shape)}, the network's outputs {tuple(outputs.shape)}.",
                f"A {self.name} likelihood needs labels of shape {tuple(shape)}.",
                "Reshape them: y[:, None] for one regression target, class indices for classes.",
            )

    @abc.abstractmethod
    def check_labels(self, y: Tensor, out_features: int | None) -> None:
        """Raise `InputError` if `y` cannot be labels of this likelihood."""

    def spec(self) -> dict[str, Any]:
        """What `likelihood_from` needs to make this object again."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @property
    def name(self) -> str:
        """Its name in `LIKELIHOODS`."""
        return type(self).__name__.lower()


@dataclasses.dataclass(frozen=True)
class Categorical(Likelihood):
    """Classification: softmax of the outputs, applied once.

    Example:
        >>> bool((br.models.Categorical().log_prob(net(x), y) <= 0).all())
        True
    """

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        return categorical_log_likelihood(outputs, y)

    def total(self, outputs: Tensor, y: Tensor) -> Tensor:
        if outputs.requires_grad and outputs.ndim > 2:  # of every draw
            return self.log_prob(outputs, y).sum(-1, dtype=torch.float64)
        if outputs.requires_grad:
            return -torch.nn.functional.cross_entropy(outputs, y, reduction="none").sum(dtype=torch.float64)
        index = y.unsqueeze(-1).expand(*outputs.shape[:-1], 1)
        return log_softmax(outputs).gather(-1, index).sum((-2, -1), dtype=torch.float64)

    def encode(self, y: Tensor, out_features: int, like: Tensor) -> Tensor:
        # Class by class in memory, as the outputs of `nets.Stack` are. Of two classes: 1 for the true one, -1 for the other.
        other = -1.0 if out_features == 2 else 0.0
        shape = (*y.shape[:-1], out_features, y.shape[-1])
        return like.new_full(shape, other).scatter_(-2, y.unsqueeze(-2), 1.0).mT

    def score(self, outputs: Tensor, code: Tensor) -> Tensor:
        if outputs.shape[-1] == 2:
            return _two_class_score(_margin(outputs, code), code)
        return categorical_score(outputs, code)

    def rescaled_score(self, outputs: Tensor, code: Tensor) -> Rescaled:
        own = type(self).score is Categorical.score  # else a subclass has another derivative
        return rescaled_categorical_score(outputs, code > 0) if own else super().rescaled_score(outputs, code)

    def total_and_score(self, outputs: Tensor, y: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        if outputs.shape[-1] != 2:
            logs = log_softmax(outputs)
            index = y.unsqueeze(-1).expand(*outputs.shape[:-1], 1)
            return logs.gather(-1, index).sum((-2, -1), dtype=torch.float64), categorical_score(outputs, code, logs)
        margin = _margin(outputs, code)
        total = torch.nn.functional.logsigmoid(margin).sum(-1, dtype=torch.float64)
        return total, _two_class_score(margin, code)

    def distribution(self, outputs: Tensor) -> Any:
        return distributions.Categorical(logits=outputs)

    def predictive(self, outputs: Tensor) -> Tensor:
        return log_mean_exp(log_softmax(outputs), dim=0)

    def check_labels(self, y: Tensor, out_features: int | None) -> None:
        if y.dtype != torch.int64 or y.ndim != 1:
            raise InputError(
                f"Labels are {y.dtype} of shape {tuple(y.shape)}.",
                "A classifier needs one int64 class per point.",
                "Pass class indices [batch], e.g. y.argmax(-1) of one-hot labels.",
            )
        if len(y) and (int(y.min()) < 0 or (out_features is not None and int(y.max()) >= out_features)):
            raise InputError(
                f"Labels run from {int(y.min())} to {int(y.max())}.",
                f"The network has {out_features} classes, numbered from 0.",
                "Check the labels, or the network's out_features.",
            )


def _margin(outputs: Tensor, code: Tensor) -> Tensor:
    """The true one's output of two classes minus the other's, `[*draws, batch]`, from +1 and -1."""
    return (outputs * code).sum(-1)


def _two_class_score(margin: Tensor, code: Tensor) -> Tensor:
    """`categorical_score` by one sigmoid, right to relative precision for confident networks too; overwrites `margin`."""
    return code * drop_negligible(margin.neg_().sigmoid_(), positive=True).unsqueeze(-1)


@dataclasses.dataclass(frozen=True)
class Normal(Likelihood):
    """Regression: y ~ N(outputs, noise_scale^2), independent over outputs.

    Args:
        noise_scale: standard deviation of the observations, in the targets' own unit.

    Raises:
        InputError: a noise_scale that is no positive number.

    Example:
        >>> br.models.Normal(0.5).log_prob(torch.zeros(3, 2), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        number("noise_scale", self.noise_scale, "It is a standard deviation.", above=0)

    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        constant = outputs.shape[-1] * math.log(self.noise_scale * math.sqrt(2 * math.pi))
        return -0.5 * ((outputs - y) / self.noise_scale).square().sum(-1) - constant

    def total(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.log_prob(outputs, y).sum(-1, dtype=torch.float64)

    def encode(self, y: Tensor, out_features: int, like: Tensor) -> Tensor:
        return y.to(like)

    def score(self, outputs: Tensor, code: Tensor) -> Tensor:
        return (code - outputs) / self.noise_scale**2

    def distribution(self, outputs: Tensor) -> Any:
        return distributions.Normal(outputs, self.noise_scale).to_event(1)

    def predictive(self, outputs: Tensor) -> Tensor:
        return outputs.mean(0)

    def check_labels(self, y: Tensor, out_features: int | None) -> None:
        if not y.is_floating_point() or y.ndim != 2 or (out_features is not None and y.shape[1] != out_features):
            raise InputError(
                f"Targets are {y.dtype} of shape {tuple(y.shape)}.",
                f"A regression network needs floating-point targets [batch, {out_features or 'out'}].",
                "Reshape with y[:, None] if there is one output.",
            )
        if not bool(y.isfinite().all()):
            raise InputError("Targets contain NaN or infinity.", "Their likelihood is undefined.", "Remove those points.")


LIKELIHOODS: dict[str, type[Likelihood]] = {"categorical": Categorical, "normal": Normal}


def likelihood_from(spec: dict[str, Any]) -> Likelihood:
    """The likelihood that `Likelihood.spec` wrote down."""
    arguments = dict(spec)
    return LIKELIHOODS[check_name("likelihood", arguments.pop("name", None), LIKELIHOODS)](**arguments)
