"""What the cheap checks look at: what an evaluation has computed already, and a few looks at a few of its points."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import rng
from bayesrob.attacks import Attack, RandomSearch, Transfer
from bayesrob.evaluation import looks
from bayesrob.evaluation.attacked import Run, ball
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["FORWARDS", "Evidence", "Figure", "at_random", "by_gradients"]

POINTS, LOOKS = 30, 2
"""Points that are looked at again, and gradients taken at each: a few percent of what attacks cost."""
FORWARDS = 2
"""Forward passes that are compared: the one that was scored, and another."""


class Figure(NamedTuple):
    """An accuracy that an evaluation reports: of one attack, or the worst case of all in a ball."""

    attack: str
    """The attack that it is of; of a worst case, the one that carries it."""
    members: tuple[str, ...]
    """The attacks whose points count in it."""
    right: np.ndarray
    """`[point]`"""
    survivors: np.ndarray | None
    """Points that are right before and after all its attacks by gradients; None: it has none."""
    worst: bool = False


class Evidence:
    """What is known about one evaluation.

    Args:
        predictive, attacks, runs, seed: of the evaluation; x, y: its points. scoring: draws that score. level: of intervals.
        groups: of the evaluation's tree: `points` and `gradients`, and `diagnostics` where there are chains.
        predict: log predictive `[point, class]` of inputs on the scoring draws of a seed, on the CPU.
    """

    def __init__(
        self, predictive: Predictive, x: Batch, y: Labels, attacks: Mapping[str, Attack], runs: Mapping[str, Run],
        groups: Mapping[str, xr.Dataset], predict: Callable[[Batch, int], Tensor], scoring: int, seed: int,
        level: float,
    ):  # fmt: skip
        self.predictive, self.x, self.y, self.attacks, self.runs = predictive, x, y, dict(attacks), runs
        self.groups, self.predict, self.scoring, self.seed = groups, predict, scoring, seed
        self.level = level
        self.points = groups["points"]
        self.label = self.points["label"].values
        self.clean = self.points["log_probability"].values.argmax(-1) == self.label
        after = self.points["adversarial_log_probability"].transpose("attack", "point", "class").values.argmax(-1)
        self.right: dict[str, np.ndarray] = dict(zip(self.attacks, after == self.label, strict=True))
        self.balls = {name: where for name, attack in self.attacks.items() if (where := ball(attack)) is not None}
        self._gradients: dict[tuple[str, int | None], np.ndarray] = {}

    # ---- figures --------------------------------------------------------------------------------------------------------

    def figure(self, name: str) -> Figure:
        """Of one attack."""
        right = self.right[name]
        gradients = self.attacks[name].sees == "gradients"
        return Figure(name, (name,), right, self.clean & right if gradients else None)

    def worst(self, where: tuple[str, float], carrier: str, robust: np.ndarray) -> Figure:
        """The worst case in a ball."""
        inside = tuple(name for name in self.balls if self.balls[name] == where)
        by_gradients = [self.right[name] for name in inside if self.attacks[name].sees == "gradients"]
        survivors = np.logical_and.reduce([self.clean, *by_gradients]) if by_gradients else None
        return Figure(carrier, inside, robust, survivors, worst=True)

    def others(self, figure: Figure, chosen: Callable[[Attack], bool]) -> dict[str, np.ndarray]:
        """By attack, the points right after others in the figure's ball (of a worst case: after each of its own, too).

        What ended outside of the ball breaks nothing.
        """
        where, found = self.balls.get(figure.attack), {}
        for name, attack in self.attacks.items() if where is not None else ():
            other = figure.worst or name != figure.attack
            if other and chosen(attack) and (attack.minimal or self.balls.get(name) == where):
                found[name] = self.right[name] | self.outside(name, where)
        return found

    def outside(self, name: str, where: tuple[str, float] | None) -> np.ndarray:
        """Which of an attack's points are not in the ball, up to rounding, or not in the bounds, `[point]`."""
        mine = self.points.sel(attack=name)
        out = ~mine["inside_bounds"].values
        if where is not None:
            out = out | ~(mine[f"perturbation_{where[0]}"].values <= where[1] * (1 + 1e-5) + 1e-6)
        return out

    def finite(self, name: str) -> np.ndarray:
        """At which of an attack's points everything is a number, `[point]`."""
        return np.isfinite(self.points["perturbation_l_2"].sel(attack=name).values)

    def curve(self, name: str) -> dict[float, float]:
        """Accuracy by radius, of attacks in the same norm with the same settings; at radius 0 without attack."""
        mine, norm = _but_radius(self.attacks[name]), self.balls[name][0]
        same = [
            other for other, where in self.balls.items() if where[0] == norm and _but_radius(self.attacks[other]) == mine
        ]
        found = {self.balls[other][1]: float(self.right[other].mean()) for other in same}
        return {0.0: float(self.clean.mean()), **found}

    # ---- looks ----------------------------------------------------------------------------------------------------------

    def seeds(self, *names: str) -> tuple[int, *tuple[str, ...]]:
        return (self.seed, "evaluate", "checks", *names)

    @functools.cached_property
    def change(self) -> float:
        """By how much probabilities differ from one forward pass to the next."""
        with rng.global_seed(*self.seeds("forward")):
            again = self.predict(self.x[:POINTS], rng.derive(*self.seeds("forward")))
        return float(np.abs(again.exp().numpy() - np.exp(self.points["log_probability"].values[:POINTS])).max())

    @functools.cached_property
    def suspicious(self) -> list[bool]:
        return looks.suspicious(self.predictive, self.x[:POINTS], self.seeds("raw"))

    @functools.cached_property
    def distinct(self) -> int:
        return looks.distinct(self.predictive)  # pyright: ignore[reportArgumentType]

    def gradients(self, objective: str, num_draws: int | None) -> np.ndarray:
        """`[look, point, component]`"""
        if (objective, num_draws) not in self._gradients:
            at = self.x[:POINTS], self.y[:POINTS]
            found = [
                looks.gradient(self.predictive, *at, objective, self.seeds(f"look {i}"), num_draws).flatten(1)
                for i in range(LOOKS)
            ]
            self._gradients[objective, num_draws] = torch.stack(found).cpu().numpy()
        return self._gradients[objective, num_draws]

    def zero(self, name: str) -> np.ndarray:
        """At which points the gradients of all objectives of an attack are zero: at all points, or the first few."""
        objectives, known = looks.objectives_of(self.attacks[name]), self.groups["gradients"]
        if set(objectives) <= set(known["objective"].values.tolist()):
            return (known["zero_fraction"].sel(objective=objectives) == 1).all("objective").values
        each = [(self.gradients(objective, self.num_draws(name)) == 0).all((0, 2)) for objective in objectives]
        return np.logical_and.reduce(each)

    def num_draws(self, name: str) -> int | None:
        """Draws of the attack's gradients."""
        return next((one.num_draws for one in looks.members(self.attacks[name]) if one.sees == "gradients"), None)

    def at_zero(self, zero: np.ndarray) -> str:
        rows = torch.as_tensor(np.flatnonzero(zero)[:POINTS])
        return looks.at_zero(self.predictive, self.x[rows], self.y[rows], self.seeds("zero"))

    @functools.cached_property
    def rescored(self) -> dict[str, np.ndarray]:
        """By attack, who is right on another set of draws, `[set, point]`."""
        z = torch.cat([run.x for run in self.runs.values()]).to(self.x)
        with rng.global_seed(*self.seeds("score")):
            guesses = self.predict(z, rng.derive(*self.seeds("score"))).argmax(-1).numpy()
        right = guesses.reshape(len(self.runs), 1, -1) == self.label
        return dict(zip(self.runs, right, strict=True))


def by_gradients(attack: Attack) -> bool:
    return attack.sees == "gradients"


def at_random(attack: Attack) -> bool:
    """Whether it tries points of the ball without asking where to go."""
    return isinstance(attack, RandomSearch) or (attack.sees == "nothing" and not isinstance(attack, Transfer))


def _but_radius(attack: Attack) -> str:
    """Settings, a fixed step in proportion to the radius."""
    settings = attack.settings()
    eps, step = settings.pop("eps", None), settings.pop("step_size", None)
    if step is not None and eps:
        settings["step_size"] = f"{step / eps:.6g} eps"
    return json.dumps(settings, sort_keys=True, default=str)
