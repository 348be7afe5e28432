"""Figures 2 and 3 of Carbone et al. 2020: do averaged input gradients vanish as draws are added, on MNIST and Fashion-MNIST?

Averages over 1, 10, 50, 100, 250 and 500 draws, prefixes of the same draws, of the expected loss (the paper's equation 2),
of the averaged prediction's loss, and of the loss in the paper's code, which applies softmax twice. An average of pure noise
shrinks too, as 1/sqrt(draws), so every norm stands beside its Monte Carlo standard error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyclopts
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import mean_cosine, median_interval
from bayesrob.analysis.gradients import NUM_DRAWS
from bayesrob.evaluation import evaluate_gradients
from shared import carbone_2020
from shared.chains import CHAINS, chain_figures, chain_note, chain_row, chains_met
from shared.study import POSTERIORS, Scale, Study
from shared.tables import estimate, file_name, with_interval

SIZES: dict[Scale, tuple[int, int, tuple[int, ...]]] = {
    "smoke": (30, 10, (1, 5, 20)),
    "small": (1000, 200, NUM_DRAWS),
    "paper": (1000, 1000, NUM_DRAWS),
}
"""Test images, how many of them also in float64, and numbers of draws."""


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) the posteriors, average gradients, compare.

    Args:
        scale: smoke: seconds, on digits; small: chains on fewer images and narrower networks, minutes on two cores; paper:
            the paper's sizes.
        out: Folder for results and report; default results/vanishing_gradients-SCALE.
        seed: Fixes data, training, points and draws.
        posteriors: Folder of trained posteriors (default results/posteriors), shared with the study attack_table.
    """
    num_points, num_double, num_draws = SIZES[scale]
    settings = {"test images": num_points, "in float64": num_double, "draws": str(num_draws)}
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        trees: dict[str, xr.DataTree] = {}
        for name, recipe in carbone_2020.recipes(scale, num_draws[-1]).items():
            study.training(f"{name}", posteriors)
            predictive, dataset = recipe.fit(posteriors, seed)
            study.say(f"{name}: {predictive.info['seconds']:.0f} s of training; gradients")
            sizes: dict[str, Any] = {"num_draws": num_draws, "seed": seed}
            gradients = evaluate_gradients(predictive, dataset, num_points, precisions=["float32"], **sizes)
            double = evaluate_gradients(predictive, dataset, num_double, precisions=["float32", "float64"], **sizes)
            evaluation = br.evaluate(predictive, dataset, attacks={}, num_points=num_points, seed=seed)
            trees[name] = joined(gradients, double, evaluation)
            study.tree(file_name(name), trees[name], f"averaged gradients of {name}")
            accuracy = estimate(evaluation["robustness"].to_dataset(), "accuracy")
            study.table("claims", claims(trees))
            study.add("gradients", table(name, gradients, double))
            study.add("posteriors", [{**recipe.row(name, predictive), "test accuracy": accuracy}])
            if "diagnostics" in evaluation.children:
                study.add("chains", [chain_row(name, evaluation)])
        figures(study, trees)
        for line in claims(trees):
            study.note(f"{line['posterior']}: “{line['claim']}”: {line['found']} ({line['measured']}).")


def figures(study: Study, trees: dict[str, xr.DataTree]) -> None:
    """Save the figures of all posteriors and of each, and what is to be said of the chains."""
    study.figure("figure_3", plots.gradient_components(trees, precision="float32"), COMPONENTS)
    study.figure("decay", plots.gradient_decay(trees, precision="float32"), DECAY)
    for name, tree in trees.items():
        if tree["images"]["input"].ndim == 4:
            images = plots.gradient_images(tree, precision="float32")
            study.figure(f"figure_2_{file_name(name)}", images, f"{name}: {IMAGES}")
    for name, tree in trees.items():
        if "diagnostics" in tree.children:
            chain_figures(study, name, tree, "_" + file_name(name))
            study.note(chain_note(name, tree))


CAPTIONS = {
    "claims": "What the paper says of its figures 2 and 3, and what was measured.",
    "gradients": "Median over test images of the l2 norm of the averaged gradient, by number of draws (with a 95% interval "
    "of the median "
    "at the most draws), of its Monte Carlo standard error, of what is left without it, and of single draws' gradients; "
    "mean cosine between the averages of independent batches of draws (zero if their direction is noise), with its 95% "
    "interval over batches; median effective draws of the weights; median relative difference that float64 makes to the "
    "norm, and share of components that are exactly zero in both precisions, over the images that were done in both.",
    "posteriors": "What was trained.",
    "chains": CHAINS,
}
COMPONENTS = (
    "Distribution of all components of the averaged gradient over all test images: bands that hold all, 99%, 90%, half."
)
DECAY = (
    "Median norm of the averaged gradient (solid), its Monte Carlo standard error (dashed), single draws' norm (dotted). "
    "double_softmax_per_draw is the loss in the paper's code."
)
IMAGES = "test images and averaged gradients (expected loss), one colour scale a row; the l2 norm above each."


def joined(gradients: xr.DataTree, double: xr.DataTree, evaluation: xr.DataTree) -> xr.DataTree:
    """One tree of the averaged gradients, in both precisions (`precisions`), and of what says whether the chains agree."""
    evaluated = ("robustness", "sample_stats", "log_likelihood", "input_gradients", "posterior", "diagnostics")
    groups = {name: node.to_dataset() for name, node in gradients.children.items()}
    groups["precisions"] = double["statistics"].to_dataset()
    groups |= {name: evaluation[name].to_dataset() for name in evaluated if name in evaluation.children}
    tree = xr.DataTree.from_dict(groups)  # pyright: ignore[reportArgumentType]
    tree.attrs.update(gradients.attrs)
    return tree


def table(name: str, gradients: xr.DataTree, double: xr.DataTree) -> list[dict[str, str]]:
    """One row for each objective."""
    statistics = gradients["statistics"].to_dataset().sel(precision="float32")
    both = double["statistics"].to_dataset().isel(num_draws=-1)
    lines = []
    for objective in statistics["objective"].values.tolist():
        at = statistics.sel(objective=objective)
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
        statistics = tree["statistics"].to_dataset().sel(precision="float32", objective="expected_loss")
        spread = tree["components"]["gradient"].sel(precision="float32", objective="expected_loss")
        width = (spread.sel(quantile=0.995) - spread.sel(quantile=0.005)).values
        draws, last = statistics["num_draws"].values, statistics.isel(num_draws=-1)
        norm = statistics["norm"].median("point").values
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
            shares = {method: share_of_single_draws(trees[f"{data}/{method}"]) for method in ("HMC", "VI")}
            lines.append(
                {
                    "posterior": data,
                    "claim": "HMC's gradients drop more quickly than VI's",
                    "found": "not judged: other network, data size and correlation of draws",
                    "measured": "median share of a single draw's norm: "
                    + "; ".join(f"{m} {text}" for m, text in shares.items()),
                }
            )
    return lines


def _median(at: xr.Dataset, above: str, below: str) -> float:
    return float((at[above] / at[below]).median())


def share_of_single_draws(tree: Any) -> str:
    """The median share of a single draw's gradient norm that is left in averages, by number of draws."""
    statistics = tree["statistics"].to_dataset().sel(precision="float32", objective="expected_loss")
    ratio = (statistics["norm"] / statistics["draw_norm"]).median("point")
    return ", ".join(f"{float(value):.2f} at {count}" for count, value in zip(ratio["num_draws"].values, ratio, strict=True))


if __name__ == "__main__":
    cyclopts.run(main)
