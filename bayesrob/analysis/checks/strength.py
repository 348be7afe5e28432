"""Checks 4 to 9 and 14: does anything else find more, or show that steps and radius do not work?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bayesrob.analysis.findings import Finding, asks, not_applicable

__all__ = [
    "GREY",
    "accuracy_falls",
    "convergence",
    "gradient_free",
    "objectives",
    "random_search",
    "single_step",
    "transfer",
]

GREY = 0.5
"""Radius at which every image in [0, 1] can be made the same grey one (l_inf)."""


@asks(4, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.1; Croce & Hein 2020")
def objectives(own: float, others: Mapping[str, float], how: str, threshold: float) -> Finding:
    """Does PGD on another objective find more than the audited attack?

    The value is the audited robust accuracy minus the lowest that such an attack leaves.

    Args:
        own: accuracy that the audited attack leaves. others: that the others leave. how: what those are, in words.
    """
    value = own - min(others.values())
    each = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in others.items())
    return Finding(value, value <= threshold, f"The attack leaves {own:.3f}; {how} {each}.")


@asks(5, threshold=0.0, accuracy=True, source="Athalye et al. 2018, section 3.1; Carlini et al. 2019, section 5.2")
def single_step(own: float, others: Mapping[str, float], threshold: float) -> Finding:
    """Is the audited attack at least as strong as one step?

    The value is the audited robust accuracy minus that under one step, the lowest of several.
    """
    best = min(others, key=others.__getitem__)
    text = f"{best} leaves {others[best]:.3f}, the attack {own:.3f}."
    return Finding(own - others[best], own - others[best] <= threshold, text)


@asks(6, threshold=0.002, accuracy=True, source="AutoAttack; Carlini et al. 2019, section 5.3")
def gradient_free(broken: Mapping[str, np.ndarray], survivors: int, count: int, budget: str, threshold: float) -> Finding:
    """Do attacks without gradients break what those with gradients left?

    The value is the share of all points that attacks without gradients break and none by gradients does.

    Args:
        broken: by attack, which of the survivors looked at. survivors: how many there are. count: of all points.
        budget: what those attacks may spend, in words.
    """
    return _on_survivors(broken, survivors, count, budget, threshold)


@asks(7, threshold=0.0, accuracy=True, source="Carlini et al. 2019, section 5.2; Athalye et al. 2018, section 3.1")
def random_search(broken: Mapping[str, np.ndarray], survivors: int, count: int, budget: str, threshold: float) -> Finding:
    """Does random search win anywhere?

    The value is the share of all points that random points of the ball break and no attack by gradients does; arguments as
    of `gradient_free`.
    """
    return _on_survivors(broken, survivors, count, budget, threshold)


def _on_survivors(broken: Mapping[str, np.ndarray], survivors: int, count: int, budget: str, threshold: float) -> Finding:
    if survivors == 0:
        return not_applicable("No point survives the attacks by gradients.")
    any_of = np.stack(list(broken.values())).any(0)
    # Survivors that were not looked at are taken to be like those that were.
    value = float(any_of.mean()) * survivors / count
    each = ", ".join(f"{name} {int(hits.sum())}" for name, hits in broken.items())
    text = f"Of the {survivors} points that survive gradients {len(any_of)} were tried, with {budget}; broken: {each}."
    return Finding(value, value <= threshold, text)


@asks(8, threshold=0.005, accuracy=True, source="Carlini et al. 2019, sections 5.6 and 5.7; Athalye et al. 2018, 3.1")
def accuracy_falls(
    curve: Mapping[float, float], chance: float, grey: float | None, unbounded: float | None, threshold: float
) -> Finding:
    """Does accuracy fall with eps, to chance at 0.5 and to nothing without a bound?

    The value is the largest of three: by how much accuracy rises from one radius to the next, by how much it exceeds
    chance at 0.5 (l_inf, inputs in [0, 1]), and the accuracy that an unbounded attack leaves.

    Args:
        curve: accuracy by radius. chance: accuracy of a guess. grey: the radius where chance is what should be left, and
            unbounded: the one where nothing should; None if `curve` has none.
    """
    radii = sorted(curve)
    rises = [curve[b] - curve[a] for a, b in itertools.pairwise(radii)]
    over = -math.inf if grey is None else curve[grey] - chance
    value = max([*rises, over, -math.inf if unbounded is None else curve[unbounded]])
    text = f"Accuracy is {', '.join(f'{curve[eps]:.3f} at {eps:g}' for eps in radii)}"
    text += "." if unbounded is None else ", where the last radius reaches everything."
    return Finding(value, value <= threshold, f"{text} Chance is {chance:.3f}.")


@asks(9, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.5")
def convergence(
    own: float, doubled: float | None, steps: Sequence[float], eps: float, more: str, threshold: float
) -> Finding:
    """Does the attack with twice the steps and twice the restarts find more?

    The value is the audited robust accuracy minus what the doubled attack leaves. A fixed step that is larger than the
    ball's radius fails whatever the value: every step then ends at the ball's far side, and more of them refine nothing.

    Args:
        own, doubled: accuracy that is left; None: not tried, which passes if the steps do. steps: fixed lengths of
            repeated steps, in the unit of `eps`. more: what else is known, in words.
    """
    value = math.nan if doubled is None else own - doubled
    text = "Twice the steps were not tried."
    if doubled is not None:
        text = f"Doubled steps and restarts leave {doubled:.3f}, the attack {own:.3f}."
    large = max(steps, default=0.0)
    if large > eps:
        return Finding(value, False, f"{text}{more} Its step of {large:g} is larger than the radius {eps:g}.")
    return Finding(value, doubled is None or value <= threshold, f"{text}{more}")


@asks(14, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.4; Papernot et al. 2017")
def transfer(own: float, others: Mapping[str, float], threshold: float) -> Finding:
    """Does what was found on another network break more than the attack on the model itself?

    The value is the audited robust accuracy minus the lowest that such points leave.
    """
    best = min(others, key=others.__getitem__)
    value = own - others[best]
    return Finding(value, value <= threshold, f"{best} leaves {others[best]:.3f}, the attack {own:.3f}.")
