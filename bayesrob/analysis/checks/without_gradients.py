"""Checks 6, 7 and 14: an attack that finds more without the model's gradients says that they are masked."""

from __future__ import annotations

import numpy as np

from bayesrob.analysis.evidence import Evidence, Tried
from bayesrob.analysis.findings import Finding, check

__all__ = ["gradient_free", "random_search", "transfer"]


@check(6, threshold=0.002, accuracy=True, source="AutoAttack; Carlini et al. 2019, section 5.3")
def gradient_free(evidence: Evidence, threshold: float) -> Finding:
    """Do attacks without gradients break what those with gradients left?

    The value is the share of all points that attacks without gradients break and none by gradients does.
    """
    return _on_survivors(evidence.without_gradients(), len(evidence.clean), threshold)


@check(7, threshold=0.0, accuracy=True, source="Carlini et al. 2019, section 5.2; Athalye et al. 2018, section 3.1")
def random_search(evidence: Evidence, threshold: float) -> Finding:
    """Does random search win anywhere?

    The value is the share of all points that random points of the ball break and no attack by gradients does.
    """
    return _on_survivors(evidence.random_points(), len(evidence.clean), threshold)


@check(14, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.4; Papernot et al. 2017")
def transfer(evidence: Evidence, threshold: float) -> Finding:
    """Do perturbations of another network break more than the attack on the model itself?

    The value is the accuracy that the attack leaves minus the lowest that such points leave.
    """
    others = evidence.transfers().accuracy
    best = min(others, key=others.__getitem__)
    value = evidence.accuracy - others[best]
    return Finding(value, value <= threshold, f"{best} leaves {others[best]:.3f}, the attack {evidence.accuracy:.3f}.")


def _on_survivors(tried: Tried, count: int, threshold: float) -> Finding:
    """Judge attacks on what attacks by gradients left of `count` points."""
    broken, survivors, budget = tried
    if survivors == 0:
        return Finding(0.0, True, "No point survives the attacks by gradients: there is nothing left to break.")
    by_any = np.stack(list(broken.values())).any(0)
    # Survivors that were not tried are taken to be like those that were.
    value = float(by_any.mean()) * survivors / count
    each = ", ".join(f"{name} {int(hits.sum())}" for name, hits in broken.items())
    text = f"Of the {survivors} points that survive gradients {len(by_any)} were tried, with {budget}; broken: {each}."
    return Finding(value, value <= threshold, text)
