"""Checks 1 and 2: what the model puts out, and whether it is the same each time."""

from __future__ import annotations

import warnings

import torch

from bayesrob import rng
from bayesrob.auditing.bench import FORWARDS, SAME, Bench
from bayesrob.auditing.levels import draws_seen, members
from bayesrob.auditing.registry import Finding, check
from bayesrob.errors import SuspiciousOutputs
from bayesrob.predictive.checks import are_probabilities

__all__ = ["outputs", "randomness"]

EOT = 20
"""Draws that a step against a random model must average (AutoAttack's "rand")."""


@check(1, threshold=1e-5, source="Croce & Hein 2020; Carbone et al. 2020's code")
def outputs(bench: Bench, threshold: float) -> Finding:
    """Do predictions normalise, and are the networks' own outputs logits?

    The value is the largest distance of the log of a prediction's sum from 0. Raw outputs that are probabilities already
    are softmaxed a second time here: with ten classes the loss then lies in [1.461, 2.461] and its gradient dies.
    """
    log_p = bench.log_predictive(bench.x).double()
    error = float(log_p.logsumexp(-1).abs().max())
    with torch.no_grad(), rng.global_seed(bench.seed, "audit", "raw"):
        raw = bench.post.logits(bench.x, None, rng.derive(bench.seed, "audit", "raw"))
    count = sum(are_probabilities(one) for one in raw)
    if count:
        text = (
            f"The outputs of {count} of {len(raw)} draws lie in [0, 1] and sum to one: probabilities, where logits belong."
        )
        warnings.warn(f"{text} Softmax is applied to them again, and gradients die.", SuspiciousOutputs, stacklevel=2)
        return Finding(error, False, f"{text} Softmax is applied twice; remove the network's own.")
    good = error <= threshold  # False of NaN
    text = f"Predictions sum to one within {error:.1g} (should be {threshold:g}); raw outputs are no probabilities."
    return Finding(error, good, text)


@check(2, threshold=SAME, source="Athalye et al. 2018, section 4.2; AutoAttack")
def randomness(bench: Bench, threshold: float) -> Finding:
    """Does the prediction change from look to look, and does the attack average over that?

    The value is the largest difference of a probability between five forward passes. Above the threshold an attack must
    average at least 20 draws at each look (expectation over transformation).
    """
    seen = draws_seen(bench.attack, bench.post)
    if bench.change <= threshold:
        return Finding(bench.change, True, f"{FORWARDS} forward passes agree to {bench.change:.1g}: nothing is random.")
    new = "new ones each time" if all(one.draws == "fresh" for one in members(bench.attack)) else "one set of them"
    text = (
        f"Probabilities differ by up to {bench.change:.2g} between forward passes; the attack averages {seen} draws a look"
    )
    return Finding(bench.change, seen >= EOT, f"{text}, {new} (should be at least {EOT}).")
