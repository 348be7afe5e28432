"""Figure 4 of Carbone et al. 2020: is accuracy bought with robustness? Thousands of networks by SGD, HMC and VI.

The paper's grids on two data sets. Draws and epochs are beginnings of one run, and trained once. Robustness is one minus the
largest change of a class's probability, under FGSM and PGD on the mean loss; beside it the reference code's version, whose
attack and score both apply the softmax twice. Correlations over all settings, and over those whose chain moved and that beat
chance: a posterior that never left its start, or predicts one class, is robust to everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr

from bayesrob import plots, sweeps
from bayesrob.analysis import rank_correlation
from bayesrob.evaluation import Results
from bayesrob.report import render
from bayesrob.sweeps import Grid
from shared.study_tools import Scale, file_name, show

REFERENCE = "reference"
"""FGSM on the softmax applied twice; its score has it twice as well where the prediction averages draws."""

EPS = 0.1

MOVED = 0.1
"""Of the draws, the share that must be distinct for a chain to count as one that moved."""

CHANCE = 0.2
"""Accuracy above which a classifier of ten classes beats chance beyond doubt (twice it; 100 points)."""

CLAIMS = {
    "SGD": "robustness falls as accuracy grows",
    "HMC": "robustness grows with accuracy",
    "SVI": "robustness falls as accuracy grows",
}


def grids(scale: Scale, data: str, seed: int) -> dict[str, Grid]:
    """By method. Small: the paper's axes, with narrower networks, fewer points and fewer draws."""
    small, smoke = scale == "small", scale == "smoke"
    activations = ["relu", "tanh"] if smoke else ["relu", "tanh", "sigmoid"]
    counts = {"n_train": 60, "n_test": 30} if smoke else {"n_train": 500, "n_test": 100} if small else {}
    points = {"smoke": 20, "small": 100, "paper": 1000}[scale]
    attacks = {
        "FGSM": {"eps": EPS},
        "PGD": {"eps": EPS, "steps": 3 if smoke else 10},
        REFERENCE: {"attack": "FGSM", "eps": EPS, "objective": "double_softmax"},
    }
    fixed = {
        "data": {"name": data, **counts},
        "net": {"architecture": "mlp"},
        "evaluation": {"num_points": points, "attacks": attacks},
        "seed": seed,
    }
    wide = {"smoke": [4, 8], "small": [32, 64, 128], "paper": [128, 256, 512]}[scale]
    draws = {"smoke": [2, 4], "small": [25, 50, 75], "paper": [250, 500, 750]}[scale]
    sgd = {"smoke": [4, 8], "small": [16, 32, 64, 128, 256], "paper": [64, 128, 256, 512, 1024]}[scale]
    vi = {"smoke": [4, 8], "small": [16, 32, 64, 128], "paper": [64, 128, 256, 512]}[scale]
    batches = {"smoke": [32], "small": [16, 32, 64, 128], "paper": [128, 256, 512, 1024]}[scale]
    chains = {"method": "HMC", "warmup": draws[0], "num_chains": 1}
    return {
        "HMC": Grid(
            {**fixed, "inference": chains},
            {
                "net.width": wide,
                "net.depth": [1] if smoke else [1, 2, 3],
                "net.activation": activations,
                "inference.step_size": [0.01, 0.001] if smoke else [0.01, 0.005, 0.001, 0.0001],
                "inference.num_steps": [3] if smoke else [10, 15, 20],
                "inference.num_samples": draws,
            },
        ),
        "SGD": Grid(
            {**fixed, "inference": {"method": "SGD", "decay": False}},
            {
                "net.width": sgd,
                "net.depth": [1] if smoke else [1, 2, 3],
                "net.activation": activations,
                "inference.batch_size": batches,
                "inference.epochs": [1, 2] if smoke else [3, 5, 7, 9, 12, 15],
            },
        ),
        "SVI": Grid(
            {**fixed, "inference": {"method": "SVI", "decay": False, "batch_size": 128, "num_draws": draws[0]}},
            {
                "net.width": vi,
                "net.depth": [2] if smoke else [2, 3, 4, 5],
                "net.activation": activations,
                "inference.lr": [0.01] if smoke else [0.001, 0.005, 0.01, 0.05],
                "inference.epochs": [1, 2] if smoke else [5, 10, 15, 20, 25],
            },
        ),
    }


def main(
    *,
    scale: Scale = "small",
    out: Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    data: list[str] | None = None,
) -> None:
    """Run (or go on with) the sweep, correlate, draw.

    Parameters
    ----------
    scale
        smoke: seconds; small: 6,024 settings from 1,392 runs on 500 images, an hour of two cores; paper: its own grids,
        weeks.
    out
        Folder of the results, of the report and, below it, of the sweep's cells; default results/architecture_sweep-SCALE.
    seed
        Fixes data, training, points and attacks.
    workers
        Processes; default one a core.
    data
        Sets; default mnist and fashion_mnist (smoke: digits).
    """
    out = Path("results") / f"architecture_sweep-{scale}" if out is None else out
    names = data or (["digits"] if scale == "smoke" else ["mnist", "fashion_mnist"])
    results = Results(
        out, "architecture_sweep", (__doc__ or "").splitlines()[0], {"scale": scale, "seed": seed, "data": names}
    )
    tables: dict[str, list[dict[str, str]]] = {"correlations": [], "widths": [], "runs": []}
    frames: list[pd.DataFrame] = []
    for name in names:
        of = grids(scale, name, seed)
        first, *others = of.values()
        whole = sweeps.plan(first.cells(*others))
        print(f"{name}: {whole.describe()}", flush=True)
        print(f"{name}: {sweeps.run(list(of.values()), out / 'sweep' / file_name(name), workers=workers)}", flush=True)
        tree = sweeps.collect(out / "sweep" / file_name(name))
        results.tree(file_name(name), tree, f"{name}: scores of all settings")
        tables["correlations"] += correlations(name, tree)
        tables["widths"] += widths(name, tree)
        tables["runs"] += [run_row(name, method, grid, tree) for method, grid in of.items()]
        for table, rows in tables.items():
            results.table(table, pd.DataFrame(rows), CAPTIONS[table])
        results.figure(f"scatter_{file_name(name)}", plots.accuracy_robustness(tree), f"{name}: a dot for each setting.")
        results.figure(f"widths_{file_name(name)}", plots.robustness_by(tree), f"{name}: robustness under FGSM by width.")
        frames.append(cells(name, tree))
        # Without a time stamp: the same cells are the same file.
        pd.concat(frames).to_csv(out / "cells.csv.gz", index=False, compression={"method": "gzip", "mtime": 0})
    for note in notes(tables["correlations"], tables["widths"]):
        results.note(note)
        print(note, flush=True)
    show(out / "correlations.csv")
    print(f"report: {render(results.finish())}")


CAPTIONS = {
    "correlations": "Spearman's correlation of accuracy and softmax robustness over settings, 95% bootstrap intervals over "
    f"training runs. 'moved and beats chance': accuracy above {CHANCE:g}, and of chains more than {MOVED:.0%} of the draws "
    "distinct. 'reference': the softmax applied twice in attack and (HMC, SVI) score, as in the reference code.",
    "widths": "Spearman's correlation of the network's width and robustness under FGSM, likewise; and the median by width.",
    "runs": "Settings, training runs and what they took; 'failed' cells are missing from the rest.",
}


def kept(found: xr.Dataset) -> dict[str, np.ndarray]:
    """Which settings are looked at."""
    moved = found["distinct_draws"] > MOVED * found["num_draws"]
    good = (found["accuracy"] > CHANCE) & (moved | found["distinct_draws"].isnull())
    return {"all": np.ones(found.sizes["cell"], dtype=bool), "moved and beats chance": good.values}


def scored(method: str, found: xr.Dataset, attack: str) -> np.ndarray:
    twice = attack == REFERENCE and method != "SGD"
    return found["resoftmaxed_robustness" if twice else "softmax_robustness"].sel(attack=attack).values


def run_of(found: xr.Dataset) -> np.ndarray:
    """What settings of one training run have in common."""
    ends = ("inference.num_samples", "inference.epochs", "cell")
    names = [str(name) for name in found.coords if str(name).partition(".")[0] in ("net", "inference") and name not in ends]
    return np.array(["|".join(str(found[name].values[i]) for name in names) for i in range(found.sizes["cell"])])


def correlations(data: str, tree: xr.DataTree) -> list[dict[str, str]]:
    rows = []
    for method, found in _groups(tree):
        runs = run_of(found)
        for which, rows_kept in kept(found).items():
            for attack in found["attack"].values.tolist():
                score = scored(method, found, attack)[rows_kept]
                text = cell(rank_correlation(found["accuracy"].values[rows_kept], score, runs[rows_kept]))
                common = {"data": data, "method": method, "settings": which, "number": str(int(rows_kept.sum()))}
                rows.append({**common, "attack": attack, "correlation": text})
    return rows


def widths(data: str, tree: xr.DataTree) -> list[dict[str, str]]:
    rows = []
    for method, found in _groups(tree):
        runs = run_of(found)
        for which, rows_kept in kept(found).items():
            width, score = found["net.width"].values[rows_kept], scored(method, found, "FGSM")[rows_kept]
            medians = "; ".join(f"{one}: {np.median(score[width == one]):.3f}" for one in sorted(set(width.tolist())))
            text = cell(rank_correlation(width, score, runs[rows_kept]))
            rows.append({"data": data, "method": method, "settings": which, "correlation": text, "median by width": medians})
    return rows


def cells(data: str, tree: xr.DataTree) -> pd.DataFrame:
    """A row for each setting: what differs between settings, and the scores, rounded to what 100 points can tell."""
    rows = []
    for method, found in _groups(tree):
        columns = {str(name): found[name].values for name in found.coords if str(name).startswith(("net.", "inference."))}
        varied = {name: values for name, values in columns.items() if len(np.unique(values)) > 1}
        frame = pd.DataFrame({"data": data, "method": method, **varied, "accuracy": found["accuracy"].values.round(4)})
        for attack in found["attack"].values.tolist():
            frame[f"robustness.{attack}"] = scored(method, found, attack).round(4)
        frame["distinct_draws"] = found["distinct_draws"].values
        rows.append(frame)
    return pd.concat(rows)


def run_row(data: str, method: str, grid: Grid, tree: xr.DataTree) -> dict[str, str]:
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
    """Of each run that of its last setting."""
    seconds, runs = done["training_seconds"].values, run_of(done)
    return float(sum(seconds[runs == run].max() for run in np.unique(runs)))


def _groups(tree: xr.DataTree) -> Iterable[tuple[str, xr.Dataset]]:
    return [(name, node.to_dataset()) for name, node in tree.children.items()]


def cell(found: tuple[float, float, float]) -> str:
    return "none" if np.isnan(found[0]) else f"{found[0]:+.3f} [{found[1]:+.3f}, {found[2]:+.3f}]"


def notes(correlations: list[dict[str, str]], by_width: list[dict[str, str]]) -> list[str]:
    """Do the published claims appear? A sign counts where the interval leaves no doubt."""
    said = []
    for row in correlations:
        of, claim, found = f"{row['data']}/{row['method']}, {row['settings']}", CLAIMS[row["method"]], row["correlation"]
        protocol = {"FGSM": "correct FGSM", REFERENCE: "the reference's double softmax"}.get(row["attack"])
        if protocol is not None:
            text = verdict(found, +1 if "grows with" in claim else -1)
            said.append(f"{of}, {protocol}: {claim}: {text} ({found}).")
    for row in by_width:
        of, found = f"{row['data']}/{row['method']}, {row['settings']}", row["correlation"]
        said.append(f"{of}: robustness grows with width: {verdict(found, +1)} ({found}).")
    return said


def verdict(correlation: str, sign: int) -> str:
    if correlation == "none":
        return "not measured"
    low, high = (sign * float(end) for end in correlation.partition("[")[2].rstrip("]").split(", "))
    low, high = min(low, high), max(low, high)
    return "met" if low > 0 else "contradicted" if high < 0 else "open"


if __name__ == "__main__":
    cyclopts.run(main)
