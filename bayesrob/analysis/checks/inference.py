"""Check 16: is there a posterior that the accuracy could be about?"""

from __future__ import annotations

import math
from collections.abc import Callable

import xarray as xr

from bayesrob.analysis.evidence import Evidence, NotAvailable
from bayesrob.analysis.findings import Finding, check, not_applicable

__all__ = ["KHAT", "inference"]

DISTINCT = 0.5
"""The share of draws that must differ from all others; of a chain, half its proposals accepted."""

KHAT = 0.7
"""Pareto k-hat above which importance weights say that a guide is no stand-in for the posterior (Yao et al. 2018)."""

UNJUDGED = {
    "members": "Members of an ensemble are optima of a loss: nothing says whether they are draws of a posterior.",
    "noise": "Noise that the network was trained with makes the draws: nothing says whether they are draws of a posterior.",
    "unknown": "Nobody said where the draws come from.",
}
"""Why draws of an origin are not judged."""


@check(16, threshold=1.01, verdict="posterior", source="Vehtari et al. 2021; Yao et al. 2018; Izmailov et al. 2021")
def inference(evidence: Evidence, threshold: float) -> Finding:
    """Were the draws made by an inference that arrived?

    Of chains the value is the largest R-hat of log predictives and input gradients at the audited points (function space:
    weights have symmetries); effective draws in bulk and tails, divergences and distinct draws must be good too. One chain
    is never believed, because nothing shows that another would meet it. A fitted distribution (SVI) is judged by the k-hat
    of its importance weights: that its loss has settled is no evidence for it, that it has not is evidence against it.
    Draws of another origin are not judged, unless half of them are copies.
    """
    if evidence.num_draws == 1 and evidence.origin != "guide":
        return not_applicable("There is one draw: no posterior is claimed.")
    if evidence.origin == "chain":
        return _chains(evidence, threshold)
    if evidence.origin == "guide":
        return _guide(evidence)
    distinct = evidence.distinct_draws()
    if distinct is not None and distinct < DISTINCT * evidence.num_draws:
        return Finding(math.nan, False, f"{_count(distinct, evidence)} (should be at least {DISTINCT:.0%}).")
    return not_applicable(UNJUDGED[evidence.origin])


def _chains(evidence: Evidence, threshold: float) -> Finding:
    distinct, diagnostics = evidence.distinct_draws(), evidence.diagnostics()
    if distinct is None or diagnostics is None:
        raise NotAvailable("The chains' draws are not held.")
    text = _count(distinct, evidence)
    if distinct < DISTINCT * evidence.num_draws:
        return Finding(math.nan, False, f"{text} (should be at least {DISTINCT:.0%}).")
    rhat, enough = _worst(diagnostics, "rhat_max", max), float(diagnostics.attrs["ess_threshold"])
    bulk, tail = (_worst(diagnostics, f"ess_{kind}_min", min) for kind in ("bulk", "tail"))
    divergent = int(diagnostics["divergences"].sum()) if "divergences" in diagnostics else 0
    recorded = f"{divergent} divergent trajectories" if "divergences" in diagnostics else "no record of divergences"
    text += (
        f"; R-hat of log predictives and input gradients at most {rhat:.3f} (should be {threshold:g}), at least {bulk:.0f} "
        f"effective draws, {tail:.0f} in the tails (should be {enough:.0f}), {recorded}."
    )
    good = rhat <= threshold and min(bulk, tail) >= enough and divergent == 0  # not of NaN: all the same
    if evidence.num_chains == 1 and (good or math.isnan(rhat)):
        return not_applicable(f"There is one chain, and nothing shows that another would meet it: {text}")
    return Finding(rhat, good, text)


def _worst(diagnostics: xr.Dataset, name: str, of: Callable[[list[float]], float]) -> float:
    """Return the worse of log predictives and input gradients; NaN if no draw changes either."""
    found = [float(diagnostics[one]) for one in (name, f"gradient_{name}") if one in diagnostics]
    known = [value for value in found if not math.isnan(value)]
    return of(known) if known else math.nan


def _count(distinct: int, evidence: Evidence) -> str:
    return f"{distinct} of {evidence.num_draws} draws are distinct"


def _guide(evidence: Evidence) -> Finding:
    info = evidence.info
    settings, notes, khat = info.get("settings") or {}, info.get("notes") or [], info.get("khat") or {}
    weight, method = float(settings.get("kl_weight", 1.0)), info.get("method")
    if method != "SVI":
        return not_applicable(f"{method} fits its distribution to something else than the posterior of the data.")
    if weight != 1.0 or notes:
        text = f"SVI's divergence from the prior counts {weight:g} times against N / B scaled log likelihoods"
        return Finding(math.nan, False, f"{text}; the fit says: {' '.join(notes) or 'nothing'}")
    if "value" not in khat:
        why = khat.get("skipped", "it was not computed")
        return not_applicable(f"A settled loss says nothing about a posterior, and the guide has no k-hat ({why}).")
    value = float(khat["value"])
    text = f"k-hat of {khat['draws']} importance weights is {value:.2f} (should be at most {KHAT:g})"
    end = "." if value <= KHAT else ": the guide is not the posterior. As a predictive it may still be good."
    return Finding(math.nan, value <= KHAT, text + end)
