"""Checks 1, 2, 3, 15 and 16: outputs, randomness, gradients, and the inference behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bayesrob.analysis.findings import Finding, asks, not_applicable

__all__ = ["DISTINCT", "EOT", "SAME", "gradient_noise", "inference", "outputs", "randomness", "zero_gradients"]

SAME = 1e-4
"""By how much probabilities of a deterministic model may differ between two forward passes (AutoAttack's)."""
EOT = 20
"""Draws that a step against a random model must average (AutoAttack's "rand")."""
DISTINCT = 0.5
"""Share of draws that must differ from all others: of a chain, half its proposals accepted."""
NO_GRADIENTS = "The attack takes no gradients."


@asks(1, threshold=1e-5, source="Croce & Hein 2020; Carbone et al. 2020's code")
def outputs(log_p: np.ndarray, suspicious: Sequence[bool], threshold: float) -> Finding:
    """Do predictions normalise, and are the networks' own outputs logits?

    The value is the largest distance of the log of a prediction's sum from 0. Raw outputs that are probabilities already
    are softmaxed a second time here: with ten classes the loss then lies in [1.461, 2.461] and its gradient dies.

    Args:
        log_p: log predictive `[point, class]`. suspicious: of each draw, whether its raw outputs are probabilities.
    """
    error = float(np.abs(np.logaddexp.reduce(log_p.astype(np.float64), axis=-1)).max())
    if any(suspicious):
        text = f"The outputs of {sum(suspicious)} of {len(suspicious)} draws lie in [0, 1] and sum to one: probabilities, "
        return Finding(error, False, f"{text}where logits belong. Softmax is applied twice; remove the network's own.")
    text = f"Predictions sum to one within {error:.1g} (should be {threshold:g}); raw outputs are no probabilities."
    return Finding(error, error <= threshold, text)  # False of NaN


@asks(2, threshold=SAME, source="Athalye et al. 2018, section 4.2; AutoAttack")
def randomness(change: float, forwards: int, seen: int, new: bool, threshold: float) -> Finding:
    """Does the prediction change from look to look, and does the attack average over that?

    The value is the largest difference of a probability between several forward passes. Above the threshold an attack must
    average at least 20 draws at each look (expectation over transformation).

    Args:
        change: that value. seen: draws that the attack averages at a look. new: whether it takes new ones each time.
    """
    if change <= threshold:
        return Finding(change, True, f"{forwards} forward passes agree to {change:.1g}: nothing is random.")
    text = f"Probabilities differ by up to {change:.2g} between forward passes; the attack averages {seen} draws a look"
    return Finding(
        change, seen >= EOT, f"{text}, {'new ones each time' if new else 'one set of them'} (should be at least {EOT})."
    )


@asks(3, threshold=0.01, source="Carlini & Wagner 2017, section V; AutoAttack")
def zero_gradients(zero: np.ndarray, names: Sequence[str], there: str, threshold: float) -> Finding:
    """At how many points is the gradient that the attack climbs exactly zero?

    The value is the share of points where every component is zero, in the model's own precision, for all objectives of the
    attack. A softmax that rounds to one has no gradient in float32, and may have one in float64; the margin still has one.

    Args:
        zero: of each point. names: of those objectives. there: what else is known of those points, in words.
    """
    if not names:
        return not_applicable(NO_GRADIENTS)
    value = float(zero.mean())
    text = f"The gradient of {' and '.join(names)} is exactly zero at {int(zero.sum())} of {len(zero)} points"
    return Finding(value, value <= threshold, f"{text}{there if value > 0 else ''}.")


@asks(15, threshold=0.5, source="Carbone et al. 2020, section 5.1; Athalye et al. 2018, section 4.2")
def gradient_noise(looks: np.ndarray | None, name: str, small: np.ndarray | None, draws: int, threshold: float) -> Finding:
    """Is the gradient that the attack climbs more than noise?

    The value is the share of points where looks at the same place, as the attack makes them, differ by more than what they
    have in common: the standard deviation of a look, over components, exceeds the norm of their mean with the noise taken
    out. Beside it, where there are several draws: at how many points the averaged loss gradient is within two of its Monte
    Carlo standard errors of zero. Calling those vanished would be calling noise vanished.

    Args:
        looks: gradients `[look, point, component]` of the objective `name`; None: the attack takes none. small: at which
            points the average over `draws` is within those errors of zero; None: there is no such average.
    """
    if looks is None:
        return not_applicable(NO_GRADIENTS)
    looks = looks.astype(np.float64)
    mean, noise = looks.mean(0), looks.var(0, ddof=1).sum(-1)
    squared = np.square(mean).sum(-1)
    lost = (noise > np.maximum(squared - noise / len(looks), 0)) & (noise > 1e-12 * squared)
    value = float(lost.mean())
    same = "are the same each time"
    if noise.max() > 0:
        same = f"are mostly noise at {int(lost.sum())} of {len(lost)} points"
    text = f"{len(looks)} gradients of {name} at the same points {same}."
    if small is not None:
        text += (
            f" Of {draws} draws the averaged loss gradient is within two Monte Carlo standard errors of zero at "
            f"{int(small.sum())} of {len(small)} points: there it has not vanished, it is not known."
        )
    return Finding(value, value <= threshold, text)


@asks(16, threshold=1.01, verdict="posterior", source="Vehtari et al. 2021; Izmailov et al. 2021")
def inference(diagnostics: xr.Dataset | None, same: int | None, num_draws: int, info: Mapping, threshold: float) -> Finding:
    """Were the draws made by an inference that arrived?

    Of chains the value is R-hat of the log predictive at the audited points (function space: weights have symmetries);
    effective draws, divergences and distinct draws must be good too. Without chains the value is NaN: of held draws without
    a record half must be distinct, of SVI the divergence from the prior must count once, and its loss must have settled.

    Args:
        diagnostics: of chains, as `chain_diagnostics` has them. same: how many draws are distinct; None: not held, or one.
        info: what the inference wrote down.
    """
    if same is None:
        return _variational(num_draws, info)
    text = f"{same} of {num_draws} draws are distinct"
    if diagnostics is None or same / num_draws < DISTINCT:
        return Finding(math.nan, same / num_draws >= DISTINCT, f"{text} (should be at least {DISTINCT:.0%}).")
    rhat, ess = float(diagnostics["rhat_max"]), float(diagnostics["ess_bulk_min"])
    enough = float(diagnostics.attrs["ess_threshold"])
    divergent = int(diagnostics["divergences"].sum()) if "divergences" in diagnostics else 0
    text += (
        f"; R-hat of the log predictive at most {rhat:.3f} (should be {threshold:g}), at least {ess:.0f} effective draws "
        f"(should be {enough:.0f}), {divergent} divergent trajectories."
    )
    return Finding(rhat, rhat <= threshold and ess >= enough and divergent == 0, text)  # NaN: one chain, or all the same


def _variational(num_draws: int, info: Mapping) -> Finding:
    method, settings = info.get("method"), info.get("settings") or {}
    if method == "SVI":
        weight = float(settings.get("kl_weight", 1.0))
        text = f"SVI's divergence from the prior counts {weight:g} times against N / B scaled log likelihoods"
        notes = info.get("notes") or []
        arrived = "; no note of the fit says otherwise." if not notes else f"; it says: {' '.join(notes)}"
        return Finding(math.nan, weight == 1.0 and not notes, text + arrived)
    if num_draws == 1:
        return not_applicable("There is one draw: no posterior is claimed.")
    return not_applicable(f"Draws of {method or 'unknown origin'}: nothing says whether an inference arrived.")
