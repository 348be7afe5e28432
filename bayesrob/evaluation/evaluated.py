"""What an evaluation has computed, and the few further predictions and gradients that its checks ask for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from bayesrob import rng
from bayesrob.attacks import Attack
from bayesrob.evaluation import probes
from bayesrob.evaluation.attacked import Run, ball
from bayesrob.evaluation.scoring import Scorer
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.types import Batch, Labels, Outputs

__all__ = ["FORWARDS", "Evaluated", "Figure"]

POINTS, REPEATS = 30, 2
"""Points that are measured again, and gradients taken at each: a few percent of what attacks cost."""
FORWARDS = 2
"""Forward passes that are compared: the one that was scored, and another."""
SCORED = 1000
"""Points scored again at once: drawing networks anew can take longer than running them."""


class Figure(NamedTuple):
    """An accuracy that an evaluation reports: of one attack, or the worst case of all in a ball."""

    attack: str
    """The attack that it is of; of a worst case, the one that carries it."""
    members: tuple[str, ...]
    """The attacks whose points count in it."""
    right: np.ndarray
    """Whether each point is classified correctly, bool `[point]`."""
    survivors: np.ndarray | None
    """Points that are right before and after all its attacks by gradients; None: it has none."""
    worst: bool = False


@dataclasses.dataclass(eq=False)
class Evaluated:
    """One evaluation: its arguments, the runs of its attacks, and measurements that all of its figures share.

    Args:
        scorer: predicts on the draws that scored the attacks.
        x: the points.
        y: their labels.
        attacks: the attacks by name.
        runs: the run of each attack.
        groups: groups of the evaluation's tree: `points` and `gradients`, and `diagnostics` where there are chains.
        seed: the evaluation's seed.
        level: coverage of its intervals.
    """

    scorer: Scorer
    x: Batch
    y: Labels
    attacks: Mapping[str, Attack]
    runs: Mapping[str, Run]
    groups: Mapping[str, xr.Dataset]
    seed: int
    level: float
    _gradients: dict[tuple[str, int | None], np.ndarray] = dataclasses.field(default_factory=dict, init=False)

    @property
    def predictive(self) -> Predictive:
        """The predictive that was evaluated."""
        return self.scorer.predictive

    @property
    def scoring_draws(self) -> int:
        """Number of draws that predictions are scored on."""
        return self.scorer.num_draws or self.predictive.num_draws

    @property
    def points(self) -> xr.Dataset:
        """The group `points` of the evaluation's tree."""
        return self.groups["points"]

    # ---- accuracies -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def label(self) -> np.ndarray:
        """The labels, `[point]`."""
        return self.points["label"].values

    @functools.cached_property
    def clean(self) -> np.ndarray:
        """Whether each point is classified correctly before any attack, bool `[point]`."""
        return self.points["log_probability"].values.argmax(-1) == self.label

    @functools.cached_property
    def right(self) -> dict[str, np.ndarray]:
        """Whether each point is classified correctly after each attack, bool `[point]` by the attack's name."""
        after = self.points["adversarial_log_probability"].transpose("attack", "point", "class").values.argmax(-1)
        return dict(zip(self.attacks, after == self.label, strict=True))

    @functools.cached_property
    def balls(self) -> dict[str, tuple[str, float]]:
        """Norm and radius of the ball of each attack that has one."""
        return {name: where for name, attack in self.attacks.items() if (where := ball(attack)) is not None}

    def figure(self, name: str) -> Figure:
        """The accuracy that the evaluation reports for the attack `name`."""
        right = self.right[name]
        survivors = self.clean & right if self.attacks[name].sees == "gradients" else None
        return Figure(name, (name,), right, survivors)

    def worst(self, where: tuple[str, float], carrier: str, robust: np.ndarray) -> Figure:
        """The worst case of all attacks in a ball.

        Args:
            where: norm and radius of the ball.
            carrier: the attack by which it is judged.
            robust: which points no attack in the ball breaks, `[point]`.
        """
        inside = tuple(name for name in self.balls if self.balls[name] == where)
        by_gradients = [self.right[name] for name in inside if self.attacks[name].sees == "gradients"]
        survivors = np.logical_and.reduce([self.clean, *by_gradients]) if by_gradients else None
        return Figure(carrier, inside, robust, survivors, worst=True)

    def outside(self, name: str, where: tuple[str, float] | None) -> np.ndarray:
        """Whether each point of the attack `name` left the ball, up to rounding, or the bounds, bool `[point]`."""
        mine = self.points.sel(attack=name)
        out = ~mine["inside_bounds"].values
        if where is not None:
            out = out | ~(mine[f"perturbation_{where[0]}"].values <= where[1] * (1 + 1e-5) + 1e-6)
        return out

    def finite(self, name: str) -> np.ndarray:
        """Whether each point of the attack `name` is finite, bool `[point]`."""
        return np.isfinite(self.points["perturbation_l_2"].sel(attack=name).values)

    # ---- further predictions and gradients ------------------------------------------------------------------------------

    def seeds(self, *names: str) -> probes.Seeds:
        """The seed and names of one random stream of the checks."""
        return (self.seed, "evaluate", "checks", *names)

    def predict(self, inputs: Batch, name: str) -> Outputs:
        """Log predictive `[point, class]`, on the CPU, on draws of their own, which `name` fixes."""
        scorer = dataclasses.replace(self.scorer, seed=rng.derive(*self.seeds(name)), batch_size=SCORED)
        with rng.global_seed(*self.seeds(name)):
            return scorer(inputs).cpu()

    @functools.cached_property
    def change(self) -> float:
        """The largest difference of a probability between two forward passes."""
        first = self.points["log_probability"].values[:POINTS]
        return float(np.abs(self.predict(self.x[:POINTS], "forward").exp().numpy() - np.exp(first)).max())

    @functools.cached_property
    def puts_out_probabilities(self) -> list[bool]:
        """For each draw, whether its raw outputs are probabilities."""
        return probes.outputs_are_probabilities(self.predictive, self.x[:POINTS], self.seeds("raw"))

    @functools.cached_property
    def distinct_draws(self) -> int | None:
        """How many held draws differ from all others; None if draws are not held, or there is one."""
        post = self.predictive
        return probes.distinct_draws(post) if isinstance(post, HeldDraws) and post.num_draws > 1 else None

    @functools.cached_property
    def rescored(self) -> dict[str, np.ndarray]:
        """Whether each attacked point is classified correctly on other draws, bool `[set, point]` by the attack's name."""
        z = torch.cat([run.x for run in self.runs.values()]).to(self.x)
        right = self.predict(z, "score").argmax(-1).numpy().reshape(len(self.runs), 1, -1) == self.label
        return dict(zip(self.runs, right, strict=True))

    def gradients(self, objective: str, num_draws: int | None) -> np.ndarray:
        """Gradients of `objective` at the first points, taken several times, `[repeat, point, component]`; computed once."""
        if (objective, num_draws) not in self._gradients:
            x, y = self.x[:POINTS], self.y[:POINTS]
            repeats = [
                probes.gradient(self.predictive, x, y, objective, seeds=self.seeds(f"look {i}"), num_draws=num_draws)
                for i in range(REPEATS)
            ]
            self._gradients[objective, num_draws] = torch.stack(repeats).flatten(2).cpu().numpy()
        return self._gradients[objective, num_draws]

    def gradient_draws(self, name: str) -> int | None:
        """Number of draws that the gradients of the attack `name` average; None: the predictive's own number."""
        return next((one.num_draws for one in self.attacks[name].members() if one.sees == "gradients"), None)

    def zero(self, name: str) -> np.ndarray:
        """At which points the gradients of all objectives of an attack are zero, `[point]`: all points, or the first few."""
        objectives, known = list(self.attacks[name].climbed()), self.groups["gradients"]
        if set(objectives) <= set(known["objective"].values.tolist()):
            return (known["zero_fraction"].sel(objective=objectives) == 1).all("objective").values
        each = [(self.gradients(objective, self.gradient_draws(name)) == 0).all((0, 2)) for objective in objectives]
        return np.logical_and.reduce(each)

    def at_zero(self, zero: np.ndarray) -> str:
        """What the draws' own margins say where gradients are zero, in words."""
        rows = torch.as_tensor(np.flatnonzero(zero)[:POINTS])
        return probes.at_zero(self.predictive, self.x[rows], self.y[rows], self.seeds("zero"))
