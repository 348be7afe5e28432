"""The attacks that an audit runs, each of them once, and the predictions that score them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis.checks import SAME
from bayesrob.attacks import PGD, Attack, norms
from bayesrob.auditing.levels import Level, criterion, held, well_configured
from bayesrob.auditing.run_files import RunFiles, fingerprint
from bayesrob.evaluation import Scorer, attack_points, ball
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels, Outputs

__all__ = ["FORWARDS", "OBJECTIVES", "AttackRun", "Runs"]

BATCH = 250
"""Points attacked and scored at once."""
FORWARDS = 5
"""Forward passes that are compared."""
OBJECTIVES = ("expected_loss", "predictive_loss", "margin", "dlr", "margin_per_draw")
"""The averages over draws in use, each of which is climbed. `margin_per_draw` breaks most where draws are sure."""


class AttackRun(NamedTuple):
    """One attack on the audited points, or on some of them."""

    x: Batch
    """Adversarial inputs, `[point, *shape]`."""
    right: Tensor
    """Whether the prediction is still the label, on the scoring draws, `[point]`."""

    @property
    def accuracy(self) -> float:
        """The accuracy that the attack leaves of the points that it was run on."""
        return float(self.right.double().mean())


@dataclasses.dataclass(eq=False)
class Runs:
    """The runs of one audit. Each is made once, whatever the number of checks that ask for it.

    Args:
        post: the predictive that is audited.
        x: the points.
        y: their labels.
        eps: radius of the ball.
        norm: its norm.
        seed: fixes every random choice.
        level: what runs may cost.
        files: runs of an earlier audit.
        given: the attack whose accuracy is audited; None: `well_configured`.
    """

    post: Predictive
    x: Batch
    y: Labels
    _: dataclasses.KW_ONLY
    eps: float
    norm: str
    seed: int
    level: Level
    files: RunFiles
    given: Attack | None = None
    made: dict[str, AttackRun] = dataclasses.field(default_factory=dict, init=False)
    """The runs so far, by name."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict, init=False)
    """How long each of them took."""

    # ---- predictions ----------------------------------------------------------------------------------------------------

    def log_predictive(self, z: Batch, post: Predictive | None = None, draws: str = "score") -> Outputs:
        """Log predictive `[point, class]` on the set of draws named `draws`: the same whenever it is asked for."""
        scorer = Scorer(self.post if post is None else post, None, rng.derive(self.seed, "audit", draws), BATCH)
        with rng.global_seed(self.seed, "audit", draws):
            return scorer(z)

    def right(self, z: Batch, rows: Tensor | None = None, post: Predictive | None = None, draws: str = "score") -> Tensor:
        """Whether each prediction is the label, `[point]`; NaN is no class, and counts as wrong."""
        y = self.y if rows is None else self.y[rows]
        log_p = self.log_predictive(z, post, draws)
        return (log_p.argmax(-1) == y) & log_p.isfinite().any(-1) & ~log_p.isnan().any(-1)

    @functools.cached_property
    def clean(self) -> Tensor:
        """Whether each point is right before any attack, `[point]`."""
        return self.right(self.x)

    @functools.cached_property
    def change(self) -> float:
        """The largest difference of a probability between forward passes."""
        predictions = [self.log_predictive(self.x, draws=f"forward {i}").exp() for i in range(FORWARDS)]
        return max(float((other - predictions[0]).abs().max()) for other in predictions[1:])

    @property
    def random(self) -> bool:
        """Whether predictions differ between forward passes."""
        return self.change > SAME

    # ---- attacks --------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def attack(self) -> Attack:
        """The attack whose accuracy is audited."""
        if self.given is not None:
            return self.given
        return well_configured(self.eps, self.norm, self.level.steps, self.random, self.level.fresh)

    @property
    def audited(self) -> AttackRun:
        """The run whose accuracy is audited."""
        return self.run("audited", self.attack)

    def run(self, name: str, attack: Attack, rows: Tensor | None = None, post: Predictive | None = None) -> AttackRun:
        """Run `attack` once, and score it on draws that it has not seen where draws are fresh.

        Points that it moved out of its ball (or the audited one, if it has none) are not broken by that.

        Args:
            name: the same name means the same run.
            attack: the attack.
            rows: indices of the points that it is run on; None: all.
            post: another predictive that is attacked and scored.
        """
        if name not in self.made:
            x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
            surrogate = getattr(attack, "surrogate", None)
            depends: list[Any] = [attack.settings(), None if rows is None else rows.tolist()]
            depends += [fingerprint(other, self.x) for other in (post, surrogate) if isinstance(other, Predictive)]
            stored = {"x": x, "right": x.new_zeros(0, dtype=torch.bool)}
            if len(x):
                stored = self.files.get(name, depends, lambda: self._attacked(name, attack, rows, post))
            self.seconds[name] = float(stored.get("seconds", 0.0))
            self.made[name] = AttackRun(stored["x"].to(x), stored["right"].to(y.device))
        return self.made[name]

    def _attacked(self, name: str, attack: Attack, rows: Tensor | None, post: Predictive | None) -> dict[str, Tensor]:
        x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        own, victim = self._holding(attack, self.post if post is None else post, name)
        # Random layers of a user's own draw from the global generator.
        with rng.global_seed(self.seed, "audit", "run", name):
            run = attack_points(own, victim, x, y, batch_size=BATCH, seeds=(self.seed, "audit", name))
        z = run.x.to(x)
        norm, eps = ball(attack) or (self.norm, self.eps)
        outside = ~_inside(x, z, norm, eps)
        right = self.right(z, rows, post) | (outside & self.right(x, rows, post))
        return {"x": z, "right": right, "seconds": torch.tensor(run.seconds)}

    def _holding(self, attack: Attack, victim: Predictive, name: str) -> tuple[Attack, Predictive]:
        """An attack on one set of draws, and that set, drawn once where it would else be drawn again at every step."""
        number = attack.draws_per_step(victim)
        if not self.random or number == 0 or any(one.draws != "held" for one in (attack, *attack.members())):
            return attack, victim
        return attack.changed(num_draws=None), victim.freeze(number, rng.derive(self.seed, "audit", "held", name))

    def pgd(self, objective: str, **settings: Any) -> PGD:
        """Projected gradient descent as it should be, on one objective."""
        common: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "steps": self.level.steps, "stop_when_broken": True}
        common |= {"criterion": criterion(self.random), "draws": held(self.level.fresh)}
        return PGD(objective=objective, **{**common, **settings})

    def by_objective(self) -> dict[str, AttackRun]:
        """PGD on every objective."""
        return {name: self.run(f"objective {name}", self.pgd(name)) for name in OBJECTIVES}

    # ---- what survives --------------------------------------------------------------------------------------------------

    @functools.cached_property
    def survivors(self) -> Tensor:
        """Points that are right before any attack and after every attack by gradients, `[point]`."""
        left = self.clean & self.audited.right
        for run in self.by_objective().values():
            left = left & run.right
        return left

    def sample_of_survivors(self) -> Tensor:
        """Indices of survivors, at most as many as the level allows: a seeded subset."""
        rows = torch.nonzero(self.survivors)[:, 0]
        order = torch.randperm(len(rows), generator=rng.generator(self.seed, "audit", "survivors"))
        return rows[order[: self.level.images].sort().values.to(rows.device)]

    def strongest(self) -> Tensor:
        """Points that no run so far in the audited ball breaks, `[point]`; those that a run left out count as right."""
        left = self.clean & self.audited.right
        for name, run in self.made.items():
            if name.startswith(("objective", "single")) or name == "doubled":
                left = left & run.right
            if name in ("Square", "RandomSearch"):
                right = torch.ones_like(self.clean)
                right[self.sample_of_survivors()] = run.right
                left = left & right
        return left

    def inside(self, z: Batch) -> Tensor:
        """Whether each perturbation is in the ball, up to rounding, `[point]`."""
        return _inside(self.x, z, self.norm, self.eps)


def _inside(x: Batch, z: Batch, norm: str, eps: float) -> Tensor:
    return norms(z - x, norm) <= eps * (1 + 1e-5) + 1e-6
