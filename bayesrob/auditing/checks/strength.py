"""Checks 4, 5 and 9: would another objective, one step, or more steps find something else?"""

from __future__ import annotations

import torch

from bayesrob import rng
from bayesrob.attacks import FGSM
from bayesrob.auditing.bench import Bench, Found
from bayesrob.auditing.levels import harder, members, objectives_of
from bayesrob.auditing.registry import Finding, check, not_applicable

__all__ = ["convergence", "objectives", "single_step"]


@check(4, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.1; Croce & Hein 2020")
def objectives(bench: Bench, threshold: float) -> Finding:
    """Does PGD on another objective find more than the audited attack?

    The value is the audited robust accuracy minus the lowest that PGD leaves on any one objective.
    """
    runs = bench.by_objective()
    best = min(runs, key=lambda name: runs[name].accuracy)
    value = bench.audited.accuracy - runs[best].accuracy
    each = ", ".join(f"{name} {found.accuracy:.3f}" for name, found in runs.items())
    text = f"The audited attack leaves {bench.audited.accuracy:.3f}; PGD of {bench.level.steps} steps leaves {each}."
    return Finding(value, value <= threshold, text)


@check(5, threshold=0.0, accuracy=True, source="Athalye et al. 2018, section 3.1; Carlini et al. 2019, section 5.2")
def single_step(bench: Bench, threshold: float) -> Finding:
    """Is the audited attack at least as strong as one step?

    The value is the audited robust accuracy minus that under FGSM on the same objective, the lowest of several.
    """
    names = objectives_of(bench.attack) or ["margin_per_draw"]
    runs = {n: bench.run(f"single step {n}", FGSM(eps=bench.eps, norm=bench.norm, objective=n)) for n in names}  # pyright: ignore[reportArgumentType]
    best = min(runs, key=lambda name: runs[name].accuracy)
    value = bench.audited.accuracy - runs[best].accuracy
    text = f"One step on {best} leaves {runs[best].accuracy:.3f}, the audited attack {bench.audited.accuracy:.3f}."
    return Finding(value, value <= threshold, text)


@check(9, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.5")
def convergence(bench: Bench, threshold: float) -> Finding:
    """Does the attack with twice the steps and twice the restarts find more?

    The value is the audited robust accuracy minus what the doubled attack leaves. A fixed step that is larger than the
    ball's radius fails whatever the value: every step then ends at the ball's far side, and more of them refine nothing.
    """
    attack = harder(bench.attack)
    if attack is None:
        return not_applicable("The attack has no steps to double.")
    doubled = bench.run("doubled", attack)
    value = bench.audited.accuracy - doubled.accuracy
    text = f"Doubled steps and restarts leave {doubled.accuracy:.3f}, the audited attack {bench.audited.accuracy:.3f}."
    text += _loss_change(bench, doubled)
    for one in members(bench.attack):
        step, steps = getattr(one, "step_size", None), getattr(one, "steps", 1)
        if step is not None and steps > 1 and step > bench.eps:
            return Finding(value, False, f"{text} Its step of {step:g} is larger than the radius {bench.eps:g}.")
    return Finding(value, value <= threshold, text)


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
