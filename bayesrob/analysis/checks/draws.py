"""Checks 10, 11 and 12: which draws the attack averages, and on which it is scored."""

from __future__ import annotations

import math

from bayesrob.analysis.checks.outputs import is_random
from bayesrob.analysis.evidence import Evidence
from bayesrob.analysis.findings import Finding, check, not_applicable
from bayesrob.analysis.intervals import binomial_interval

__all__ = ["attack_draws", "frozen_draw", "rescored"]


@check(
    10,
    threshold=0.005,
    accuracy=True,
    source="Athalye et al. 2018, section 4.2; Carlini et al. 2019, section 5.8",
    needs=("on_one_draw",),
)
def frozen_draw(evidence: Evidence, threshold: float) -> Finding:
    """Does the attack succeed on a single draw, where nothing is random?

    The value is what the attack leaves on one frozen draw, scored on that draw, minus what PGD on its margin leaves.
    """
    if evidence.num_draws == 1 and not is_random(evidence):
        return not_applicable("There is one network: the other checks judge it.")
    accuracy = evidence.on_one_draw()
    value = accuracy.attack - accuracy.reference
    text = f"On one draw the attack leaves {accuracy.attack:.3f}, PGD on its margin {accuracy.reference:.3f}."
    return Finding(value, value <= threshold, text)


@check(11, threshold=0.005, accuracy=True, source="Athalye et al. 2018, section 4.2; Carbone et al. 2020")
def attack_draws(evidence: Evidence, threshold: float) -> Finding:
    """Does the attack see enough draws, and at least as many as score it?

    The value is by how much accuracy still falls from the attack's own number of draws to the largest tried. Held draws are
    enough when the attack averages all that score it. Fewer than the scoring draws fail whatever the value.
    """
    if evidence.sees == "nothing":
        return Finding(1.0, False, "The attack never uses the model that is scored: its accuracy is one of transfer.")
    random, scoring = is_random(evidence), evidence.scoring_draws
    if scoring == 1 and not random:
        return not_applicable("There is one network.")
    own, curve = evidence.draws_per_step(), evidence.by_draws()
    falls = [curve[own] - accuracy for draws, accuracy in curve.items() if draws > own]
    value = max(falls) if falls else math.nan if random and len(curve) == 1 else 0.0
    points = ", ".join(f"{curve[draws]:.3f} with {draws}" for draws in sorted(curve))
    text = f"The attack averages {own} draws at each step, {scoring} score it. Draws and accuracy left: {points}."
    return Finding(value, not value > threshold and own >= scoring, text)


@check(12, threshold=0.005, accuracy=True, source="AutoAttack's open issue of scoring a random defence once")
def rescored(evidence: Evidence, threshold: float) -> Finding:
    """Is the figure the same on other draws?

    The value is the distance of the accuracy from its mean over other sets of draws; where the accuracy is reported with an
    interval, the distance from that: of 100 draws another set moves an honest accuracy by a point.
    """
    if not is_random(evidence):
        return not_applicable("Draws are held: there are no others.")
    right, again, interval = evidence.rescored()
    own, mean, count = float(right.mean()), float(again.mean()), len(again)
    low, high = interval or (own, own)
    value = max(low - mean, mean - high, 0.0)
    stated = f"{own:.3f}{f' [{low:.3f}, {high:.3f}]' if interval else ''}"
    sets = f"{count} sets of fresh draws" if count > 1 else "another set of fresh draws"
    text = f"The attack leaves {stated}, scored again on {sets} {mean:.3f}."
    broken = evidence.clean & ~right
    if broken.any():
        successes, trials = int((~again[:, broken]).sum()), count * int(broken.sum())
        low, high = binomial_interval(successes, trials)
        text += f" Of its {int(broken.sum())} successes {successes / trials:.3f} [{low:.3f}, {high:.3f}] succeed again."
    return Finding(value, value <= threshold, text)
