"""Evidence for the checks of an audit, which runs what it lacks."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis import Change, Compared, Doubled, Evidence, NotAvailable, OneDraw, RadiusCurve, Rescored, Steps, Tried
from bayesrob.analysis.checks import GREY
from bayesrob.attacks import FGSM, Attack, Boundary, LocalSearch, RandomSearch, Square, norms, project
from bayesrob.auditing.levels import REFERENCE
from bayesrob.auditing.runs import FORWARDS, AttackRun, Runs
from bayesrob.auditing.surrogate import surrogate_attack
from bayesrob.errors import SuspiciousOutputs
from bayesrob.evaluation import chain_groups, distinct_draws, probes
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws

__all__ = ["Bench"]

BATCH = 50
"""Points whose gradients get standard errors at once."""
RESCORED = 5
"""Sets of fresh draws on which successes are scored again."""
FAR = 10.0
"""Without bounds, this multiple of the points' largest absolute component is taken for unbounded."""
ASKED = 128
"""Largest number of queries of LocalSearch in a round."""


class Bench(Evidence):
    """Evidence about the accuracy under the audited attack.

    Args:
        runs: the predictive, its points, and the runs so far.
    """

    def __init__(self, runs: Runs):
        self.runs, self.post, self.attack = runs, runs.post, runs.attack

    def _seeds(self, name: str) -> probes.Seeds:
        return (self.runs.seed, "audit", name)

    # ---- the accuracy ---------------------------------------------------------------------------------------------------

    @property
    def clean(self) -> np.ndarray:
        return self.runs.clean.cpu().numpy()

    @property
    def right(self) -> np.ndarray:
        return self.runs.audited.right.cpu().numpy()

    def outside(self) -> np.ndarray:
        z, bounds = self.runs.audited.x, self.post.bounds
        outside = torch.zeros(len(z), dtype=torch.bool) if self.attack.minimal else ~self.runs.inside(z).cpu()
        if bounds is not None:
            low, high = z.new_tensor(bounds).tolist()
            outside = outside | ((z < low) | (z > high)).flatten(1).any(1).cpu()
        return outside.numpy()

    def finite(self) -> np.ndarray:
        z = self.runs.audited.x
        return (z.isfinite().flatten(1).all(1) & ~self.runs.log_predictive(z).isnan().any(-1)).cpu().numpy()

    # ---- the attack -----------------------------------------------------------------------------------------------------

    @property
    def sees(self) -> Literal["gradients", "probabilities", "classes", "nothing"]:
        return self.attack.sees

    def climbed(self) -> Sequence[str]:
        return self.attack.climbed()

    def draws_per_step(self) -> int:
        return self.attack.draws_per_step(self.post)

    def takes_new_draws(self) -> bool:
        return self.attack.takes_new_draws()

    def steps(self) -> Steps | None:
        return None if self.attack.harder() is None else Steps(self.attack.step_sizes(), self.runs.eps)

    # ---- the posterior predictive ---------------------------------------------------------------------------------------

    @property
    def num_draws(self) -> int:
        return self.post.num_draws

    @property
    def scoring_draws(self) -> int:
        return self.post.num_draws

    @property
    def info(self) -> Mapping:
        return self.post.info

    @property
    def origin(self) -> str:
        return self.post.origin

    @property
    def num_chains(self) -> int:
        return getattr(self.post, "num_chains", 1)

    def log_probabilities(self) -> np.ndarray:
        return self._log_probabilities

    @functools.cached_property
    def _log_probabilities(self) -> np.ndarray:
        return self.runs.log_predictive(self.runs.x).cpu().numpy()

    def puts_out_probabilities(self) -> Sequence[bool]:
        suspicious = probes.outputs_are_probabilities(self.post, self.runs.x, self._seeds("raw"))
        if any(suspicious):
            text = f"The outputs of {sum(suspicious)} of {len(suspicious)} draws are probabilities, where logits belong. "
            text += "Softmax is applied twice, and gradients die; remove the network's own."
            warnings.warn(text, SuspiciousOutputs, stacklevel=2)
        return suspicious

    def change(self) -> Change:
        return Change(self.runs.change, FORWARDS)

    def distinct_draws(self) -> int | None:
        return distinct_draws(self.post) if isinstance(self.post, HeldDraws) and self.post.num_draws > 1 else None

    def diagnostics(self) -> xr.Dataset | None:
        x, y = self.runs.x, self.runs.y
        return chain_groups(self.post, x, y, torch.arange(len(x)), self.runs.seed).get("diagnostics")

    # ---- gradients ------------------------------------------------------------------------------------------------------

    def zero_gradients(self) -> np.ndarray:
        x, y = self.runs.x, self.runs.y
        return probes.vanished(self.post, x, y, self.climbed(), self._seeds("gradient")).cpu().numpy()

    def about_zero(self, zero: np.ndarray) -> str:
        rows = torch.as_tensor(np.flatnonzero(zero), device=self.runs.y.device)
        x, y = self.runs.x[rows], self.runs.y[rows]
        return f" ({self._in_double(x, y)}){probes.at_zero(self.post, x, y, self._seeds('gradient'))}"

    def _in_double(self, x: Tensor, y: Tensor) -> str:
        """What float64 says about points without a gradient, in words."""
        if x.dtype == torch.float64:
            return "in float64"
        try:
            zero = probes.vanished(self.post[:].double(), x.double(), y, self.climbed(), self._seeds("gradient"))
        except RuntimeError as error:  # a network of the user's own that knows one precision only
            return f"float64 could not be tried: {error}"
        return f"in float64 at {int(zero.sum())} of them"

    def repeated_gradients(self) -> np.ndarray:
        x, y, objective = self.runs.x, self.runs.y, self.climbed()[0]
        draws = next(one.num_draws for one in self.attack.members() if one.sees == "gradients")
        repeats = [
            probes.gradient(self.post, x, y, objective, seeds=self._seeds(f"look {i}"), num_draws=draws)
            for i in range(self.runs.level.repeats)
        ]
        return torch.stack(repeats).flatten(2).cpu().numpy()

    def within_error(self) -> np.ndarray:
        if self.post.num_draws < 2:
            return super().within_error()
        seed, small = rng.derive(*self._seeds("error")), []
        for part in slices(min(len(self.runs.x), self.runs.level.errors), BATCH):
            x, y = self.runs.x[part], self.runs.y[part]
            mean, error = self.post.input_gradient(x, y, seed=seed, standard_error=True)
            small.append(norms(mean, "l_2") < 2 * norms(error, "l_2"))
        return torch.cat(small).cpu().numpy()

    # ---- other attacks --------------------------------------------------------------------------------------------------

    def other_objectives(self) -> Compared:
        accuracy = {name: run.accuracy for name, run in self.runs.by_objective().items()}
        return Compared(accuracy, f"PGD of {self.runs.level.steps} steps leaves")

    def single_steps(self) -> Compared:
        accuracy, ball = {}, {"eps": self.runs.eps, "norm": self.runs.norm}
        for name in self.climbed() or REFERENCE:  # a transfer climbs nothing of this predictive
            attack: Any = FGSM(**ball, objective=name)  # pyright: ignore[reportArgumentType]
            accuracy[f"One step on {name}"] = self.runs.run(f"single step {name}", attack).accuracy
        return Compared(accuracy, "one step leaves")

    def transfers(self) -> Compared:
        settings = {"eps": self.runs.eps, "norm": self.runs.norm}
        stored = self.runs.files.get("surrogate", settings, lambda: {"x": surrogate_attack(self.runs)})
        right = self.runs.right(stored["x"].to(self.runs.x))
        return Compared({"PGD on a surrogate": float(right.double().mean())}, "a transfer leaves")

    def without_gradients(self) -> Tried:
        """Square, the boundary attack and LocalSearch; what they find outside is brought to the ball's nearest point."""
        q, ball = self.runs.level.queries, {"eps": self.runs.eps, "norm": self.runs.norm}
        attacks: dict[str, Attack] = {"Square": Square(**ball, queries=q), "Boundary": Boundary(steps=q)}  # pyright: ignore[reportArgumentType]
        if self.post.bounds is not None:
            # p = -1/4 probes where the cyclic step goes, which suits images that are mostly black or white.
            attacks["LocalSearch"] = LocalSearch(variant="foolbox2", p=-0.25, rounds=max(q // ASKED, 1))
        return self._tried(attacks, f"{q} queries each")

    def random_points(self) -> Tried:
        samples, ball = self.runs.level.samples, {"eps": self.runs.eps, "norm": self.runs.norm}
        return self._tried({"RandomSearch": RandomSearch(**ball, samples=samples)}, f"{samples} points each")  # pyright: ignore[reportArgumentType]

    def _tried(self, attacks: Mapping[str, Attack], budget: str) -> Tried:
        rows, survivors = self.runs.sample_of_survivors(), int(self.runs.survivors.sum())
        broken: dict[str, np.ndarray] = {}
        for name, attack in attacks.items() if survivors else ():
            run = self.runs.run(name, attack, rows)
            nearest = project(run.x, self.runs.x[rows], self.runs.eps, self.runs.norm, self.post.bounds)
            broken[name] = ~self.runs.right(nearest, rows).cpu().numpy()
        return Tried(broken, survivors, budget)

    def by_radius(self) -> RadiusCurve | None:
        eps, unbounded = self.runs.eps, self._unbounded()
        if self.attack.with_radius(eps) is None:
            return None
        grey = GREY if self.runs.norm == "l_inf" and self.post.bounds == (0, 1) else None
        radii = {*(factor * eps for factor in self.runs.level.radii), *([] if grey is None else [grey]), unbounded}
        accuracy = {0.0: float(self.clean.mean()), eps: self.accuracy}
        for radius in sorted(radii - accuracy.keys()):
            attack = self.attack.with_radius(radius)
            assert attack is not None
            if radius <= unbounded:
                accuracy[radius] = self.runs.run(f"radius {radius:g}", attack).accuracy
        return RadiusCurve(accuracy, grey, unbounded)

    def _unbounded(self) -> float:
        """A radius that holds all possible inputs."""
        bounds, x = self.post.bounds, self.runs.x
        width = bounds[1] - bounds[0] if bounds is not None else FAR * float(x.abs().max())
        return max(width * (math.sqrt(x[0].numel()) if self.runs.norm == "l_2" else 1.0), self.runs.eps)

    def by_draws(self) -> Mapping[int, float]:
        own, scoring, random = self.draws_per_step(), self.scoring_draws, self.runs.random
        most = max(*self.runs.level.draws, scoring) if random else scoring
        accuracy = {own: self.accuracy}
        for draws in sorted({draws for draws in (*self.runs.level.draws, scoring) if draws <= most} - {own}):
            if random or draws < scoring or own < scoring:
                accuracy[draws] = self.runs.run(f"{draws} draws", self.attack.changed(num_draws=draws)).accuracy
        return accuracy

    def rescored(self) -> Rescored:
        again = [self.runs.right(self.runs.audited.x, draws=f"score {i}").cpu().numpy() for i in range(RESCORED)]
        return Rescored(self.right, np.stack(again), None)

    def doubled(self) -> Doubled:
        harder = self.attack.harder()
        if harder is None:
            raise NotAvailable("The attack has no steps to double.")
        run = self.runs.run("doubled", harder)
        return Doubled(run.accuracy, self._loss_change(run))

    def _loss_change(self, doubled: AttackRun) -> str:
        """The objective where both attacks fail, in words; at points that are broken nothing more was asked."""
        name = next(iter(self.climbed()), "margin_per_draw")
        rows = torch.nonzero(self.runs.audited.right & doubled.right)[:, 0]
        if len(rows) == 0:
            return ""
        y, seed = self.runs.y[rows], rng.derive(*self._seeds("loss"))
        with torch.no_grad():
            before, after = (
                float(self.post.objective_value(z[rows], y, name, seed=seed).mean())
                for z in (self.runs.audited.x, doubled.x)
            )
        return f" At the {len(rows)} points that both leave, mean {name} goes from {before:.3g} to {after:.3g}."

    def on_one_draw(self) -> OneDraw:
        post = self.post.freeze(1, rng.derive(*self._seeds("frozen")))
        own = self.runs.run("frozen draw", self.attack.changed(num_draws=None), post=post).accuracy
        reference = self.runs.run("frozen draw, reference", self.runs.pgd("margin", restarts=2), post=post).accuracy
        return OneDraw(own, reference)
