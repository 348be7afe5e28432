"""Figure 4 of Carbone et al. 2020: is accuracy bought with robustness? Thousands of networks by SGD, HMC and VI.

The paper's grids on two data sets. Draws and epochs are beginnings of one run, and trained once. Robustness is one minus the
largest change of a class's probability, under FGSM and PGD on the mean loss; beside it the reference code's version, whose
attack and score both apply the softmax twice. Correlations over all settings, and over those whose chain moved and that beat
chance: a posterior that never left its start, or predicts one class, is robust to everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr

from bayesrob import plots, sweeps
from bayesrob.analysis import rank_correlation
from bayesrob.sweeps import Grid
from shared.study import Scale, Study
from shared.tables import file_name

REFERENCE = "reference"
"""The name of FGSM on a loss with softmax applied twice; its score applies it twice too where draws are averaged."""

EPS = 0.1

MOVED = 0.1
"""The share of distinct draws above which a chain counts as one that moved."""

CHANCE = 0.2
"""Accuracy above which a classifier of ten classes beats chance beyond doubt (twice it; 100 points)."""

CLAIMS = {
    "SGD": "robustness falls as accuracy grows",
    "HMC": "robustness grows with accuracy",
    "SVI": "robustness falls as accuracy grows",
}


def grids(scale: Scale, data: str, seed: int) -> dict[str, Grid]:
    """The grid of each method. Small: the paper's axes, with narrower networks, fewer points and fewer draws."""
    smoke = scale == "smoke"
    fixed = common(scale, data, seed)
    draws = {"smoke": [2, 4], "small": [25, 50, 75], "paper": [250, 500, 750]}[scale]
    depths, epochs = [1] if smoke else [1, 2, 3], [1, 2] if smoke else [3, 5, 7, 9, 12, 15]
    hmc = {
        "inference.step_size": [0.01, 0.001] if smoke else [0.01, 0.005, 0.001, 0.0001],
        "inference.num_steps": [3] if smoke else [10, 15, 20],
        "inference.num_samples": draws,
    }
    batches = {"smoke": [32], "small": [16, 32, 64, 128], "paper": [128, 256, 512, 1024]}[scale]
    sgd = {"inference.batch_size": batches, "inference.epochs": epochs}
    svi = {
        "inference.lr": [0.01] if smoke else [0.001, 0.005, 0.01, 0.05],
        "inference.epochs": [1, 2] if smoke else [5, 10, 15, 20, 25],
    }
    chains = {"method": "HMC", "warmup": draws[0], "num_chains": 1}
    fitted = {"method": "SVI", "decay": False, "batch_size": 128, "num_draws": draws[0]}
    return {
        "HMC": Grid({**fixed, "inference": chains}, {**networks("HMC", scale, depths), **hmc}),
        "SGD": Grid({**fixed, "inference": {"method": "SGD", "decay": False}}, {**networks("SGD", scale, depths), **sgd}),
        "SVI": Grid({**fixed, "inference": fitted}, {**networks("SVI", scale, [2] if smoke else [2, 3, 4, 5]), **svi}),
    }


def common(scale: Scale, data: str, seed: int) -> dict[str, Any]:
    """What all settings of a data set share: data, architecture, evaluation and seed."""
    counts = {"smoke": {"n_train": 60, "n_test": 30}, "small": {"n_train": 500, "n_test": 100}, "paper": {}}[scale]
    attacks = {
        "FGSM": {"eps": EPS},
        "PGD": {"eps": EPS, "steps": 3 if scale == "smoke" else 10},
        REFERENCE: {"attack": "FGSM", "eps": EPS, "objective": "double_softmax"},
    }
    return {
        "data": {"name": data, **counts},
        "net": {"architecture": "mlp"},
        "evaluation": {"num_points": {"smoke": 20, "small": 100, "paper": 1000}[scale], "attacks": attacks},
        "seed": seed,
    }


WIDTHS = {
    "HMC": {"smoke": [4, 8], "small": [32, 64, 128], "paper": [128, 256, 512]},
    "SGD": {"smoke": [4, 8], "small": [16, 32, 64, 128, 256], "paper": [64, 128, 256, 512, 1024]},
    "SVI": {"smoke": [4, 8], "small": [16, 32, 64, 128], "paper": [64, 128, 256, 512]},
}


def networks(method: str, scale: Scale, depths: list[int]) -> dict[str, list[Any]]:
    """The axes of the network: width, depth and activation."""
    activations = ["relu", "tanh"] if scale == "smoke" else ["relu", "tanh", "sigmoid"]
    return {"net.width": WIDTHS[method][scale], "net.depth": depths, "net.activation": activations}


def main(
    *,
    scale: Scale = "small",
    out: Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    data: list[str] | None = None,
) -> None:
    """Run (or go on with) the sweep, correlate, draw.

    Args:
        scale: smoke: seconds; small: 6,024 settings from 1,392 runs on 500 images, an hour of two cores; paper: its own
            grids, weeks.
        out: Folder of the results, of the report and, below it, of the sweep's cells; default
            results/architecture_sweep-SCALE.
        seed: Fixes data, training, points and attacks.
        workers: Processes; default one a core.
        data: Data sets; default mnist and fashion_mnist (smoke: digits).
    """
    names = data or (["digits"] if scale == "smoke" else ["mnist", "fashion_mnist"])
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings={"data": names}, captions=CAPTIONS,
        printed=("correlations",),
    ) as study:  # fmt: skip
        frames: list[pd.DataFrame] = []
        for name in names:
            by_method, folder = grids(scale, name, seed), study.folder / "sweep" / file_name(name)
            first, *others = by_method.values()
            study.say(f"{name}: {sweeps.plan(first.cells(*others)).describe()}")
            study.say(f"{name}: {sweeps.run(list(by_method.values()), folder, workers=workers)}")
            tree = sweeps.collect(folder)
            study.tree(file_name(name), tree, f"{name}: scores of all settings")
            study.add("correlations", correlations(name, tree))
            study.add("widths", widths(name, tree))
            study.add("runs", [run_row(name, method, grid, tree) for method, grid in by_method.items()])
            study.figure(f"scatter_{file_name(name)}", plots.accuracy_robustness(tree), f"{name}: a dot for each setting.")
            study.figure(f"widths_{file_name(name)}", plots.robustness_by(tree), f"{name}: robustness under FGSM by width.")
            frames.append(cells(name, tree))
            # Without a time stamp: the same cells are the same file.
            gzip = {"method": "gzip", "mtime": 0}
            pd.concat(frames).to_csv(study.folder / "cells.csv.gz", index=False, compression=gzip)
        study.note(*notes(study.rows["correlations"], study.rows["widths"]))


CAPTIONS = {
    "correlations": "Spearman's correlation of accuracy and softmax robustness over settings, 95% bootstrap intervals over "
    f"training runs. 'moved and beats chance': accuracy above {CHANCE:g}, and of chains more than {MOVED:.0%} of the draws "
    "distinct. 'reference': the softmax applied twice in attack and (HMC, SVI) score, as in the reference code.",
    "widths": "Spearman's correlation of the network's width and robustness under FGSM, likewise; and the median by width.",
    "runs": "Settings, training runs and what they took; 'failed' cells are missing from the rest.",
}


def subsets(scores: xr.Dataset) -> dict[str, np.ndarray]:
    """The settings that are correlated, as masks over `cell`: all, and those that moved and beat chance."""
    moved = scores["distinct_draws"] > MOVED * scores["num_draws"]
    good = (scores["accuracy"] > CHANCE) & (moved | scores["distinct_draws"].isnull())
    return {"all": np.ones(scores.sizes["cell"], dtype=bool), "moved and beats chance": good.values}


def scored(method: str, scores: xr.Dataset, attack: str) -> np.ndarray:
    """The robustness by which a method is scored; the reference's score applies the softmax twice to averages of draws."""
    twice = attack == REFERENCE and method != "SGD"
    return scores["resoftmaxed_robustness" if twice else "softmax_robustness"].sel(attack=attack).values


def run_of(scores: xr.Dataset) -> np.ndarray:
    """For each setting a text that all settings of one training run share."""
    ends = ("inference.num_samples", "inference.epochs", "cell")
    names = [str(name) for name in scores.coords if str(name).partition(".")[0] in ("net", "inference") and name not in ends]
    return np.array(["|".join(str(scores[name].values[i]) for name in names) for i in range(scores.sizes["cell"])])


def correlations(data: str, tree: xr.DataTree) -> list[dict[str, str]]:
    """A row for each method, subset and attack: the rank correlation of accuracy and robustness."""
    rows = []
    for method, scores in _groups(tree):
        runs = run_of(scores)
        for which, chosen in subsets(scores).items():
            for attack in scores["attack"].values.tolist():
                score = scored(method, scores, attack)[chosen]
                text = cell(rank_correlation(scores["accuracy"].values[chosen], score, runs[chosen]))
                common = {"data": data, "method": method, "settings": which, "number": str(int(chosen.sum()))}
                rows.append({**common, "attack": attack, "correlation": text})
    return rows


def widths(data: str, tree: xr.DataTree) -> list[dict[str, str]]:
    """A row for each method and subset: the rank correlation of width and robustness."""
    rows = []
    for method, scores in _groups(tree):
        runs = run_of(scores)
        for which, chosen in subsets(scores).items():
            width, score = scores["net.width"].values[chosen], scored(method, scores, "FGSM")[chosen]
            medians = "; ".join(f"{one}: {np.median(score[width == one]):.3f}" for one in sorted(set(width.tolist())))
            text = cell(rank_correlation(width, score, runs[chosen]))
            rows.append({"data": data, "method": method, "settings": which, "correlation": text, "median by width": medians})
    return rows


def cells(data: str, tree: xr.DataTree) -> pd.DataFrame:
    """A row for each setting: what differs between settings, and the scores, rounded to what 100 points can tell."""
    rows = []
    for method, scores in _groups(tree):
        columns = {str(name): scores[name].values for name in scores.coords if str(name).startswith(("net.", "inference."))}
        varied = {name: values for name, values in columns.items() if len(np.unique(values)) > 1}
        frame = pd.DataFrame({"data": data, "method": method, **varied, "accuracy": scores["accuracy"].values.round(4)})
        for attack in scores["attack"].values.tolist():
            frame[f"robustness.{attack}"] = scored(method, scores, attack).round(4)
        frame["distinct_draws"] = scores["distinct_draws"].values
        rows.append(frame)
    return pd.concat(rows)


def run_row(data: str, method: str, grid: Grid, tree: xr.DataTree) -> dict[str, str]:
    """A row for each method: numbers of settings and runs, and their cost."""
    whole = sweeps.plan(grid.cells())
    done = tree[method].to_dataset() if method in tree.children else None
    seconds = 0.0 if done is None else float(done["scoring_seconds"].sum()) + _training(done)
    return {
        "data": data,
        "method": method,
        "settings": str(len(whole.cells)),
        "runs": str(len(whole.runs)),
        "done": str(0 if done is None else done.sizes["cell"]),
        "operations saved by sharing": f"{whole.separate_cost / whole.cost:.2f}x",
        "core seconds": f"{seconds:.0f}",
    }


def _training(done: xr.Dataset) -> float:
    """The seconds of all training runs: of each run those of its last setting."""
    seconds, runs = done["training_seconds"].values, run_of(done)
    return float(sum(seconds[runs == run].max() for run in np.unique(runs)))


def _groups(tree: xr.DataTree) -> Iterable[tuple[str, xr.Dataset]]:
    return [(name, node.to_dataset()) for name, node in tree.children.items()]


def cell(correlation: tuple[float, float, float]) -> str:
    """A correlation with its interval, or "none" where it is not defined."""
    return "none" if np.isnan(correlation[0]) else f"{correlation[0]:+.3f} [{correlation[1]:+.3f}, {correlation[2]:+.3f}]"


def notes(correlations: list[dict[str, str]], by_width: list[dict[str, str]]) -> list[str]:
    """Says whether the published claims appear."""
    said = []
    for row in correlations:
        of, claim, correlation = (
            f"{row['data']}/{row['method']}, {row['settings']}",
            CLAIMS[row["method"]],
            row["correlation"],
        )
        protocol = {"FGSM": "correct FGSM", REFERENCE: "the reference's double softmax"}.get(row["attack"])
        if protocol is not None:
            text = verdict(correlation, +1 if "grows with" in claim else -1)
            said.append(f"{of}, {protocol}: {claim}: {text} ({correlation}).")
    for row in by_width:
        of, correlation = f"{row['data']}/{row['method']}, {row['settings']}", row["correlation"]
        said.append(f"{of}: robustness grows with width: {verdict(correlation, +1)} ({correlation}).")
    return said


def verdict(correlation: str, sign: int) -> str:
    """Whether a correlation has the claimed sign: met, contradicted, or open where its interval holds zero."""
    if correlation == "none":
        return "not measured"
    low, high = (sign * float(end) for end in correlation.partition("[")[2].rstrip("]").split(", "))
    low, high = min(low, high), max(low, high)
    return "met" if low > 0 else "contradicted" if high < 0 else "open"


if __name__ == "__main__":
    cyclopts.run(main)
