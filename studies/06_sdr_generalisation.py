"""Figure 8 and table 1 of Liu & Sha's report on the stochastic delta rule: does it generalise better than plain training?

Best validation accuracy of vanilla Adam, SDR with decaying sigma (at its means), SDR with learnable sigma (one draw) and the
majority vote of its draws, for an MLP on MNIST, a ResNet-18 on CIFAR-10 and an LSTM on sequential MNIST. The best of all
epochs is chosen on the points it is reported on, as in the report: the last epoch's accuracy stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import xarray as xr

from bayesrob import plots
from bayesrob.analysis import binomial_interval, difference_interval, mean_interval
from shared import sdr_runs
from shared.study import POSTERIORS, Scale, Study

PUBLISHED: dict[str, dict[str, float]] = {
    "MLP": {"vanilla": 0.9828, "decay": 0.9827, "learnable": 0.9793, "vote": 0.9839},
    "ResNet-18": {"vanilla": 0.716, "decay": 0.8153, "learnable": 0.7072, "vote": 0.7643},
    "LSTM": {"vanilla": 0.878, "decay": 0.913, "learnable": 0.897, "vote": 0.906},
}
"""Table 1 as printed."""

PRINTED = {"decay 2018": "decay"}
"""The published figure beside which a method stands that the report does not have."""

CURVES = {
    "vanilla": ("vanilla", "accuracy"),
    "decay": ("decay", "means"),
    "decay 2018": ("decay 2018", "means"),
    "learnable": ("learnable", "accuracy"),
    "vote": ("learnable", "vote"),
}
"""The method and the measurement of each curve."""


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) the networks, compare them epoch by epoch.

    Args:
        scale: smoke: seconds, on digits; small: the MLP at full size with three seeds, ResNet-18 on 5,000 images for 3
            epochs, LSTMs on parts of MNIST; paper: the report's sizes, days on a CPU.
        out: Folder for results and report; default results/sdr_generalisation-SCALE.
        seed: Fixes data, training and draws; further networks have the seeds after it.
        posteriors: Folder of trained networks (default results/posteriors), shared with the studies sdr_robustness and
            sdr_variance.
    """
    tasks = sdr_runs.tasks(scale)
    settings = {"optimiser": "Adam, 0.001, batches of 64"} | {name: described(task) for name, task in tasks.items()}
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        curves: dict[str, xr.Dataset] = {}
        for name, task in tasks.items():
            seeds = range(seed, seed + task.num_seeds)
            posts: dict[tuple[str, int], Any] = {}
            for method in ("vanilla", "decay", "decay 2018", "learnable"):
                for one in seeds:
                    study.training(f"{name}/{method}, seed {one}", posteriors)
                    posts[method, one] = sdr_runs.trained(task, method, one, posteriors)
                spent = np.mean([posts[method, one].info["seconds"] for one in seeds])
                study.add("seconds", [{"network": name, "method": method, "seconds, training and watching": f"{spent:.0f}"}])
            curves[name] = gathered(posts, seeds)
            study.add("table_1", table(name, task, curves[name]))
            study.note(
                *(
                    f"{name}/{method}, seed {one}: {note}"
                    for (method, one), post in posts.items()
                    for note in post.info["notes"]
                )
            )
            tree = xr.DataTree.from_dict(curves)
            study.tree("epochs", tree, "accuracies after every epoch")
            study.figure("figure_8", plots.epochs(tree, "validation accuracy"), FIGURE)
            study.note(*notes(name, task, curves[name]))
        study.note(LSTM, *([] if "LSTM" in tasks else [ROWS]))


CAPTIONS = {
    "table_1": "Published beside measured: best accuracy over epochs, and the last epoch's, mean over seeds; 95% intervals, "
    "Student's "
    "over seeds where there are three or more, else Wilson's of one network's points.",
    "seconds": "Wall-clock, a network.",
}
FIGURE = "Accuracy on the test points after every epoch; mean over seeds, band from lowest to highest."
LSTM = (
    "The report's table has an accuracy for the LSTM's learnable variance and its ensemble; its text says that they were "
    "not run."
)
ROWS = (
    "At this scale the LSTM reads rows. Pixel by pixel (784 steps) vanilla and decay were at 0.117 of 1,000 test images "
    "after 3 epochs of 4,000: not above 0.5, so nothing could be compared."
)


def described(task: sdr_runs.Task) -> str:
    """The network, its data and its training in words."""
    return (
        f"{task.described}; {task.n_train or 'all'} training points of {task.data}, {task.n_test:,} test points, "
        f"{task.epochs} epochs, {task.num_seeds} seeds, {task.votes} votes"
    )


def gathered(posts: Any, seeds: range) -> xr.Dataset:
    """Accuracies `value` `[curve, seed, epoch]`, NaN after the epoch at which a run diverged."""
    epochs = np.arange(1, max(len(post.info.get("epochs", [])) for post in posts.values()) + 1)
    values = np.full((len(CURVES), len(seeds), len(epochs)), np.nan)
    for i, (method, key) in enumerate(CURVES.values()):
        for j, one in enumerate(seeds):
            accuracies = [epoch[key] for epoch in posts[method, one].info.get("epochs", [])]
            values[i, j, : len(accuracies)] = accuracies
    return xr.Dataset(
        {"value": (("curve", "seed", "epoch"), values)},
        coords={"curve": list(CURVES), "seed": list(seeds), "epoch": epochs},
    )


def interval(values: np.ndarray, num_points: int) -> tuple[float, float]:
    """The 95% interval of a mean over networks, or of one network's share of points."""
    if len(values) >= 3:
        return mean_interval(values)
    return binomial_interval(round(float(values.mean()) * num_points), num_points)


def table(name: str, task: sdr_runs.Task, curves: xr.Dataset) -> list[dict[str, str]]:
    """A row for each method: the published accuracy and those of the best and of the last epoch."""
    printed, rows = PUBLISHED[name.split()[0]], []
    for curve in CURVES:
        value = curves["value"].sel(curve=curve)
        best, last = value.max("epoch").values, value.isel(epoch=-1).values
        row = {"network": name, "method": curve, "published": f"{printed[PRINTED.get(curve, curve)]:.4f}"}
        for what, values in (("best epoch", best), ("last epoch", last)):
            if np.isnan(values).any():
                row[what] = f"diverged ({int(np.isnan(values).sum())} of {len(values)})"
                continue
            low, high = interval(values, task.n_test)
            row[what] = f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"
        rows.append(row)
    return rows


def notes(name: str, task: sdr_runs.Task, curves: xr.Dataset) -> list[str]:
    """For each published difference: whether it has the published sign, and whether its interval holds zero."""
    printed, texts = PUBLISHED[name.split()[0]], []
    pairs = (
        ("decay", "vanilla"),
        ("decay 2018", "vanilla"),
        ("learnable", "vanilla"),
        ("vote", "learnable"),
        ("vote", "vanilla"),
    )
    for better, worse in pairs:
        one, other = (curves["value"].sel(curve=curve).max("epoch").values for curve in (better, worse))
        if np.isnan(curves["value"].sel(curve=[better, worse])).any():
            texts.append(f"{name}, {better} - {worse}: training diverged, nothing to compare.")
            continue
        difference, low, high = compared(one, other, task.n_test)
        was = printed[PRINTED.get(better, better)] - printed[worse]
        if low <= 0 <= high:
            verdict = "cannot be told from none"
        else:
            verdict = "has the published sign" if (difference > 0) == (was > 0) else "contradicts the published sign"
        texts.append(
            f"{name}, {better} - {worse}: published {was:+.4f}, measured {difference:+.4f} [{low:+.4f}, {high:+.4f}]: "
            f"{verdict}."
        )
    return texts


def compared(one: np.ndarray, other: np.ndarray, num_points: int) -> tuple[float, float, float]:
    """The difference of best accuracies with a 95% interval: over seeds, paired, or of two networks' shares of points."""
    if len(one) >= 3:
        difference = one - other
        return (float(difference.mean()), *interval(difference, num_points))
    first, second = ((round(float(best.mean()) * num_points), num_points) for best in (one, other))
    low, high = difference_interval(first, second)
    return float((one - other).mean()), low, high


if __name__ == "__main__":
    cyclopts.run(main)
