"""Projected gradient descent."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import torch

from bayesrob.attacks.base import Attack, check_attack_draws, check_attack_objective, check_ball, next_seed
from bayesrob.attacks.geometry import project, random_point, steepest
from bayesrob.errors import InputError, check_name
from bayesrob.numerics import PRECISIONS, fast_precision
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["PGD"]


@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    """Steps along the steepest direction of the averaged objective, each projected back (Madry et al. 2018).

    x_0 random in the ball; x_{t+1} = project(x_t + step_size * steepest(gradient at x_t)), projections exact on ball and
    bounds. Of several restarts each point keeps the one that the posterior predictive gets wrong, and among those (or
    among none) the highest objective.

    Args:
        eps: radius in the inputs' own unit. norm: "l_inf" or "l_2".
        steps: 15 and
        restarts: 1, as in Carbone et al. 2020, section 5.2. More restarts only make the attack stronger.
        step_size: a number is used at every step. None, l_inf: 2.5 * eps / steps (Madry et al. 2018), enough to cross the
            ball, small enough to refine. None, l_2: from eps down to eps / steps, in equal decrements. Madry's rule moves
            2.5 eps in all, however many the steps: on linear classifiers in 784 dimensions it ended 1.7% short of the
            worst case (15 and 50 steps alike), this one under 0.01%; on the digits' networks it climbs higher too.
        random_start: False starts at x itself (the basic iterative method).
        objective: which average is climbed, see `predictive.objectives`.
        num_draws: draws to average; None: the predictive's own number.
        draws: for predictives drawn fresh. "fresh": new draws at every step (expectation over transformation, Athalye
            et al. 2018), so the attack cannot overfit to one set. "held": one set, drawn at the start, for all steps.
            Held draws are what they are either way.
        precision: of the gradients' products: "full", "bf16", or on NVIDIA cards "tf32". What decides (restarts, points
            that stop) is computed in full whatever it says.
        coarse_steps: the first so many steps average only
        coarse_draws: draws.
        stop_when_broken: a point that the posterior predictive gets wrong, with all draws and in full precision, leaves the
            batch. For where accuracy is the only score: such a point is not pushed any further.
    """

    eps: float = 0.1
    norm: Literal["l_inf", "l_2"] = "l_inf"
    steps: int = 15
    restarts: int = 1
    step_size: float | None = None
    random_start: bool = True
    objective: str = "expected_loss"
    num_draws: int | None = None
    draws: Literal["fresh", "held"] = "fresh"
    precision: Literal["full", "bf16", "tf32"] = "full"
    coarse_steps: int = 0
    coarse_draws: int = 10
    stop_when_broken: bool = False

    @classmethod
    def fast(cls, eps: float = 0.1, steps: int = 15, **settings: Any) -> PGD:
        """For robust accuracy alone, at a fraction of the cost: the settings that `docs/benchmarks.md` compares.

        Half of the steps average 25 draws (10 draws for two thirds of them were faster and left 4% more of the images, more
        than a standard error), products are rounded to bfloat16 where this machine multiplies those faster
        (`numerics.fast_precision`), and points that are broken (in full precision, by all draws) leave the batch.
        `settings` may say otherwise.
        """
        quick: dict[str, Any] = {"precision": fast_precision(), "coarse_steps": steps // 2, "coarse_draws": 25}
        quick["stop_when_broken"] = True
        return cls(eps, steps=steps, **{**quick, **settings})

    @property
    def only_accuracy(self) -> bool:
        return self.stop_when_broken

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_attack_objective(self.objective)
        check_attack_draws(self.num_draws)
        check_name("draws", self.draws, ["fresh", "held"])
        check_name("precision", self.precision, PRECISIONS)
        for name, least in (("steps", 1), ("restarts", 1), ("coarse_draws", 1), ("coarse_steps", 0)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}.", f"It counts from {least}.", f"Give {name} >= {least}."
                )
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise InputError(
                f"step_size is {self.step_size}.", "A step must go somewhere.", "Give a positive number, or None."
            )

    def perturb(self, predictive: Predictive, x: Batch, y: Labels, generator: torch.Generator) -> Batch:
        if self.stop_when_broken:
            return self._until_broken(predictive, x, y, generator)
        best = self._climb(predictive, x, y, generator)
        if self.restarts == 1:
            return best
        score_seed = next_seed(generator)  # one for all restarts: fresh draws are then the same for each
        wrong, value = self._score(predictive, best, y, score_seed)
        for _ in range(self.restarts - 1):
            other = self._climb(predictive, x, y, generator)
            other_wrong, other_value = self._score(predictive, other, y, score_seed)
            better = (other_wrong & ~wrong) | ((other_wrong == wrong) & (other_value > value))
            best = torch.where(better.reshape(-1, *(1,) * (x.ndim - 1)), other, best)
            wrong, value = torch.where(better, other_wrong, wrong), torch.where(better, other_value, value)
        return best

    def _climb(self, predictive: Predictive, x: Batch, y: Labels, generator: torch.Generator) -> Batch:
        z = self._start(predictive, x, generator)
        seed = next_seed(generator)
        for step in range(self.steps):
            num_draws = self._num_draws(predictive, step)
            gradient = predictive.input_gradient(z, y, self.objective, num_draws, seed, precision=self.precision)
            z = self._moved(predictive, z, gradient, x, step)
            seed = next_seed(generator) if self.draws == "fresh" else seed
        return z

    def _until_broken(self, predictive: Predictive, x: Batch, y: Labels, generator: torch.Generator) -> Batch:
        """`_climb`, restart after restart, for the points that are not broken yet.

        The forward pass of a gradient tells who seems broken; only those are looked at again, in full.
        """
        if predictive.likelihood.name != "categorical":
            raise InputError("stop_when_broken in regression.", "No prediction is wrong there.", "Leave it out.")
        result = x.clone()
        left = torch.arange(len(x), device=x.device)
        score_seed = next_seed(generator)
        for _ in range(self.restarts):
            z = self._start(predictive, x, generator)[left]
            seed = next_seed(generator)
            for step in range(self.steps + 1):
                if step == self.steps:  # where the last step led: a look, but no gradient
                    suspects = torch.arange(len(left), device=x.device)
                else:
                    num_draws = self._num_draws(predictive, step)
                    gradient, log_predictive = predictive.gradient_and_prediction(
                        z, y[left], self.objective, num_draws, seed, self.precision
                    )
                    wrong = log_predictive.argmax(-1) != y[left]
                    suspects = torch.nonzero(wrong & (step >= self.coarse_steps))[:, 0]
                    seed = next_seed(generator) if self.draws == "fresh" else seed
                result[left] = z
                stays = torch.ones_like(left, dtype=torch.bool)
                if len(suspects):
                    seen = predictive(z[suspects], self.num_draws, score_seed).argmax(-1)
                    stays[suspects] = seen == y[left[suspects]]
                left = left[stays]
                if len(left) == 0:
                    return result
                if step < self.steps:
                    z = self._moved(predictive, z[stays], gradient[stays], x[left], step)
        return result

    def _start(self, predictive: Predictive, x: Batch, generator: torch.Generator) -> Batch:
        return random_point(x, self.eps, self.norm, predictive.bounds, generator) if self.random_start else x

    def _moved(self, predictive: Predictive, z: Batch, gradient: Batch, x: Batch, step: int) -> Batch:
        moved = z + self._step(step) * steepest(gradient, self.norm)
        return project(moved, x, self.eps, self.norm, predictive.bounds)

    def _num_draws(self, predictive: Predictive, step: int) -> int | None:
        if step >= self.coarse_steps:
            return self.num_draws
        return min(self.coarse_draws, self.num_draws or predictive.num_draws)

    def _step(self, step: int) -> float:
        if self.step_size is not None:
            return self.step_size
        return 2.5 * self.eps / self.steps if self.norm == "l_inf" else self.eps * (1 - step / self.steps)

    def _score(self, predictive: Predictive, z: Batch, y: Labels, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether each point fools the posterior predictive (never, for regression), and its objective."""
        value = predictive.objective_value(z, y, self.objective, self.num_draws, seed)
        if predictive.likelihood.name != "categorical":
            return torch.zeros_like(value, dtype=torch.bool), value
        return predictive(z, self.num_draws, seed).argmax(-1) != y, value
