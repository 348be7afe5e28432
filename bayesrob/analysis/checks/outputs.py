"""Checks 1 and 2: what the model puts out, and whether it is the same each time."""

from __future__ import annotations

import numpy as np

from bayesrob.analysis.evidence import Evidence
from bayesrob.analysis.findings import Finding, check

__all__ = ["EOT", "SAME", "is_random", "outputs", "randomness"]

SAME = 1e-4
"""The largest difference of probabilities between two forward passes of a deterministic model (AutoAttack's)."""
EOT = 20
"""The number of draws that a step against a random model must average (AutoAttack's "rand")."""


@check(1, threshold=1e-5, source="Croce & Hein 2020; Carbone et al. 2020's code")
def outputs(evidence: Evidence, threshold: float) -> Finding:
    """Do predictions normalise, and are the networks' own outputs logits?

    The value is the largest distance of the log of a prediction's sum from 0. Raw outputs that are probabilities already
    are softmaxed a second time here: with ten classes the loss then lies in [1.461, 2.461] and its gradient dies.
    """
    suspicious = evidence.puts_out_probabilities()
    log_p = evidence.log_probabilities().astype(np.float64)
    error = float(np.abs(np.logaddexp.reduce(log_p, axis=-1)).max())
    if any(suspicious):
        text = f"The outputs of {sum(suspicious)} of {len(suspicious)} draws lie in [0, 1] and sum to one: probabilities, "
        return Finding(error, False, f"{text}where logits belong. Softmax is applied twice; remove the network's own.")
    text = f"Predictions sum to one within {error:.1g} (should be {threshold:g}); raw outputs are no probabilities."
    return Finding(error, error <= threshold, text)  # False of NaN


@check(2, threshold=SAME, source="Athalye et al. 2018, section 4.2; AutoAttack")
def randomness(evidence: Evidence, threshold: float) -> Finding:
    """Does the prediction change between forward passes, and does the attack average over that?

    The value is the largest difference of a probability between several forward passes. Above the threshold an attack must
    average at least 20 draws at each step (expectation over transformation).
    """
    change = evidence.change()
    if change.largest <= threshold:
        text = f"{change.forwards} forward passes agree to {change.largest:.1g}: nothing is random."
        return Finding(change.largest, True, text)
    draws = evidence.draws_per_step()
    text = (
        f"Probabilities differ by up to {change.largest:.2g} between forward passes; the attack averages {draws} draws at "
        f"each step, {'new ones each time' if evidence.takes_new_draws() else 'one set of them'} (should be at least {EOT})."
    )
    return Finding(change.largest, draws >= EOT, text)


def is_random(evidence: Evidence) -> bool:
    """Return whether predictions differ from one forward pass to the next."""
    return evidence.change().largest > SAME
