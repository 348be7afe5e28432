"""Checks 10, 11 and 12: which draws the attack sees, and on which it is scored."""

from __future__ import annotations

import torch

from bayesrob import rng
from bayesrob.analysis.intervals import binomial_interval
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.levels import changed, draws_seen
from bayesrob.auditing.registry import Finding, check, not_applicable

__all__ = ["attack_draws", "frozen_draw", "rescored"]

RESCORED = 5
"""Sets of fresh draws on which successes are scored again."""


@check(10, threshold=0.005, accuracy=True, source="Athalye et al. 2018, section 4.2; Carlini et al. 2019, section 5.8")
def frozen_draw(bench: Bench, threshold: float) -> Finding:
    """Does the attack succeed on a single draw, where nothing is random?

    The value is what the attack leaves on one frozen draw, scored on that draw, minus what PGD on its margin leaves.
    """
    if bench.post.num_draws == 1 and not bench.random:
        return not_applicable("There is one network: the other checks look at it.")
    post = bench.post.freeze(1, rng.derive(bench.seed, "audit", "frozen"))
    own = bench.run("frozen draw", changed(bench.attack, num_draws=None), post=post).accuracy
    reference = bench.run("frozen draw, reference", bench.pgd("margin", restarts=2), post=post).accuracy
    value = own - reference
    return Finding(value, value <= threshold, f"On one draw the attack leaves {own:.3f}, PGD on its margin {reference:.3f}.")


@check(11, threshold=0.005, accuracy=True, source="Athalye et al. 2018, section 4.2; Carbone et al. 2020")
def attack_draws(bench: Bench, threshold: float) -> Finding:
    """Does the attack see enough draws, and at least as many as score it?

    The value is by how much accuracy still falls from the audited attack's number of draws to the largest tried. Held draws
    are enough when the attack sees all that score it. Fewer than the scoring draws fail whatever the value.
    """
    seen, scoring = draws_seen(bench.attack, bench.post), bench.post.num_draws
    if seen == 0:
        return Finding(1.0, False, "The attack never looks at the model that is scored: its figure is of transfer.")
    if scoring == 1 and not bench.random:
        return not_applicable("There is one network.")
    most = scoring if not bench.random else max(*bench.level.draws, scoring)
    numbers = sorted({n for n in (*bench.level.draws, scoring) if n <= most} - {seen})
    curve = {seen: bench.audited.accuracy}
    for n in numbers:
        if bench.random or n < scoring or seen < scoring:
            curve[n] = bench.run(f"{n} draws", changed(bench.attack, num_draws=n)).accuracy
    more = [accuracy for n, accuracy in curve.items() if n > seen]
    value = max((curve[seen] - accuracy for accuracy in more), default=0.0)
    points = ", ".join(f"{curve[n]:.3f} with {n}" for n in sorted(curve))
    text = f"The attack sees {seen} draws a look, {scoring} score it. Draws seen and accuracy left: {points}."
    return Finding(value, value <= threshold and seen >= scoring, text)


@check(12, threshold=0.005, accuracy=True, source="AutoAttack's open issue of scoring a random defence once")
def rescored(bench: Bench, threshold: float) -> Finding:
    """Is the figure the same on other draws?

    The value is the distance of the audited robust accuracy from its mean over five other sets of draws.
    """
    if not bench.random:
        return not_applicable("Draws are held: there are no others.")
    z = bench.audited.x
    scores = torch.stack([bench.right(z, draws=f"score {i}") for i in range(RESCORED)])
    mean = float(scores.double().mean())
    value = abs(bench.audited.accuracy - mean)
    broken = bench.clean & ~bench.audited.right
    text = f"The attack leaves {bench.audited.accuracy:.3f}, scored again on {RESCORED} sets of fresh draws {mean:.3f}."
    if bool(broken.any()):
        again = int((~scores[:, broken]).sum())
        trials = RESCORED * int(broken.sum())
        low, high = binomial_interval(again, trials)
        text += f" Of its {int(broken.sum())} successes {again / trials:.3f} [{low:.3f}, {high:.3f}] succeed again."
    return Finding(value, value <= threshold, text)
