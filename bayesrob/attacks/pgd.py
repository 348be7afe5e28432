"""Projected gradient descent."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch

from bayesrob.arguments import number, whole
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import project, random_point, steepest
from bayesrob.attacks.goal import DrawMinibatch
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError, check_name
from bayesrob.numerics import PRECISIONS, fast_precision, per_point
from bayesrob.predictive import Predictive
from bayesrob.types import Batch

__all__ = ["PGD"]


@dataclasses.dataclass(frozen=True)
class PGD(BallAttack):
    """Steps along the steepest direction of the averaged objective, each projected back (Madry et al. 2018).

    x_0 random in the ball; x_{t+1} = project(x_t + step_size * steepest(gradient at x_t)), with exact projections onto the
    ball and the bounds. Of several restarts each point keeps a result that the posterior predictive gets wrong, and among
    those (or if there is none) the one with the highest objective. Further settings: see `Attack`.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        steps: gradient steps of each restart (15, as in Carbone et al. 2020, section 5.2).
        restarts: random starting points; the strongest result is kept (1, as there).
        step_size: length of every step. None, with l_inf: 2.5 * eps / steps (Madry et al. 2018), enough to cross the ball
            and small enough to refine. None, with l_2: from eps down to eps / steps, in equal decrements, because Madry's
            rule moves 2.5 eps in all, however many the steps (on linear classifiers in 784 dimensions it ended 1.7% short of
            the worst case).
        random_start: False starts at x itself (the basic iterative method).
        objective: which average over draws is climbed, see `predictive.objectives`.
        precision: of the matrix products of the gradients: "full", "bf16", or on NVIDIA cards "tf32". Decisions (restarts,
            points that stop) are computed in full precision whatever it says.
        coarse_steps: number of initial steps that average only `coarse_draws` draws.
        coarse_draws: size of that minibatch of draws; held draws rotate with the step.
        stop_when_broken: a point that the posterior predictive gets wrong, with all draws and in full precision, leaves the
            batch. It is for robust accuracy only: such a point is not pushed any further.

    Example:
        >>> z = br.attacks.PGD(eps=0.1, steps=3)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    steps: int = 15
    restarts: int = 1
    step_size: float | None = None
    random_start: bool = True
    objective: str = "expected_loss"
    precision: Literal["full", "bf16", "tf32"] = "full"
    coarse_steps: int = 0
    coarse_draws: int = 10
    stop_when_broken: bool = False

    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Madry et al. 2018"

    @classmethod
    def fast(cls, eps: float = 0.1, steps: int = 15, **settings: Any) -> PGD:
        """A faster PGD, for robust accuracy only: the settings that `docs/benchmarks.md` compares.

        Three fifths of the steps average 25 draws (20 for two thirds of them were a tenth faster and left a standard error
        more of the images), products are rounded to bfloat16 where this machine multiplies those faster
        (`numerics.fast_precision`), and points that are broken (in full precision, by all draws) leave the batch.

        Args:
            eps: radius, in the inputs' own unit.
            steps: gradient steps.
            **settings: other settings of `PGD`; they override those above.
        """
        quick: dict[str, Any] = {"precision": fast_precision(), "coarse_steps": 3 * steps // 5, "coarse_draws": 25}
        quick["stop_when_broken"] = True
        return cls(eps, steps=steps, **{**quick, **settings})

    @property
    def only_accuracy(self) -> bool:
        return self.stop_when_broken

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("precision", self.precision, PRECISIONS)
        whole("steps", self.steps)
        whole("restarts", self.restarts)
        whole("coarse_draws", self.coarse_draws)
        whole("coarse_steps", self.coarse_steps, least=0)
        number("step_size", self.step_size, "A step must go somewhere.", above=0, or_none=True)

    def check_fits(self, predictive: Predictive) -> None:
        super().check_fits(predictive)
        if self.stop_when_broken and predictive.likelihood.name != "categorical":
            raise InputError("stop_when_broken in regression.", "No prediction is wrong there.", "Leave it out.")

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        if self.stop_when_broken:
            return self._until_broken(victim, x, generator)
        best = self._climb(victim, x, generator)
        if self.restarts == 1:
            return best
        fooled, value = victim.fooled(best), victim.loss(best, self.objective)
        for _ in range(self.restarts - 1):
            other = self._climb(victim, x, generator)
            other_fooled, other_value = victim.fooled(other), victim.loss(other, self.objective)
            better = (other_fooled & ~fooled) | ((other_fooled == fooled) & (other_value > value))
            best = torch.where(per_point(better, x), other, best)
            fooled, value = torch.where(better, other_fooled, fooled), torch.where(better, other_value, value)
        return best

    def _climb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        z = self._start(victim, x, generator)
        for step in range(self.steps):
            minibatch = self._minibatch(step)
            gradient = victim.gradient(z, self.objective, minibatch=minibatch, precision=self.precision, scaled=True)
            z = self._moved(victim, z, gradient, x, step)
        return z

    def _until_broken(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        """`_climb`, restart after restart, for the points that are not broken yet.

        The forward pass of each gradient, also of a minibatch of draws, shows which points seem broken; only those are
        evaluated again, with all draws and in full precision.
        """
        result = x.clone()
        left = torch.arange(len(x), device=x.device)
        for _ in range(self.restarts):
            z = self._start(victim, x, generator)[left]
            for step in range(self.steps + 1):
                if step == self.steps:  # the result of the last step needs no gradient
                    suspects = torch.arange(len(left), device=x.device)
                else:
                    gradient, log_predictive, _ = victim.gradient_and_prediction(
                        z, self.objective, left, minibatch=self._minibatch(step), precision=self.precision, scaled=True
                    )
                    suspects = torch.nonzero(victim.judged(log_predictive, z, left))[:, 0]
                result[left] = z
                stays = torch.ones_like(left, dtype=torch.bool)
                if len(suspects):
                    stays[suspects] = ~victim.fooled(z[suspects], left[suspects])
                left = left[stays]
                if len(left) == 0:
                    return result
                if step < self.steps:
                    z = self._moved(victim, z[stays], gradient[stays], x[left], step)
        return result

    def _start(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        return random_point(x, self.eps, self.norm, victim.bounds, generator) if self.random_start else x

    def _moved(self, victim: Victim, z: Batch, gradient: Batch, x: Batch, step: int) -> Batch:
        moved = torch.add(z, steepest(gradient, self.norm), alpha=self._step(step))
        return project(moved, x, self.eps, self.norm, victim.bounds)

    def _minibatch(self, step: int) -> DrawMinibatch | None:
        return DrawMinibatch(self.coarse_draws, step) if step < self.coarse_steps else None

    def _step(self, step: int) -> float:
        if self.step_size is not None:
            return self.step_size
        return 2.5 * self.eps / self.steps if self.norm == "l_inf" else self.eps * (1 - step / self.steps)
