"""What a reader must know of Markov chains: whether they agree, in function space, and their figures."""

from __future__ import annotations

from typing import Any

import xarray as xr

from bayesrob import plots
from bayesrob.evaluation import Results
from bayesrob.predictive import HeldDraws

__all__ = ["CHAINS", "chain_figures", "chain_note", "chain_row", "chains_met", "thinned"]

CHAINS = "Were the posteriors reached? Chains in function space, and beside it in weight space."


def thinned(post: HeldDraws, num_draws: int) -> HeldDraws:
    """About `num_draws` draws, evenly spaced along every chain, still in chains; all draws if there are no more."""
    every = post.num_draws // num_draws
    if every < 2:
        return post
    index = [d for d in range(post.num_draws) if d // post.num_chains % every == 0]
    common: dict[str, Any] = {
        name: getattr(post, name) for name in ("likelihood", "bounds", "input_shape", "out_features", "info")
    }
    weights = {name: tensor[index] for name, tensor in post.weights.items()}
    statistics = {name: values[:, ::every] for name, values in post.sample_stats.items()}
    return HeldDraws(post.net, weights, post.num_chains, statistics, **common)


def chain_row(name: str, tree: Any) -> dict[str, str]:
    """One row of the table of chains: sampler statistics, and R-hat of functions beside that of weights."""
    diagnostics, statistics = tree["diagnostics"].to_dataset(), tree["sample_stats"].to_dataset()
    return {
        "posterior": name,
        "chains x draws": f"{statistics.sizes['chain']} x {statistics.sizes['draw']}",
        "distinct draws by chain": ", ".join(str(n) for n in diagnostics["distinct_draws"].values.tolist()),
        "acceptance": f"{float(diagnostics['acceptance_rate'].mean()):.2f}",
        "step size": f"{float(diagnostics['step_size'].mean()):.2g}",
        "divergent": str(int(diagnostics["divergences"].sum())),
        "R-hat log predictive, median and max": _median_and_max(diagnostics, "rhat"),
        "bulk ESS, min": f"{float(diagnostics['ess_bulk_min']):.0f}",
        "R-hat input gradients, median and max": _median_and_max(diagnostics, "gradient_rhat"),
        "R-hat weights, median and max": _median_and_max(diagnostics, "weight_rhat"),
    }


def _median_and_max(diagnostics: xr.Dataset, name: str) -> str:
    return f"{float(diagnostics[name].median()):.3f}, {float(diagnostics[name + '_max']):.3f}"


def chains_met(tree: Any) -> bool:
    """Whether the chains agree on predictions and input gradients at every evaluated point (Vehtari et al. 2021)."""
    diagnostics = tree["diagnostics"].to_dataset()
    threshold = diagnostics.attrs["rhat_threshold"]
    return all(float(diagnostics[f"{name}_max"]) <= threshold for name in ("rhat", "gradient_rhat"))


def chain_note(name: str, tree: Any) -> str:
    """Says whether the chains agree and whether they have enough effective draws."""
    diagnostics = tree["diagnostics"].to_dataset()
    ess, enough = float(diagnostics["ess_bulk_min"]), diagnostics.attrs["ess_threshold"]
    verdict = "the chains agree"
    if not chains_met(tree):
        verdict = "the chains do not agree everywhere, so these figures are of this run, not of the posterior"
    shortfall = (
        "" if ess >= enough else f" Bulk ESS is as low as {ess:.0f}, of {enough:.0f} that Monte Carlo errors ask for."
    )
    return (
        f"{name} in function space, R-hat median and max: log predictive {_median_and_max(diagnostics, 'rhat')}; input "
        f"gradients {_median_and_max(diagnostics, 'gradient_rhat')}: {verdict}.{shortfall}"
    )


def chain_figures(results: Results, name: str, tree: Any, suffix: str = "") -> None:
    """Save traces, ranks and effective draws in function space, at the points where the chains agree least."""
    where = f"{name}, log probability of the true class at the test points where the chains agree least"
    results.figure(f"chains{suffix}", plots.chains(tree), f"{where}: densities and traces by chain.")
    results.figure(f"ranks{suffix}", plots.ranks(tree), f"{where}: ranks by chain, minus uniform.")
    results.figure(
        f"ess{suffix}",
        plots.effective_draws(tree),
        f"{where}: effective draws against draws, bulk (blue) and tail (orange).",
    )
