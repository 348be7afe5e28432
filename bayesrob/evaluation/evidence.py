"""Evidence for checks out of what an evaluation has computed; it runs no attack."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from bayesrob.analysis import (
    Change,
    Compared,
    Evidence,
    NotAvailable,
    RadiusCurve,
    Rescored,
    Steps,
    Tried,
    binomial_interval,
)
from bayesrob.analysis.checks import GREY
from bayesrob.attacks import Attack, RandomSearch, Transfer
from bayesrob.evaluation.evaluated import FORWARDS, Evaluated, Figure

__all__ = ["FigureEvidence"]

ALONE = "Nothing to compare with was run in this ball."


class FigureEvidence(Evidence):
    """Evidence about one accuracy of an evaluation.

    Args:
        evaluated: the evaluation.
        figure: the accuracy.
    """

    def __init__(self, evaluated: Evaluated, figure: Figure):
        self.evaluated, self.figure = evaluated, figure

    @property
    def attack(self) -> Attack:
        """The attack by which the figure is judged."""
        return self.evaluated.attacks[self.figure.attack]

    @property
    def where(self) -> tuple[str, float] | None:
        """Norm and radius of that attack's ball; None if it has none."""
        return self.evaluated.balls.get(self.figure.attack)

    # ---- the accuracy ---------------------------------------------------------------------------------------------------

    @property
    def clean(self) -> np.ndarray:
        return self.evaluated.clean

    @property
    def right(self) -> np.ndarray:
        return self.figure.right

    def outside(self) -> np.ndarray:
        out = [self.evaluated.outside(name, self.evaluated.balls.get(name)) for name in self.figure.members]
        return np.logical_or.reduce(out)

    def finite(self) -> np.ndarray:
        return np.logical_and.reduce([self.evaluated.finite(name) for name in self.figure.members])

    # ---- the attack -----------------------------------------------------------------------------------------------------

    @property
    def sees(self) -> Literal["gradients", "probabilities", "classes", "nothing"]:
        return self.attack.sees

    def climbed(self) -> Sequence[str]:
        return self.attack.climbed()

    def draws_per_step(self) -> int:
        if self.sees == "nothing":
            raise NotAvailable("Predictions are random, and the attack never uses them.")
        return self.attack.draws_per_step(self.evaluated.predictive)

    def takes_new_draws(self) -> bool:
        return self.attack.takes_new_draws()

    def steps(self) -> Steps | None:
        return Steps(self.attack.step_sizes(), self.where[1]) if self.where is not None and self.attack.iterated() else None

    # ---- the posterior predictive ---------------------------------------------------------------------------------------

    @property
    def num_draws(self) -> int:
        return self.evaluated.predictive.num_draws

    @property
    def scoring_draws(self) -> int:
        return self.evaluated.scoring_draws

    @property
    def info(self) -> Mapping:
        return self.evaluated.predictive.info

    @property
    def origin(self) -> str:
        return self.evaluated.predictive.origin

    @property
    def num_chains(self) -> int:
        return getattr(self.evaluated.predictive, "num_chains", 1)

    def log_probabilities(self) -> np.ndarray:
        return self.evaluated.points["log_probability"].values

    def puts_out_probabilities(self) -> Sequence[bool]:
        return self.evaluated.puts_out_probabilities

    def change(self) -> Change:
        return Change(self.evaluated.change, FORWARDS)

    def distinct_draws(self) -> int | None:
        return self.evaluated.distinct_draws

    def diagnostics(self) -> xr.Dataset | None:
        return self.evaluated.groups.get("diagnostics")

    # ---- gradients ------------------------------------------------------------------------------------------------------

    def zero_gradients(self) -> np.ndarray:
        return self.evaluated.zero(self.figure.attack)

    def about_zero(self, zero: np.ndarray) -> str:
        return self.evaluated.at_zero(zero)

    def repeated_gradients(self) -> np.ndarray:
        return self.evaluated.gradients(self.climbed()[0], self.evaluated.gradient_draws(self.figure.attack))

    def within_error(self) -> np.ndarray:
        known = self.evaluated.groups["gradients"].sel(objective="expected_loss")
        if not known["standard_error"].notnull().all():
            return super().within_error()
        return (known["norm"] < 2 * known["standard_error"]).values

    # ---- other attacks --------------------------------------------------------------------------------------------------

    def other_objectives(self) -> Compared:
        return self._compared(lambda attack: attack.sees == "gradients" and attack.iterated())

    def single_steps(self) -> Compared:
        if not self.attack.iterated():
            raise NotAvailable("The attack takes one step itself.")
        return self._compared(_takes_one_step)

    def transfers(self) -> Compared:
        return self._compared(lambda attack: isinstance(attack, Transfer))

    def without_gradients(self) -> Tried:
        return self._tried(lambda attack: attack.sees in ("probabilities", "classes") and not _at_random(attack))

    def random_points(self) -> Tried:
        return self._tried(_at_random)

    def by_radius(self) -> RadiusCurve | None:
        if self.attack.minimal:  # no radius stops it: what it leaves it failed at, and is not robust
            return RadiusCurve({0.0: float(self.clean.mean()), math.inf: self.accuracy}, None, math.inf)
        if self.where is None:
            return None
        if self.sees == "nothing":
            raise NotAvailable("The attack never uses the model.")
        accuracy, bounds, norm = self._same_settings(), self.evaluated.predictive.bounds, self.where[0]
        width = math.inf if bounds is None else bounds[1] - bounds[0]
        reach = {"l_inf": 1.0, "l_2": math.sqrt(self.evaluated.x[0].numel())}.get(norm, math.inf) * width
        grey = [eps for eps in accuracy if eps >= GREY and norm == "l_inf" and bounds == (0, 1)]
        unbounded = [eps for eps in accuracy if eps >= reach]
        return RadiusCurve(accuracy, min(grey, default=None), max(unbounded, default=None))

    def by_draws(self) -> Mapping[int, float]:
        return {self.draws_per_step(): self.accuracy}

    def rescored(self) -> Rescored:
        right = self.evaluated.right[self.figure.attack]
        interval = binomial_interval(int(right.sum()), len(right), self.evaluated.level)
        return Rescored(right, self.evaluated.rescored[self.figure.attack], interval)

    def _same_settings(self) -> dict[float, float]:
        """Accuracy by radius, of attacks in the same norm with the same settings; at radius 0 without attack."""
        assert self.where is not None
        accuracy, mine = {0.0: float(self.clean.mean())}, _but_radius(self.attack)
        for name, (norm, eps) in self.evaluated.balls.items():
            if norm == self.where[0] and _but_radius(self.evaluated.attacks[name]) == mine:
                accuracy[eps] = float(self.evaluated.right[name].mean())
        return accuracy

    def _others(self, chosen: Callable[[Attack], bool]) -> dict[str, np.ndarray]:
        """Points right after each of the `chosen` attacks in the figure's ball; after a worst case's own attacks, too.

        A perturbation that ends outside the ball breaks nothing.

        Raises:
            NotAvailable: there is no such attack.
        """
        right: dict[str, np.ndarray] = {}
        for name, attack in self.evaluated.attacks.items() if self.where is not None else ():
            other = self.figure.worst or name != self.figure.attack
            if other and chosen(attack) and (attack.minimal or self.evaluated.balls.get(name) == self.where):
                right[name] = self.evaluated.right[name] | self.evaluated.outside(name, self.where)
        if not right:
            raise NotAvailable(ALONE)
        return right

    def _compared(self, chosen: Callable[[Attack], bool]) -> Compared:
        """Accuracies beside that of an attack that uses the model: the others claim nothing."""
        if self.sees == "nothing":
            raise NotAvailable(ALONE)
        accuracy = {name: float(right.mean()) for name, right in self._others(chosen).items()}
        if not accuracy.keys() - {self.figure.attack}:  # a worst case's own carrier says nothing about it
            raise NotAvailable(ALONE)
        return Compared(accuracy, "others in this ball leave")

    def _tried(self, chosen: Callable[[Attack], bool]) -> Tried:
        if self.figure.survivors is None:
            raise NotAvailable(ALONE)
        rows = np.flatnonzero(self.figure.survivors)
        if not len(rows):
            return Tried({}, 0, "nothing to try")
        broken = {name: ~right[rows] for name, right in self._others(chosen).items()}
        return Tried(broken, len(rows), "what this evaluation gave them")


def _takes_one_step(attack: Attack) -> bool:
    """Whether the attack is one step along a gradient in a ball."""
    return attack.sees == "gradients" and not attack.iterated() and not attack.minimal


def _at_random(attack: Attack) -> bool:
    """Whether the attack tries points of the ball without asking where to go."""
    return isinstance(attack, RandomSearch) or (attack.sees == "nothing" and not isinstance(attack, Transfer))


def _but_radius(attack: Attack) -> str:
    """The settings of an attack except the radius, with a fixed step in proportion to the radius."""
    settings = attack.settings()
    eps, step = settings.pop("eps", None), settings.pop("step_size", None)
    if step is not None and eps:
        settings["step_size"] = f"{step / eps:.6g} eps"
    return json.dumps(settings, sort_keys=True, default=str)
