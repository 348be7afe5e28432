"""Figures 2 and 3 of Carbone et al. 2020: do averaged input gradients vanish as draws are added, on MNIST and Fashion-MNIST?

Averages over 1, 10, 50, 100, 250 and 500 draws, prefixes of the same draws, of the expected loss (the paper's equation 2),
of the averaged prediction's loss, and of the loss in the paper's code, which applies softmax twice. An average of pure noise
shrinks too, as 1/sqrt(draws), so every norm stands beside its Monte Carlo standard error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyclopts
import pandas as pd
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import mean_cosine, median_interval
from bayesrob.analysis.gradients import NUM_DRAWS
from bayesrob.evaluation import Results, evaluate_gradients
from bayesrob.report import render
from shared import carbone_2020
from shared.study_tools import (
    CHAINS,
    Scale,
    chain_figures,
    chain_note,
    chain_row,
    chains_met,
    file_name,
    show,
    with_interval,
)

SIZES: dict[Scale, tuple[int, int, tuple[int, ...]]] = {
    "smoke": (30, 10, (1, 5, 20)),
    "small": (1000, 200, NUM_DRAWS),
    "paper": (1000, 1000, NUM_DRAWS),
}
"""Test images, how many of them also in float64, and numbers of draws."""


def main(
    *, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = carbone_2020.POSTERIORS
) -> None:
    """Train (or load) the posteriors, average gradients, compare.

    Parameters
    ----------
    scale
        smoke: seconds, on digits; small: chains on fewer images and narrower networks, minutes on two cores; paper: the
        paper's sizes.
    out
        Folder for results and report; default results/vanishing_gradients-SCALE.
    seed
        Fixes data, training, points and draws.
    posteriors
        Where trained posteriors are kept (default results/posteriors), to be shared with the study attack_table.
    """
    out = Path("results") / f"vanishing_gradients-{scale}" if out is None else out
    num_points, num_double, num_draws = SIZES[scale]
    settings = {"scale": scale, "seed": seed, "test images": num_points, "in float64": num_double, "draws": str(num_draws)}
    results = Results(out, "vanishing_gradients", (__doc__ or "").splitlines()[0], settings)
    trees: dict[str, xr.DataTree] = {}
    made, rows, chains = [], [], []
    for name, recipe in carbone_2020.recipes(scale, num_draws[-1]).items():
        print(f"{name}: training, unless it is kept in {posteriors}", flush=True)
        predictive, dataset = recipe.fit(posteriors, seed)
        print(f"{name}: {predictive.info['seconds']:.0f} s of training; gradients", flush=True)
        sizes: dict[str, Any] = {"num_draws": num_draws, "seed": seed}
        gradients = evaluate_gradients(predictive, dataset, num_points, precisions=["float32"], **sizes)
        double = evaluate_gradients(predictive, dataset, num_double, precisions=["float32", "float64"], **sizes)
        evaluation = br.evaluate(predictive, dataset, attacks={}, num_points=num_points, seed=seed)
        trees[name] = joined(gradients, double, evaluation)
        results.tree(file_name(name), trees[name], f"averaged gradients of {name}")
        accuracy = with_interval(evaluation["robustness"]["accuracy"], evaluation["robustness"]["accuracy_interval"].values)
        made.append({**recipe.row(name, predictive), "test accuracy": accuracy})
        rows += table(name, gradients, double)
        # Written anew after every posterior: an interrupted run leaves what it had.
        results.table("claims", pd.DataFrame(claims(trees)), CLAIMS)
        results.table("gradients", pd.DataFrame(rows), TABLE)
        results.table("posteriors", pd.DataFrame(made), "What was trained.")
        if "diagnostics" in evaluation.children:
            chains.append(chain_row(name, evaluation))
            results.table("chains", pd.DataFrame(chains), CHAINS)

    results.figure("figure_3", plots.gradient_components(trees, precision="float32"), COMPONENTS)
    results.figure("decay", plots.gradient_decay(trees, precision="float32"), DECAY)
    for name, tree in trees.items():
        if tree["images"]["input"].ndim == 4:
            results.figure(
                f"figure_2_{file_name(name)}", plots.gradient_images(tree, precision="float32"), f"{name}: {IMAGES}"
            )
    for name, tree in trees.items():
        if "diagnostics" in tree.children:
            chain_figures(results, name, tree, "_" + file_name(name))
            results.note(chain_note(name, tree))
    for line in claims(trees):
        results.note(f"{line['posterior']}: “{line['claim']}”: {line['found']} ({line['measured']}).")
    for name in ("posteriors", "gradients", "claims", "chains"):
        if (out / f"{name}.csv").exists():
            show(out / f"{name}.csv")
    print(f"report: {render(results.finish())}")


TABLE = (
    "Median over test images of the l2 norm of the averaged gradient, by number of draws (with a 95% interval of the median "
    "at the most draws), of its Monte Carlo standard error, of what is left without it, and of single draws' gradients; "
    "mean cosine between the averages of independent batches of draws (zero if their direction is noise), with its 95% "
    "interval over batches; median effective draws of the weights; median relative difference that float64 makes to the "
    "norm, and share of components that are exactly zero in both precisions, over the images that were done in both."
)
CLAIMS = "What the paper says of its figures 2 and 3, and what was measured."
COMPONENTS = (
    "Distribution of all components of the averaged gradient over all test images: bands that hold all, 99%, 90%, half."
)
DECAY = (
    "Median norm of the averaged gradient (solid), its Monte Carlo standard error (dashed), single draws' norm (dotted). "
    "double_softmax_per_draw is the loss in the paper's code."
)
IMAGES = "test images and averaged gradients (expected loss), one colour scale a row; the l2 norm above each."


def joined(gradients: xr.DataTree, double: xr.DataTree, evaluation: xr.DataTree) -> xr.DataTree:
    """One tree of the gradients, in both precisions (`precisions`), and of what says whether to believe the chains."""
    kept = ("robustness", "sample_stats", "log_likelihood", "input_gradients", "posterior", "diagnostics")
    groups = {name: node.to_dataset() for name, node in gradients.children.items()}
    groups["precisions"] = double["statistics"].to_dataset()
    groups |= {name: evaluation[name].to_dataset() for name in kept if name in evaluation.children}
    tree = xr.DataTree.from_dict(groups)  # pyright: ignore[reportArgumentType]
    tree.attrs.update(gradients.attrs)
    return tree


def table(name: str, gradients: xr.DataTree, double: xr.DataTree) -> list[dict[str, str]]:
    """One line for each objective."""
    found = gradients["statistics"].to_dataset().sel(precision="float32")
    both = double["statistics"].to_dataset().isel(num_draws=-1)
    lines = []
    for objective in found["objective"].values.tolist():
        at = found.sel(objective=objective)
        last = at.isel(num_draws=-1)
        line = {"posterior": name, "objective": objective}
        for count in at["num_draws"].values[:-1]:
            line[f"{count} draws" if count > 1 else "1 draw"] = f"{float(at['norm'].sel(num_draws=count).median()):.3g}"
        line[f"{int(last['num_draws'])} draws"] = with_interval(last["norm"].median(), median_interval(last["norm"].values))
        for label, variable in (
            ("standard error", "standard_error"),
            ("without it", "debiased_norm"),
            ("single draws", "draw_norm"),
        ):
            line[label] = f"{float(last[variable].median()):.3g}"
        cosine, *bounds = mean_cosine(last["cosine"])
        line["cosine of batches"] = with_interval(cosine, bounds)
        line["effective draws"] = f"{float(last['effective_draws'].median()):.0f}"
        single, exact = (both.sel(objective=objective, precision=name) for name in ("float32", "float64"))
        rounding = abs(single["norm"] - exact["norm"]) / exact["norm"]
        line["float32 off by"] = f"{float(rounding.median()):.1e}"
        line["exactly zero, float32"] = f"{float(single['zero_fraction'].mean()):.4f}"
        line["exactly zero, float64"] = f"{float(exact['zero_fraction'].mean()):.4f}"
        lines.append(line)
    return lines


def claims(trees: dict[str, Any]) -> list[dict[str, str]]:
    """The paper's three statements about figures 2 and 3, each against the expected loss."""
    lines = []
    for name, tree in trees.items():
        found = tree["statistics"].to_dataset().sel(precision="float32", objective="expected_loss")
        spread = tree["components"]["gradient"].sel(precision="float32", objective="expected_loss")
        width = (spread.sel(quantile=0.995) - spread.sel(quantile=0.005)).values
        draws, last = found["num_draws"].values, found.isel(num_draws=-1)
        norm = found["norm"].median("point").values
        tails, middle = ("narrows" if width[-1] < width[0] else "widens"), ("shrinks" if norm[-1] < norm[0] else "grows")
        lines.append(
            {
                "posterior": name,
                "claim": "components drop towards zero as draws are added",
                "found": f"the range of 99% of them {tails}, the median image's gradient {middle}",
                "measured": f"from {draws[0]} to {draws[-1]} draws: range {width[0]:.3g} to {width[-1]:.3g}, median norm "
                f"{norm[0]:.2g} to {norm[-1]:.2g} (one order of the draws)",
            }
        )
        cosine, low, high = mean_cosine(last["cosine"])
        verdict = "no: the draws agree on a direction" if low > 0 else "cannot be told from noise"
        if "diagnostics" in tree.children and not chains_met(tree):
            verdict += "; of this run: the chains have not met"
        lines.append(
            {
                "posterior": name,
                "claim": "their expectation is close to zero",
                "found": verdict,
                "measured": f"cosine between the averages of independent batches of draws {cosine:.3f}, 95% from {low:.3f} "
                f"to {high:.3f} over batches (0: noise); median norm {_median(last, 'norm', 'standard_error'):.2f} standard "
                f"errors, {_median(last, 'norm', 'draw_norm'):.0%} of a single draw's",
            }
        )
    for data in dict.fromkeys(name.partition("/")[0] for name in trees):
        if f"{data}/HMC" in trees and f"{data}/VI" in trees:
            kept = {method: kept_norm(trees[f"{data}/{method}"]) for method in ("HMC", "VI")}
            lines.append(
                {
                    "posterior": data,
                    "claim": "HMC's gradients drop more quickly than VI's",
                    "found": "not judged: other network, data size and correlation of draws",
                    "measured": "median share of a single draw's norm: "
                    + "; ".join(f"{m} {text}" for m, text in kept.items()),
                }
            )
    return lines


def _median(at: xr.Dataset, above: str, below: str) -> float:
    return float((at[above] / at[below]).median())


def kept_norm(tree: Any) -> str:
    """How much of a single draw's norm averages keep, by number of draws."""
    found = tree["statistics"].to_dataset().sel(precision="float32", objective="expected_loss")
    ratio = (found["norm"] / found["draw_norm"]).median("point")
    return ", ".join(f"{float(value):.2f} at {count}" for count, value in zip(ratio["num_draws"].values, ratio, strict=True))


if __name__ == "__main__":
    cyclopts.run(main)
