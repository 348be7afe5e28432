"""What the checks of one audit share: the predictive, its points, and attacks run once each."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis.checks import SAME
from bayesrob.attacks import PGD, Attack
from bayesrob.attacks.geometry import norms
from bayesrob.auditing.kept import Kept, fingerprint
from bayesrob.auditing.levels import Level, changed, criterion, held, well_configured
from bayesrob.evaluation.attacked import attack_points, ball
from bayesrob.evaluation.looks import draws_seen, members
from bayesrob.numerics import slices
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["FORWARDS", "OBJECTIVES", "Bench", "Found"]

BATCH = 250
"""Points attacked at once, as `evaluate` has it."""
FORWARDS = 5
"""Forward passes that are compared."""
OBJECTIVES = ("expected_loss", "predictive_loss", "margin", "dlr", "margin_per_draw")
"""The averages over draws in use, each of which is climbed. `margin_per_draw` finds most where draws are sure."""


class Found(NamedTuple):
    """One attack on the audited points, or on some of them."""

    x: Batch
    right: Tensor
    """`[point]`: whether the prediction is still the label, on the scoring draws."""

    @property
    def accuracy(self) -> float:
        return float(self.right.double().mean())


class Bench:
    """Where the checks look. Every run is made once, whatever the number of checks that ask for it.

    Args:
        post, x, y, eps, norm, seed: what is audited. level: what it may cost. kept: runs of an earlier audit.
        attack: the one whose figure is audited; None: `well_configured`.
    """

    def __init__(
        self, post: Predictive, x: Batch, y: Labels, eps: float, norm: str, seed: int, level: Level, kept: Kept,
        attack: Attack | None = None,
    ):  # fmt: skip
        self.post, self.x, self.y, self.eps, self.norm = post, x, y, float(eps), norm
        self.seed, self.level, self.kept = seed, level, kept
        self.change = self._change()
        self.random = self.change > SAME
        """Whether predictions differ from look to look."""
        self.attack = well_configured(self.eps, norm, level.steps, self.random, level.fresh) if attack is None else attack
        self.seconds: dict[str, float] = {}
        self.found: dict[str, Found] = {}

    # ---- predictions ----------------------------------------------------------------------------------------------------

    def log_predictive(self, z: Batch, post: Predictive | None = None, draws: str = "score") -> Tensor:
        """`[point, class]` on the draws of that name: the same whenever it is asked for."""
        post, seed = self.post if post is None else post, rng.derive(self.seed, "audit", draws)
        with torch.no_grad(), rng.global_seed(self.seed, "audit", draws):
            return torch.cat([post(z[part], None, seed) for part in slices(len(z), BATCH)])

    def right(self, z: Batch, rows: Tensor | None = None, post: Predictive | None = None, draws: str = "score") -> Tensor:
        """Whether each prediction is the label, `[point]`; NaN is neither class, and counts as wrong."""
        y = self.y if rows is None else self.y[rows]
        log_p = self.log_predictive(z, post, draws)
        return (log_p.argmax(-1) == y) & log_p.isfinite().any(-1) & ~log_p.isnan().any(-1)

    @functools.cached_property
    def clean(self) -> Tensor:
        """Whether each point is right before any attack."""
        return self.right(self.x)

    @property
    def chance(self) -> float:
        assert self.post.out_features is not None
        return 1 / self.post.out_features

    def _change(self) -> float:
        predictions = [self.log_predictive(self.x, draws=f"forward {i}").exp() for i in range(FORWARDS)]
        return max(float((other - predictions[0]).abs().max()) for other in predictions[1:])

    # ---- attacks --------------------------------------------------------------------------------------------------------

    def run(self, name: str, attack: Attack, rows: Tensor | None = None, post: Predictive | None = None) -> Found:
        """`attack` on all points (or `rows`), scored on draws that it has not seen where draws are fresh.

        Points that it moved out of its ball (or the audited one, if it has none) are not broken by that.

        Args:
            name: of the run; the same name means the same run. post: another predictive, attacked and scored.
        """
        if name not in self.found:
            victim = self.post if post is None else post
            x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
            surrogate = getattr(attack, "surrogate", None)
            depends: list[Any] = [attack.settings(), None if rows is None else rows.tolist()]
            depends += [fingerprint(other, self.x) for other in (post, surrogate) if isinstance(other, Predictive)]

            def compute() -> dict[str, Tensor]:
                seeds = (self.seed, "audit", name)
                own, draws = self._holding(attack, victim, name)
                # Random layers of a user's own draw from the global generator.
                with rng.global_seed(self.seed, "audit", "run", name):
                    run = attack_points(own, draws, x, y, list(slices(len(x), BATCH)), seeds, lambda: None)
                z = run.x.to(x)
                norm, eps = ball(attack) or (self.norm, self.eps)
                outside = ~_inside(x, z, norm, eps)
                right = self.right(z, rows, post) | (outside & self.right(x, rows, post))
                return {"x": z, "right": right, "seconds": torch.tensor(run.seconds)}

            got = self.kept.get(name, depends, compute) if len(x) else {"x": x, "right": x.new_zeros(0, dtype=torch.bool)}
            self.seconds[name] = float(got.get("seconds", 0.0))
            self.found[name] = Found(got["x"].to(x), got["right"].to(y.device))
        return self.found[name]

    def _holding(self, attack: Attack, victim: Predictive, name: str) -> tuple[Attack, Predictive]:
        """An attack on one set of draws, and that set: drawn once, where it would else be drawn again at every look."""
        number = draws_seen(attack, victim)
        if not self.random or number == 0 or any(one.draws != "held" for one in (attack, *members(attack))):
            return attack, victim
        return changed(attack, num_draws=None), victim.freeze(number, rng.derive(self.seed, "audit", "held", name))

    @property
    def audited(self) -> Found:
        """The attack whose figure is audited."""
        return self.run("audited", self.attack)

    def pgd(self, objective: str, **settings: Any) -> PGD:
        """Projected gradient descent as it should be, on one objective."""
        common: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "steps": self.level.steps, "stop_when_broken": True}
        common |= {"criterion": criterion(self.random), "draws": held(self.level.fresh)}
        return PGD(objective=objective, **{**common, **settings})

    def by_objective(self) -> dict[str, Found]:
        """PGD on every objective."""
        return {name: self.run(f"objective {name}", self.pgd(name)) for name in OBJECTIVES}

    @functools.cached_property
    def survivors(self) -> Tensor:
        """Points that are right before any attack and after every attack by gradients, `[point]`."""
        left = self.clean & self.audited.right
        for found in self.by_objective().values():
            left = left & found.right
        return left

    def sample_of_survivors(self) -> Tensor:
        """Indices of survivors, at most as many as the level allows: a seeded subset."""
        rows = torch.nonzero(self.survivors)[:, 0]
        order = torch.randperm(len(rows), generator=rng.generator(self.seed, "audit", "survivors"))
        return rows[order[: self.level.images].sort().values.to(rows.device)]

    def inside(self, z: Batch) -> Tensor:
        """Whether each perturbation is in the ball, up to rounding."""
        return _inside(self.x, z, self.norm, self.eps)


def _inside(x: Batch, z: Batch, norm: str, eps: float) -> Tensor:
    return norms(z - x, norm) <= eps * (1 + 1e-5) + 1e-6
