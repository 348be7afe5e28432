"""Checks 4, 5 and 9: would another objective, one step, or more steps find something else?"""

from __future__ import annotations

import torch

from bayesrob import rng
from bayesrob.analysis import checks
from bayesrob.attacks import FGSM
from bayesrob.auditing.bench import Bench, Found
from bayesrob.auditing.levels import REFERENCE, harder
from bayesrob.auditing.registry import Finding, not_applicable, shared
from bayesrob.evaluation.looks import fixed_steps, objectives_of

__all__ = ["convergence", "objectives", "single_step"]


@shared
def objectives(bench: Bench, threshold: float) -> Finding:
    others = {name: found.accuracy for name, found in bench.by_objective().items()}
    return checks.objectives(bench.audited.accuracy, others, f"PGD of {bench.level.steps} steps leaves", threshold)


@shared
def single_step(bench: Bench, threshold: float) -> Finding:
    names = objectives_of(bench.attack) or REFERENCE  # a transfer climbs nothing of this predictive
    runs = {n: bench.run(f"single step {n}", FGSM(eps=bench.eps, norm=bench.norm, objective=n)) for n in names}  # pyright: ignore[reportArgumentType]
    others = {f"One step on {name}": found.accuracy for name, found in runs.items()}
    return checks.single_step(bench.audited.accuracy, others, threshold)


@shared
def convergence(bench: Bench, threshold: float) -> Finding:
    attack = harder(bench.attack)
    if attack is None:
        return not_applicable("The attack has no steps to double.")
    doubled, steps = bench.run("doubled", attack), fixed_steps(bench.attack)
    own, more = bench.audited.accuracy, _loss_change(bench, doubled)
    return checks.convergence(own, doubled.accuracy, steps, bench.eps, more, threshold)


def _loss_change(bench: Bench, doubled: Found) -> str:
    """The objective where both attacks failed: of points that are broken nothing more was asked."""
    name = next(iter(objectives_of(bench.attack)), "margin_per_draw")
    rows = torch.nonzero(bench.audited.right & doubled.right)[:, 0]
    if len(rows) == 0:
        return ""
    seed = rng.derive(bench.seed, "audit", "loss")
    with torch.no_grad():
        before, after = (
            float(bench.post.objective_value(z[rows], bench.y[rows], name, seed=seed).mean())
            for z in (bench.audited.x, doubled.x)
        )
    return f" At the {len(rows)} points that both leave, mean {name} goes from {before:.3g} to {after:.3g}."
