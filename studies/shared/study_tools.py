"""What the studies share: their scales, numbers with intervals in tables, and what a reader must be told about chains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from bayesrob import plots
from bayesrob.analysis import binomial_interval, paired_interval
from bayesrob.evaluation import Results
from bayesrob.predictive import HeldDraws

__all__ = [
    "CHAINS", "VERDICTS", "Scale", "chain_figures", "chain_note", "chain_row", "chains_met", "difference", "file_name",
    "mcnemar", "share", "show", "thinned", "threats", "verdict_row", "with_interval", "worst_case_row",
]  # fmt: skip

Scale = Literal["smoke", "small", "paper"]
"""smoke: seconds, for CI; small: minutes on two cores; paper: the paper's own sizes."""


VERDICTS = (
    "Can each figure be read as robustness, by the cheap checks of an evaluation? br.audit makes all sixteen. Doubtful "
    "because of objectives alone: another attack of the run left less, read the worst case."
)
CHAINS = "Were the posteriors reached? Chains in function space, and beside it in weight space."


def file_name(name: str) -> str:
    """A posterior's name as a file's: MNIST/HMC is MNIST-HMC."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)


def with_interval(value: Any, interval: Any) -> str:
    low, high = (float(bound) for bound in interval)
    return f"{float(value):.3f} [{low:.3f}, {high:.3f}]"


def share(true: np.ndarray) -> str:
    """Of all points, with Wilson's interval."""
    return with_interval(true.mean(), binomial_interval(int(true.sum()), true.size))


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Of two shares of the same points, with Newcombe's paired interval."""
    return with_interval(one.mean() - other.mean(), paired_interval(one, other))


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """The probability of so uneven a split of the points of which only one of two is true, if either were as likely."""
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    return float(stats.binomtest(only_one, only_one + only_other).pvalue) if only_one + only_other else 1.0


def thinned(post: HeldDraws, num_draws: int) -> HeldDraws:
    """Every so many-th draw of each chain, about `num_draws` in all and chains still; all of them if there are no more."""
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


def verdict_row(tree: Any) -> dict[str, str]:
    """By attack, by ball and of the posterior, what the cheap checks say: `VERDICTS` explains the table."""
    scores = tree["robustness"].to_dataset()
    attacks = {name: str(scores["verdict"].sel(attack=name).item()) for name in scores["attack"].values.tolist()}
    balls = {f"worst case, {name}": str(scores["worst_case_verdict"].sel(threat=name).item()) for name in threats(tree)}
    return {**attacks, **balls, "posterior": str(scores["posterior_verdict"].item())}


def worst_case_row(tree: Any) -> dict[str, str]:
    """The figure to believe, and whether it can be: the worst case of all attacks in each ball, with its verdict."""
    scores, row = tree["robustness"].to_dataset().transpose(..., "bound"), {}
    for name in threats(tree):
        at, ball = scores.sel(threat=name), f", {name}" if len(threats(tree)) > 1 else ""
        row[f"worst case{ball}"] = with_interval(at["worst_case_accuracy"], at["worst_case_accuracy_interval"].values)
        row[f"verdict{ball}"] = str(at["worst_case_verdict"].item())
    return row


def threats(tree: Any) -> list[str]:
    return tree["robustness"]["threat"].values.tolist()


def chain_row(name: str, tree: Any) -> dict[str, str]:
    """One line of a table: what the chains did, in function space and, beside it, in weight space."""
    found, stats = tree["diagnostics"].to_dataset(), tree["sample_stats"].to_dataset()
    draws = stats.sizes["draw"]
    return {
        "posterior": name,
        "chains x draws": f"{stats.sizes['chain']} x {draws}",
        "distinct draws by chain": ", ".join(str(n) for n in found["distinct_draws"].values.tolist()),
        "acceptance": f"{float(found['acceptance_rate'].mean()):.2f}",
        "step size": f"{float(found['step_size'].mean()):.2g}",
        "divergent": str(int(found["divergences"].sum())),
        "R-hat log predictive, median and max": _pair(found, "rhat"),
        "bulk ESS, min": f"{float(found['ess_bulk_min']):.0f}",
        "R-hat input gradients, median and max": _pair(found, "gradient_rhat"),
        "R-hat weights, median and max": _pair(found, "weight_rhat"),
    }


def _pair(found: Any, name: str) -> str:
    return f"{float(found[name].median()):.3f}, {float(found[name + '_max']):.3f}"


def chains_met(tree: Any) -> bool:
    """Whether the chains agree on predictions and input gradients at every point looked at (Vehtari et al. 2021)."""
    found = tree["diagnostics"].to_dataset()
    return all(float(found[f"{name}_max"]) <= found.attrs["rhat_threshold"] for name in ("rhat", "gradient_rhat"))


def chain_note(name: str, tree: Any) -> str:
    """A sentence or two: can the chains be believed?"""
    found = tree["diagnostics"].to_dataset()
    ess, enough = float(found["ess_bulk_min"]), found.attrs["ess_threshold"]
    verdict = "the chains agree"
    if not chains_met(tree):
        verdict = "the chains do not agree everywhere, so these figures are of this run, not of the posterior"
    few = "" if ess >= enough else f" Bulk ESS is as low as {ess:.0f}, of {enough:.0f} that Monte Carlo errors ask for."
    return (
        f"{name} in function space, R-hat median and max: log predictive {_pair(found, 'rhat')}; input gradients "
        f"{_pair(found, 'gradient_rhat')}: {verdict}.{few}"
    )


def chain_figures(results: Results, name: str, tree: Any, suffix: str = "") -> None:
    """ArviZ in function space: traces, ranks and effective draws at the points where the chains agree least."""
    where = f"{name}, log probability of the true class at the test points where the chains agree least"
    results.figure(f"chains{suffix}", plots.chains(tree), f"{where}: densities and traces by chain.")
    results.figure(f"ranks{suffix}", plots.ranks(tree), f"{where}: ranks by chain, minus uniform.")
    results.figure(
        f"ess{suffix}",
        plots.effective_draws(tree),
        f"{where}: effective draws against draws, bulk (blue) and tail (orange).",
    )


def show(path: Path) -> None:
    """Print a table as the terminal shows it."""
    with pd.option_context("display.max_columns", None, "display.width", 200, "display.max_colwidth", 60):
        print(pd.read_csv(path, dtype=str, keep_default_na=False).to_string(index=False))
