"""Table 1 of Carbone et al. 2020: adversarial accuracy under random signs, FGSM and PGD, published beside measured.

500 images, 250 draws, l_inf (eps is recalled as 0.1), PGD of 15 steps, one restart. FGSM and PGD climb the expected loss, as
the paper's equation 2 says; beside them they climb the averaged prediction's loss and margin, which a correct attack should
try, and the loss in the paper's code, softmax applied twice, whose gradient dies for confident networks. Attacks and scores
use the same draws, held.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import difference_interval
from shared import carbone_2020
from shared.carbone_2020 import PUBLISHED
from shared.chains import CHAINS, chain_figures, chain_note, chain_row
from shared.study import POSTERIORS, Scale, Study
from shared.tables import estimate, file_name, mcnemar, right_after, with_interval

IMAGES = 500
"""Number of images on which each published number was measured."""

SIZES: dict[Scale, tuple[int, int, int]] = {"smoke": (30, 20, 20), "small": (500, 250, 500), "paper": (500, 250, 500)}
"""Images, draws attacked, draws that the posteriors have (those of the study vanishing_gradients)."""


def main(
    *, scale: Scale = "small", out: Path | None = None, seed: int = 0, eps: float = 0.1, posteriors: Path = POSTERIORS
) -> None:
    """Train (or load) the posteriors, attack them, compare.

    Args:
        scale: smoke: seconds, on digits; small: chains on fewer images and narrower networks, minutes on two cores; paper:
            the paper's sizes.
        out: Folder for results and report; default results/attack_table-SCALE.
        seed: Fixes data, training, points, draws and attacks.
        eps: Radius of the l_inf ball in pixels of [0, 1]; the paper's is recalled as 0.1.
        posteriors: Folder of trained posteriors (default results/posteriors), shared with the study vanishing_gradients.
    """
    num_points, num_draws, available = SIZES[scale]
    attacks = attacks_at(eps)
    settings = {"eps": eps, "test images": num_points, "draws": num_draws}
    settings |= {
        name: ", ".join(f"{key} {value}" for key, value in attack.settings().items()) for name, attack in attacks.items()
    }
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        trees: dict[str, xr.DataTree] = {}
        for name, recipe in carbone_2020.recipes(scale, available).items():
            study.training(f"{name}", posteriors)
            predictive, dataset = recipe.fit(posteriors, seed)
            study.say(f"{name}: {predictive.info['seconds']:.0f} s of training; attacking")
            # One set of draws, attacked and scored, as in the paper; of chains as many of each, or they are chains no more.
            num_chains = getattr(predictive, "num_chains", 1)
            attacked = predictive.freeze(-(-num_draws // num_chains) * num_chains, seed=seed)
            tree = trees[name] = br.evaluate(attacked, dataset, attacks, num_points=num_points, seed=seed)
            study.tree(file_name(name), tree, f"evaluation of {name}")
            study.add("table_1", table(name, tree))
            study.add("posteriors", [{**recipe.row(name, predictive), "draws attacked": str(attacked.num_draws)}])
            if "diagnostics" in tree.children:
                study.add("chains", [chain_row(name, tree)])
        study.tree("table_1", compared(trees), "published and measured accuracies")
        figures(study, trees)
        study.note(*notes(trees))


def figures(study: Study, trees: dict[str, xr.DataTree]) -> None:
    """Save the figures of all posteriors and of each, and what is to be said of the chains."""
    study.figure("table_1", plots.published(compared(trees)), FIGURE)
    study.figure("gradients", plots.gradient_norms(trees), GRADIENTS)
    for name, tree in trees.items():
        study.figure(f"examples_{file_name(name)}", plots.examples(tree, "pgd_margin"), f"{name} under PGD on the margin.")
    for name, tree in trees.items():
        if "diagnostics" in tree.children:
            chain_figures(study, name, tree, "_" + file_name(name))
            study.note(chain_note(name, tree))


CAPTIONS = {
    "table_1": "Accuracy under attack over all test images, also those wrong before it, with 95% Wilson intervals. random, "
    "fgsm and "
    "pgd are the paper's columns; pgd climbs the expected loss, the others what their names say. The difference has "
    "Newcombe's interval (both are of a sample of images); at small scale networks and training data are not the paper's.",
    "posteriors": "What was trained.",
    "chains": CHAINS,
}
FIGURE = "Measured accuracies with 95% intervals; crosses are the paper's table 1."
GRADIENTS = "Norm of the averaged gradient (solid) and of its Monte Carlo standard error (dotted), share of points below."


def attacks_at(eps: float) -> dict[str, br.attacks.Attack]:
    """The attacks of the paper's three columns, then the same on other objectives."""
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
    """One row for each attack: the published accuracy, the measured one, and their difference."""
    result = tree["robustness"].to_dataset()
    lines = [{"posterior": name, "attack": "none", "published": "", "measured": ""}]
    lines[0]["measured"] = estimate(result, "accuracy")
    lines[0] |= {"published - measured": "", "verdict": ""}
    for attack in result["attack"].values.tolist():
        at = result.sel(attack=attack)
        measured = estimate(at, "adversarial_accuracy")
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
    """The table as arrays: `measured` and `published` `[row, column]`, and `interval` `[row, column, bound]`."""
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
    """The paper's claim for each posterior, and the strongest of the attacks."""
    texts = []
    for name, tree in trees.items():
        result, right = tree["robustness"].to_dataset(), right_after(tree)
        accuracy, intervals = result["adversarial_accuracy"], result["adversarial_accuracy_interval"]
        random, pgd = (right.sel(attack=attack).values for attack in ("random", "pgd"))
        # Both attacks meet the same images: those that one breaks and the other does not decide (McNemar, exact).
        only_pgd, only_random = int((random & ~pgd).sum()), int((pgd & ~random).sum())
        level = mcnemar(random, pgd)
        claim = "which is stronger is not to be told"
        if level < 0.05:
            claim = "PGD is stronger" if only_pgd > only_random else "random signs beat PGD, a flag of masked gradients"
        lowest = accuracy.idxmin("attack").item()
        low, high = intervals.sel(attack=lowest).values
        texts.append(
            f"{name}, random signs against PGD on the expected loss: {claim} ({random.mean():.3f} and {pgd.mean():.3f} stay "
            f"right; McNemar p = {level:.2g}). PGD with softmax applied twice, as in the paper's code, leaves "
            f"{float(accuracy.sel(attack='pgd_double_softmax')):.3f}. The lowest of the {accuracy.sizes['attack']} attacks, "
            f"{lowest}, leaves {float(accuracy.sel(attack=lowest)):.3f} [{low:.3f}, {high:.3f}]; a stronger one may leave "
            "less."
        )
    return texts


if __name__ == "__main__":
    cyclopts.run(main)
