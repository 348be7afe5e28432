"""Check 16: is there a posterior that the accuracy could be about?"""

from __future__ import annotations

import math

from bayesrob.analysis.evidence import Evidence
from bayesrob.analysis.findings import Finding, check, not_applicable

__all__ = ["inference"]

DISTINCT = 0.5
"""The share of draws that must differ from all others; of a chain, half its proposals accepted."""


@check(16, threshold=1.01, verdict="posterior", source="Vehtari et al. 2021; Izmailov et al. 2021")
def inference(evidence: Evidence, threshold: float) -> Finding:
    """Were the draws made by an inference that arrived?

    Of chains the value is R-hat of the log predictive at the audited points (function space: weights have symmetries);
    effective draws, divergences and distinct draws must be good too. Without chains the value is NaN: of held draws without
    a record half must be distinct, of SVI the divergence from the prior must count once, and its loss must have settled.
    """
    distinct = evidence.distinct_draws()
    if distinct is None:
        return _without_chains(evidence)
    share, diagnostics = distinct / evidence.num_draws, evidence.diagnostics()
    text = f"{distinct} of {evidence.num_draws} draws are distinct"
    if diagnostics is None or share < DISTINCT:
        return Finding(math.nan, share >= DISTINCT, f"{text} (should be at least {DISTINCT:.0%}).")
    rhat, ess = float(diagnostics["rhat_max"]), float(diagnostics["ess_bulk_min"])
    enough = float(diagnostics.attrs["ess_threshold"])
    divergent = int(diagnostics["divergences"].sum()) if "divergences" in diagnostics else 0
    text += (
        f"; R-hat of the log predictive at most {rhat:.3f} (should be {threshold:g}), at least {ess:.0f} effective draws "
        f"(should be {enough:.0f}), {divergent} divergent trajectories."
    )
    return Finding(rhat, rhat <= threshold and ess >= enough and divergent == 0, text)  # NaN: one chain, or all the same


def _without_chains(evidence: Evidence) -> Finding:
    method, settings = evidence.info.get("method"), evidence.info.get("settings") or {}
    if method == "SVI":
        weight, notes = float(settings.get("kl_weight", 1.0)), evidence.info.get("notes") or []
        text = f"SVI's divergence from the prior counts {weight:g} times against N / B scaled log likelihoods"
        settled = f"it says: {' '.join(notes)}" if notes else "no note of the fit says otherwise."
        return Finding(math.nan, weight == 1.0 and not notes, f"{text}; {settled}")
    if evidence.num_draws == 1:
        return not_applicable("There is one draw: no posterior is claimed.")
    return not_applicable(f"Draws of {method or 'unknown origin'}: nothing says whether an inference arrived.")
