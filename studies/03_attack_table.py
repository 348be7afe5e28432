"""Table 1 of Carbone et al. 2020: adversarial accuracy under random signs, FGSM and PGD, published beside measured.

500 images, 250 draws, l_inf (eps is recalled as 0.1), PGD of 15 steps, one restart. FGSM and PGD climb the expected loss, as
the paper's equation 2 says; beside them they climb the averaged prediction's loss and margin, which a correct attack should
try, and the loss in the paper's code, softmax applied twice, whose gradient dies for confident networks. Attacks and scores
look at the same draws, held.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import difference_interval
from bayesrob.evaluation import Results
from bayesrob.report import render
from shared import carbone_2020
from shared.carbone_2020 import PUBLISHED
from shared.study_tools import CHAINS, Scale, chain_figures, chain_note, chain_row, file_name, show, with_interval

IMAGES = 500
"""On how many images each number was measured."""

SIZES: dict[Scale, tuple[int, int, int]] = {"smoke": (30, 20, 20), "small": (500, 250, 500), "paper": (500, 250, 500)}
"""Images, draws attacked, draws that the posteriors have (those of the study vanishing_gradients)."""


def main(
    *,
    scale: Scale = "small",
    out: Path | None = None,
    seed: int = 0,
    eps: float = 0.1,
    posteriors: Path = carbone_2020.POSTERIORS,
) -> None:
    """Train (or load) the posteriors, attack them, compare.

    Parameters
    ----------
    scale
        smoke: seconds, on digits; small: chains on fewer images and narrower networks, minutes on two cores; paper: the
        paper's sizes.
    out
        Folder for results and report; default results/attack_table-SCALE.
    seed
        Fixes data, training, points, draws and attacks.
    eps
        Radius of the l_inf ball in pixels of [0, 1]; the paper's is recalled as 0.1.
    posteriors
        Where trained posteriors are kept (default results/posteriors), to be shared with the study vanishing_gradients.
    """
    out = Path("results") / f"attack_table-{scale}" if out is None else out
    num_points, num_draws, available = SIZES[scale]
    attacks = attacks_at(eps)
    settings = {"scale": scale, "seed": seed, "eps": eps, "test images": num_points, "draws": num_draws}
    settings |= {
        name: ", ".join(f"{key} {value}" for key, value in attack.settings().items()) for name, attack in attacks.items()
    }
    results = Results(out, "attack_table", (__doc__ or "").splitlines()[0], settings)
    trees: dict[str, xr.DataTree] = {}
    made, rows, chains = [], [], []
    for name, recipe in carbone_2020.recipes(scale, available).items():
        print(f"{name}: training, unless it is kept in {posteriors}", flush=True)
        predictive, dataset = recipe.fit(posteriors, seed)
        print(f"{name}: {predictive.info['seconds']:.0f} s of training; attacking", flush=True)
        # One set of draws, attacked and scored, as in the paper; of chains as many of each, or they are chains no more.
        chains_held = getattr(predictive, "num_chains", 1)
        attacked = predictive.freeze(-(-num_draws // chains_held) * chains_held, seed=seed)
        tree = trees[name] = br.evaluate(attacked, dataset, attacks, num_points=num_points, seed=seed)
        results.tree(file_name(name), tree, f"evaluation of {name}")
        made.append({**recipe.row(name, predictive), "draws attacked": str(attacked.num_draws)})
        rows += table(name, tree)
        # Written anew after every posterior: an interrupted run leaves what it had.
        results.table("table_1", pd.DataFrame(rows), TABLE)
        results.table("posteriors", pd.DataFrame(made), "What was trained.")
        if "diagnostics" in tree.children:
            chains.append(chain_row(name, tree))
            results.table("chains", pd.DataFrame(chains), CHAINS)

    beside = compared(trees)
    results.tree("table_1", beside, "published and measured accuracies")
    results.figure("table_1", plots.published(beside), FIGURE)
    results.figure("gradients", plots.gradient_norms(trees), GRADIENTS)
    for name, tree in trees.items():
        results.figure(f"examples_{file_name(name)}", plots.examples(tree, "pgd_margin"), f"{name} under PGD on the margin.")
    for name, tree in trees.items():
        if "diagnostics" in tree.children:
            chain_figures(results, name, tree, "_" + file_name(name))
            results.note(chain_note(name, tree))
    for note in notes(trees):
        results.note(note)
        print(note)
    for name in ("posteriors", "table_1", "chains"):
        if (out / f"{name}.csv").exists():
            show(out / f"{name}.csv")
    print(f"report: {render(results.finish())}")


TABLE = (
    "Accuracy under attack over all test images, also those wrong before it, with 95% Wilson intervals. random, fgsm and "
    "pgd are the paper's columns; pgd climbs the expected loss, the others what their names say. The difference has "
    "Newcombe's interval (both are of a sample of images); at small scale networks and training data are not the paper's."
)
FIGURE = "Measured accuracies with 95% intervals; crosses are the paper's table 1."
GRADIENTS = "Norm of the averaged gradient (solid) and of its Monte Carlo standard error (dotted), share of points below."


def attacks_at(eps: float) -> dict[str, br.attacks.Attack]:
    """The paper's three columns, then other objectives."""
    fgsm, pgd = br.attacks.FGSM(eps=eps), br.attacks.PGD(eps=eps, steps=15)
    return {
        "random": br.attacks.Random(eps=eps),
        "fgsm": fgsm,
        "pgd": pgd,
        "fgsm_predictive": dataclasses.replace(fgsm, objective="predictive_loss"),
        "pgd_predictive": dataclasses.replace(pgd, objective="predictive_loss"),
        "pgd_margin": dataclasses.replace(pgd, objective="margin"),
        "fgsm_double_softmax": dataclasses.replace(fgsm, objective="double_softmax"),
        "pgd_double_softmax": dataclasses.replace(pgd, objective="double_softmax"),
    }


def table(name: str, tree: xr.DataTree) -> list[dict[str, str]]:
    """One line for each attack: published, measured, and how far apart."""
    result = tree["robustness"].to_dataset()
    lines = [{"posterior": name, "attack": "none", "published": "", "measured": ""}]
    lines[0]["measured"] = with_interval(result["accuracy"], result["accuracy_interval"].values)
    lines[0] |= {"published - measured": "", "verdict": ""}
    for attack in result["attack"].values.tolist():
        at = result.sel(attack=attack)
        low, high = at["adversarial_accuracy_interval"].values
        measured = with_interval(at["adversarial_accuracy"], (low, high))
        line = {"posterior": name, "attack": attack, "published": "", "measured": measured, "published - measured": ""}
        printed = PUBLISHED.get(name, {}).get(attack)
        if printed is not None:
            line["published"] = f"{printed:.3f}"
            score, count = float(at["adversarial_accuracy"]), result.attrs["num_points"]
            bounds = difference_interval((round(printed * IMAGES), IMAGES), (round(score * count), count))
            line["published - measured"] = with_interval(printed - score, bounds)
        line["verdict"] = str(at["verdict"].item()) if "verdict" in at else ""
        lines.append(line)
    return lines


def compared(trees: dict[str, xr.DataTree]) -> xr.DataTree:
    """The table as arrays: `measured`, `published` `[row, column]` and `interval`."""
    columns = ["none", *next(iter(trees.values()))["robustness"].to_dataset()["attack"].values.tolist()]
    measured, intervals, printed = [], [], []
    for name, tree in trees.items():
        result = tree["robustness"].to_dataset()
        measured.append(np.append(result["accuracy"].values, result["adversarial_accuracy"].values))
        intervals.append(np.vstack([result["accuracy_interval"].values, result["adversarial_accuracy_interval"].values]))
        printed.append([PUBLISHED.get(name, {}).get(column, np.nan) for column in columns])
    group = xr.Dataset(
        {
            "measured": (("row", "column"), np.array(measured)),
            "published": (("row", "column"), np.array(printed)),
            "interval": (("row", "column", "bound"), np.array(intervals)),
        },
        coords={"row": list(trees), "column": columns, "bound": ["lower", "upper"]},
    )
    return xr.DataTree.from_dict({"table": group})  # pyright: ignore[reportArgumentType]


def notes(trees: dict[str, Any]) -> list[str]:
    """The paper's claim, and whether the number would survive a better attack."""
    found = []
    for name, tree in trees.items():
        result, points = tree["robustness"].to_dataset(), tree["points"].to_dataset()
        accuracy, intervals = result["adversarial_accuracy"], result["adversarial_accuracy_interval"]
        right = points["adversarial_log_probability"].argmax("class") == points["label"]
        random, pgd = (right.sel(attack=attack).values for attack in ("random", "pgd"))
        # Both attacks meet the same images: those that one breaks and the other does not decide (McNemar, exact).
        only_pgd, only_random = int((random & ~pgd).sum()), int((pgd & ~random).sum())
        level = stats.binomtest(only_pgd, only_pgd + only_random).pvalue if only_pgd + only_random else 1.0
        claim = "which is stronger is not to be told"
        if level < 0.05:
            claim = "PGD is stronger" if only_pgd > only_random else "random signs beat PGD, a flag of masked gradients"
        lowest = accuracy.idxmin("attack").item()
        low, high = intervals.sel(attack=lowest).values
        found.append(
            f"{name}, random signs against PGD on the expected loss: {claim} ({random.mean():.3f} and {pgd.mean():.3f} stay "
            f"right; McNemar p = {level:.2g}). PGD with softmax applied twice, as in the paper's code, leaves "
            f"{float(accuracy.sel(attack='pgd_double_softmax')):.3f}. The lowest of the {accuracy.sizes['attack']} attacks, "
            f"{lowest}, leaves {float(accuracy.sel(attack=lowest)):.3f} [{low:.3f}, {high:.3f}]; a stronger one may leave "
            "less."
        )
    return found


if __name__ == "__main__":
    cyclopts.run(main)
