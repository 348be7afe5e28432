"""Check 16: is there a posterior that the figure could be about?"""

from __future__ import annotations

import math

import torch

from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, check, not_applicable
from bayesrob.evaluation.chains import chain_groups
from bayesrob.predictive import HeldDraws, Predictive

__all__ = ["distinct", "inference"]

DISTINCT = 0.5
"""Share of draws that must differ from all others: of a chain, half its proposals accepted."""


@check(16, threshold=1.01, verdict="posterior", source="Vehtari et al. 2021; Izmailov et al. 2021")
def inference(bench: Bench, threshold: float) -> Finding:
    """Were the draws made by an inference that arrived?

    Of chains the value is R-hat of the log predictive at the audited points (function space: weights have symmetries);
    effective draws, divergences and distinct draws must be good too. Without chains the value is NaN: of held draws without
    a record half must be distinct, of SVI the divergence from the prior must count once, and its loss must have settled.
    """
    post = bench.post
    if isinstance(post, HeldDraws) and post.num_draws > 1:
        same = distinct(post)
        share = same / post.num_draws
        text = f"{same} of {post.num_draws} draws are distinct"
        if not post.sample_stats or share < DISTINCT:
            return Finding(math.nan, share >= DISTINCT, f"{text} (should be at least {DISTINCT:.0%}).")
        return _chains(bench, threshold, text)
    return _variational(post)


def distinct(post: HeldDraws) -> int:
    """How many draws of the weights differ from all others, each counted once."""
    flat = torch.cat([tensor.flatten(1) for tensor in post.weights.values()], 1) if post.weights else torch.empty(0)
    return len({row.numpy().tobytes() for row in flat.cpu()})


def _chains(bench: Bench, threshold: float, text: str) -> Finding:
    found = chain_groups(bench.post, bench.x, bench.y, torch.arange(len(bench.x)), bench.seed)["diagnostics"]
    rhat, ess, enough = float(found["rhat_max"]), float(found["ess_bulk_min"]), float(found.attrs["ess_threshold"])
    divergent = int(found["divergences"].sum()) if "divergences" in found else 0
    text += (
        f"; R-hat of the log predictive at most {rhat:.3f} (should be {threshold:g}), at least {ess:.0f} effective draws "
        f"(should be {enough:.0f}), {divergent} divergent trajectories."
    )
    return Finding(rhat, rhat <= threshold and ess >= enough and divergent == 0, text)  # NaN: one chain, or all the same


def _variational(post: Predictive) -> Finding:
    method, settings = post.info.get("method"), post.info.get("settings") or {}
    if method == "SVI":
        weight = float(settings.get("kl_weight", 1.0))
        text = f"SVI's divergence from the prior counts {weight:g} times against N / B scaled log likelihoods"
        notes = post.info.get("notes") or []
        arrived = "; no note of the fit says otherwise." if not notes else f"; it says: {' '.join(notes)}"
        return Finding(math.nan, weight == 1.0 and not notes, text + arrived)
    if post.num_draws == 1:
        return not_applicable("There is one draw: no posterior is claimed.")
    return not_applicable(f"Draws of {method or 'unknown origin'}: nothing says whether an inference arrived.")
