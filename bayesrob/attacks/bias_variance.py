"""Attacks on the bias, or on the variance, of a set of models: steps along the gradients of the decomposition's terms."""

from __future__ import annotations

import dataclasses
import warnings
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bayesrob.arguments import whole
from bayesrob.attacks.bv import UnsignedStep
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError, ModelWarning, check_name
from bayesrob.predictive import MeanOutputs, Predictive, Weighted, agree, value_and_slope
from bayesrob.types import Batch

__all__ = ["BiasAttack", "VarianceAttack"]


@dataclasses.dataclass(frozen=True)
class BiasAttack(UnsignedStep):
    """x + eps * direction in which the bias of a set of models grows: the error that all of them share.

    The models are the predictive's draws (`predictive.from_predictives` makes one of several predictives). The bias is that
    of `analysis.bias_variance`: for classes -log pi_star_y, for a regression (f - f_bar)^2, where f is the label passed:
    give the noise-free value if it is known. Further settings: see `BV`.

    For squared error, corollary I of Aboutalebi et al. 2020 names -grad f_bar, along which every prediction falls; that
    raises the bias where f_bar < f and lowers it elsewhere. The gradient, 2 (f_bar - f) grad f_bar, carries the sign. For
    classes the two are one. With a target, the target's bias falls.

    Args:
        direction: "exact", the gradient; "paper", for a regression -grad f_bar (several outputs: of their mean).

    Warns:
        ModelWarning: points whose direction is exactly zero stay where they are.

    Example:
        >>> z = br.attacks.BiasAttack(mse=0.01)(post, x, y)
        >>> z.shape == x.shape
        True
    """

    direction: Literal["exact", "paper"] = "exact"

    paper: ClassVar[str] = "Aboutalebi et al. 2020, corollaries I"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("direction", self.direction, ["exact", "paper"])

    def towards(self, victim: Victim, x: Batch) -> Batch:
        if self.direction == "paper" and not victim.classifies:
            mean = victim.y.new_full(victim.y.shape, -1 / victim.y.shape[1])
            return _told(self, victim.gradient(x, Weighted(mean.to(x))))
        return _told(self, victim.gradient(x, "bias"))


@dataclasses.dataclass(frozen=True)
class VarianceAttack(UnsignedStep):
    """x + eps * direction in which a set of models comes to differ: their variance grows, whatever the labels are.

    The models are the predictive's draws (`predictive.from_predictives` makes one of several predictives). The direction is
    the gradient of the variance of `analysis.bias_variance`: for classes -log sum_c exp(mean_t log pi_t,c), for a regression
    mean_t (f_t - f_bar)^2, that is 2 mean_t (f_t - f_bar)(grad f_t - grad f_bar) (Aboutalebi et al. 2020, theorems 2 and 3,
    corollaries II). Further settings: see `BV`.

    Args:
        model: None: all models. t: the t-th alone, as the corollaries are printed, 2 (f_t - f_bar)(grad f_t - grad f_bar),
            or grad KL(pi_star || pi_t); the mean of these over t is the direction of all. The draws are held then.

    Raises:
        InputError: fewer than two models, or no model t.

    Warns:
        ModelWarning: points whose direction is exactly zero (equal models) stay where they are.

    Example:
        >>> z = br.attacks.VarianceAttack(mse=0.01)(post, x, y)
        >>> z.shape == x.shape
        True
    """

    model: int | None = None

    targetable: ClassVar[bool] = False
    paper: ClassVar[str] = "Aboutalebi et al. 2020, corollaries II"

    def check_fits(self, predictive: Predictive) -> None:
        super().check_fits(predictive)
        count = self.num_draws or predictive.num_draws
        if count < 2:
            raise InputError("One model has no variance.", "It is the spread of two or more.", "Train more.")
        whole("model", self.model, f"There are {count}, counted from 0.", least=0, most=count - 1, or_none=True)

    def towards(self, victim: Victim, x: Batch) -> Batch:
        return _told(self, victim.gradient(x, "variance") if self.model is None else self._of_one(victim, x, self.model))

    def _of_one(self, victim: Victim, x: Batch, t: int) -> Batch:
        """By the chain rule through f_t and through f_bar."""
        held = victim.predictive.freeze(victim.num_draws, victim.next_seed())
        mean, outputs = MeanOutputs(), held.logits(x)
        mean.add(outputs)
        spread = _divergence if victim.classifies else _squared
        _, (own, shared) = value_and_slope(spread, torch.stack([outputs[t], mean.value]))
        equal = agree(outputs[t : t + 1], mean.value)[0].unsqueeze(-1)
        victim.queries += 1
        victim.gradients += 2
        parts = ((held[t], own.masked_fill(equal, 0.0)), (held, shared.masked_fill(equal, 0.0)))
        return sum((post.input_gradient(x, victim.y, Weighted(slope)) for post, slope in parts), torch.zeros_like(x))


def _squared(pair: Tensor) -> Tensor:
    return (pair[0] - pair[1]).square().mean(-1)


def _divergence(pair: Tensor) -> Tensor:
    """KL(pi_star || pi_t), from f_t and f_bar."""
    own, star = pair.log_softmax(-1)
    return (star.exp() * (star - own)).sum(-1)


def _told(attack: UnsignedStep, direction: Batch) -> Batch:
    """The direction, after a warning if it is zero for some points."""
    still = int((direction == 0).flatten(1).all(1).sum())
    if still:
        warnings.warn(
            f"{type(attack).__name__} leaves {still} of {len(direction)} points where they are: its direction there is "
            "exactly zero (equal models, or networks so sure that it is rounded away).",
            ModelWarning,
            stacklevel=2,
        )
    return direction
