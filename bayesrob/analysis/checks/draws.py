"""Checks 11, 12 and 13: which draws the attack sees and which score it, and what the figure counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bayesrob.analysis.findings import Finding, asks, not_applicable
from bayesrob.analysis.intervals import binomial_interval

__all__ = ["attack_draws", "nothing_dropped", "rescored"]


@asks(11, threshold=0.005, accuracy=True, source="Athalye et al. 2018, section 4.2; Carbone et al. 2020")
def attack_draws(seen: int, scoring: int, random: bool, curve: Mapping[int, float], threshold: float) -> Finding:
    """Does the attack see enough draws, and at least as many as score it?

    The value is by how much accuracy still falls from the audited attack's number of draws to the largest tried. Held draws
    are enough when the attack sees all that score it. Fewer than the scoring draws fail whatever the value.

    Args:
        seen: draws at a look of the attack. scoring: draws that score it. random: whether predictions change from look to
            look. curve: accuracy by number of draws, `seen` among them.
    """
    if seen == 0:
        return Finding(1.0, False, "The attack never looks at the model that is scored: its figure is of transfer.")
    if scoring == 1 and not random:
        return not_applicable("There is one network.")
    more = [curve[seen] - accuracy for n, accuracy in curve.items() if n > seen]
    value = max(more) if more else math.nan if random and len(curve) == 1 else 0.0
    points = ", ".join(f"{curve[n]:.3f} with {n}" for n in sorted(curve))
    text = f"The attack sees {seen} draws a look, {scoring} score it. Draws seen and accuracy left: {points}."
    return Finding(value, not value > threshold and seen >= scoring, text)


@asks(12, threshold=0.005, accuracy=True, source="AutoAttack's open issue of scoring a random defence once")
def rescored(
    scores: np.ndarray, right: np.ndarray, clean: np.ndarray, interval: tuple[float, float] | None, threshold: float
) -> Finding:
    """Is the figure the same on other draws?

    The value is the distance of the audited robust accuracy from its mean over other sets of draws; where the figure is
    reported with an interval, from that: of 100 draws another set moves an honest figure by a point.

    Args:
        scores: who is right after the attack on other draws, `[set, point]`. right: on the scoring draws. clean: before.
        interval: of the figure; None: it has none.
    """
    own, mean, count = float(right.mean()), float(scores.mean()), len(scores)
    low, high = interval or (own, own)
    value = max(low - mean, mean - high, 0.0)
    sets = f"{count} sets of fresh draws" if count > 1 else "another set of fresh draws"
    text = (
        f"The attack leaves {own:.3f}{f' [{low:.3f}, {high:.3f}]' if interval else ''}, scored again on {sets} {mean:.3f}."
    )
    broken = clean & ~right
    if broken.any():
        again, trials = int((~scores[:, broken]).sum()), count * int(broken.sum())
        low, high = binomial_interval(again, trials)
        text += f" Of its {int(broken.sum())} successes {again / trials:.3f} [{low:.3f}, {high:.3f}] succeed again."
    return Finding(value, value <= threshold, text)


@asks(13, threshold=0.0, accuracy=True, source="Carlini et al. 2019, sections 4.5 and 5.9")
def nothing_dropped(
    outside: np.ndarray, finite: np.ndarray, right: np.ndarray, clean: np.ndarray, threshold: float
) -> Finding:
    """Does the figure count every point, and only what the threat model allows?

    The value is the share of points that no figure should count: outside the ball or the bounds, not finite, or wrong
    before the attack and right after it. Arguments say so of each point.
    """
    repaired = right & ~clean
    value = float((outside | ~finite | repaired).mean())
    text = (
        f"All {len(clean)} points are in the denominator, {int((~clean).sum())} of them wrong before the attack; "
        f"{int(outside.sum())} left the ball or the bounds, {int((~finite).sum())} are not finite, {int(repaired.sum())} "
        f"are right only after the attack."
    )
    return Finding(value, value <= threshold, text)
