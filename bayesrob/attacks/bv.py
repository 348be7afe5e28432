"""The bias-variance attack: one unsigned step along the gradient."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, Literal

import torch

from bayesrob.arguments import number
from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import check_radius, norms
from bayesrob.attacks.geometry import clip as clip_to
from bayesrob.attacks.victim import Victim
from bayesrob.numerics import per_point
from bayesrob.types import Batch

__all__ = ["BV", "UnsignedStep"]


@dataclasses.dataclass(frozen=True)
class UnsignedStep(Attack):
    """x + eps * direction, unscaled or scaled to a given mean square: the base of `BV`, `BiasAttack` and `VarianceAttack`.

    Args:
        eps: length of the step in units of the direction; not used if `mse` is given.
        mse: mean square of the perturbations of the batch before any clipping; None: the scale is `eps`.
        mse_per: "batch", or "point": each point's own mean square is `mse`.
        clip: True keeps the result within the bounds.
    """

    eps: float = 1.0
    mse: float | None = None
    mse_per: Literal["batch", "point"] = "batch"
    clip: bool = False

    norms: ClassVar[tuple[str, ...]] = ("mean square",)
    needs_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.eps)
        number("mse", self.mse, "It is the mean square of the perturbations.", above=0, or_none=True)

    @abc.abstractmethod
    def towards(self, victim: Victim, x: Batch) -> Batch:
        """The direction of the step, `[batch, *shape]`."""

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        step = self.towards(victim, x)
        if self.mse is None:
            step = self.eps * step
        else:
            longest = norms(step, "l_inf").clamp(min=torch.finfo(x.dtype).tiny)
            scaled = step / per_point(longest, x)  # squares of tiny gradients would underflow
            mean_square = scaled.flatten(1).square().mean(1)
            if self.mse_per == "point":
                factor = (self.mse / mean_square.clamp(min=torch.finfo(x.dtype).tiny)).sqrt()
                step = scaled * per_point(torch.where(mean_square > 0, factor, 0.0), x)
            else:
                relative = longest / longest.amax()
                total = (mean_square * relative.square()).mean()
                factor = (self.mse / total.clamp(min=torch.finfo(x.dtype).tiny)).sqrt()
                step = scaled * per_point(relative * torch.where(total > 0, factor, 0.0), x)
        return clip_to(x + step, victim.bounds if self.clip else None)


@dataclasses.dataclass(frozen=True)
class BV(UnsignedStep):
    """x + eps * gradient of -log p_y: no sign, no projection (Aboutalebi et al. 2020, theorem 4).

    Points move as far as their gradients are long, so that eps is no radius: compare attacks at equal injected
    perturbation, the mean squared difference, which `mse` sets. Further settings: see `Attack`.

    Args:
        eps: length of the step in units of the gradient (2.5, the paper's for CIFAR-10); not used if `mse` is given.
        mse: the perturbations of the batch are scaled by one common factor so that, before any clipping, the mean of their
            square over points and components is this number. None: the scale is `eps`.
        mse_per: "batch", or "point": each point's own mean square is `mse`.
        clip: True keeps the result within the bounds; the paper does not.
        objective: "predictive_loss" is -log of the averaged prediction's p_y; for others see `predictive.objectives`.

    Example:
        >>> z = br.attacks.BV(mse=0.01)(post, x, y)
        >>> bool(((z - x).square().mean() - 0.01).abs() < 1e-4)
        True
    """

    eps: float = 2.5
    objective: str = "predictive_loss"

    paper: ClassVar[str] = "Aboutalebi et al. 2020, theorem 4"

    def towards(self, victim: Victim, x: Batch) -> Batch:
        return victim.gradient(x, self.objective)
