"""Do robust networks' gradients, large-eps adversarial examples and ways towards them look like what they stand for?

Figures 6, 7 and 8 of the slides on "Robustness may be at odds with accuracy" (Tsipras et al. 2019): pictures without
numbers, of plain and robust networks; here also Bayesian ones. Beside each picture a number by which its claim can fail.
Gradients: their cosine with the image and with the difference of two class means, against that with another point's. Large-
eps examples: does a classifier that was trained apart, plain or robust, or do the nearest training images, call them by the
class that the network does? Interpolation: where on the straight way do the network and the judges change their minds, and
is there any third class between? MNIST and a small part of CIFAR-10. Restricted ImageNet, the slides' third set, is left
out: too large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

import bayesrob as br
from bayesrob import plots, rng
from bayesrob.analysis import mean_interval, median_interval
from bayesrob.attacks import PGD
from bayesrob.evaluation import Results
from bayesrob.predictive import Predictive
from bayesrob.report import render
from shared.semantic_pictures import WAY, chosen, grid, strip, way
from shared.semantic_tasks import Task, classes, judges, tasks, trained
from shared.study_tools import Scale, file_name, share, show, with_interval

POSTERIORS = Path("results") / "posteriors"
"""Where the studies keep what they have trained, unless told otherwise."""

Judges = Mapping[str, Callable[[Tensor], Tensor]]


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) networks and judges, take gradients, attack with a large eps, walk towards what was found.

    Parameters
    ----------
    scale
        smoke: seconds, on digits; small: MLPs on MNIST and a narrow ResNet on 2,000 CIFAR-10 images, minutes on one core;
        paper: convolutional networks on all images, a day.
    out
        Folder for results and report; default results/semantic_gradients-SCALE.
    seed
        Fixes data, training, draws and attacks.
    posteriors
        Where trained networks are kept (default results/posteriors).
    """
    out = Path("results") / f"semantic_gradients-{scale}" if out is None else out
    settings: dict[str, Any] = {"scale": scale, "seed": seed}
    for name, task in tasks(scale).items():
        settings[name] = (
            f"{task.described}; {task.n_train or 'all'} training points, {task.epochs} epochs, trained in l_inf "
            f"{task.eps:.3g} by PGD of {task.steps} steps; {task.num_points} points, {task.draws} draws; "
            f"attacked at {task.large}"
        )
    results = Results(out, "semantic_gradients", (__doc__ or "").splitlines()[0], settings)
    tables: dict[str, list[dict[str, str]]] = {"gradients": [], "large": [], "ways": []}
    for name, task in tasks(scale).items():
        look(results, name, task, tables, seed, posteriors)
    for table in tables:
        show(out / f"{table}.csv")
    print(f"report: {render(results.finish())}")


def look(results: Results, name: str, task: Task, tables: dict[str, list[dict[str, str]]], seed: int, folder: Path) -> None:
    """Everything of one data set; tables are written anew after each network."""
    dataset, called = task.dataset(seed), judges(task, seed, folder)
    x, y = dataset.x_test, dataset.y_test
    gradients: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    guesses: dict[str, Tensor] = {}
    for network in task.networks:
        post = trained(task, network, seed, folder)
        print(f"{name}/{network}: {post.info['seconds']:.0f} s of training; looking", flush=True)
        draws = task.draws if post.num_draws > 1 else None
        tree = br.evaluate(
            post, dataset, {"PGD": PGD(eps=task.eps, steps=20, num_draws=draws)}, num_points=None, seed=seed, num_draws=draws
        )
        results.tree(file_name(f"{name}-{network}"), tree, f"evaluation of {name}/{network} at the eps of training")
        gradients[network] = -post.input_gradient(x, y, num_draws=draws, seed=rng.derive(seed, "study", "gradient"))
        found = alignment(gradients[network], dataset, runner_up(tree, y), seed)
        results.tree(file_name(f"{name}-{network}-cosines"), xr.DataTree(found), f"cosines of {name}/{network}")
        scores = tree["robustness"].to_dataset()
        accuracy = {"clean": scores["accuracy"], f"PGD {task.eps:.3g}": scores["adversarial_accuracy"].sel(attack="PGD")}
        head = {"network": f"{name}/{network}"}
        tables["gradients"].append(
            {**head, **{key: f"{float(v):.3f}" for key, v in accuracy.items()}, **cosine_cells(found)}
        )
        for label, attack in task.attacks(draws).items():
            moved = attack(post, x, y, seed=seed).detach()
            mine = classes(post, moved, draws, rng.derive(seed, "study", "class"))
            verdicts = {judge: call(moved) for judge, call in called.items()}
            before = {judge: call(x) == y for judge, call in called.items()}
            tables["large"].append({**head, "attack": label, **large_cells(y, mine, verdicts, before)})
            walk = walked(post, x, moved, mine, y, called, draws, seed)
            results.tree(
                file_name(f"{name}-{network}-{label}"), xr.DataTree(walk), f"{name}/{network}, {label}, and the way there"
            )
            tables["ways"].append({**head, "attack": label, **way_cells(walk)})
            made[network], guesses[network] = moved, mine  # of the last attack, for pictures
        for table, caption in (("gradients", GRADIENTS), ("large", LARGE), ("ways", WAYS)):
            results.table(table, pd.DataFrame(tables[table]), caption)
    shown = chosen(y)
    last = list(task.attacks(None))[-1]
    figures = {
        "gradients": (grid(x, y, shown, gradients, None), "image and descent direction of the loss, each on its own scale."),
        "large": (grid(x, y, shown, made, guesses), f"image and each network's example of {last}, with what it calls it."),
        "ways": (strip(x, made, guesses, y, shown[0]), f"the way from an image to each network's example of {last}."),
    }
    for figure, (tree, caption) in figures.items():
        results.figure(f"{figure}_{file_name(name)}", plots.pictures(tree), f"{name}: {caption}")
    for note in notes(name, tables, task):
        results.note(note)
        print(note, flush=True)


# ---- gradients -----------------------------------------------------------------------------------------------------------

GRADIENTS = (
    "Accuracy, clean and under PGD at the eps of training; cosines of the descent direction of the loss (of random networks "
    "averaged over draws) with the image less the mean image, and with the mean image of the true class less that of the "
    "runner-up. 'own less other': less the cosine with another point's. Means over points with 95% t intervals."
)


def cosine(a: Tensor, b: Tensor) -> np.ndarray:
    """Between rows, in float64; NaN where one of them is zero."""
    one, other = (
        rows / torch.where(norm > 0, norm, torch.nan)
        for rows in (v.flatten(1).double() for v in (a, b))
        for norm in [rows.norm(dim=1, keepdim=True)]
    )
    return (one * other).sum(1).numpy()


def runner_up(tree: xr.DataTree, y: Tensor) -> Tensor:
    """The likeliest class but the true one."""
    log_p = torch.tensor(tree["points"].to_dataset()["log_probability"].values)
    return log_p.scatter(1, y[:, None], -torch.inf).argmax(1)


def alignment(descent: Tensor, dataset: br.Dataset, rival: Tensor, seed: int) -> xr.Dataset:
    """Cosines `[what, whose, point]` with the point's own image and class means, and with another point's.

    Which other is drawn from the seed, once for all; nobody gets itself.
    """
    x, y = dataset.x_test, dataset.y_test
    means = torch.stack([dataset.x_train[dataset.y_train == c].mean(0) for c in range(dataset.out_features)])
    order = torch.randperm(len(x), generator=rng.generator(seed, "study", "others"))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    targets = {"image": x - dataset.x_train.mean(0), "class means": means[y] - means[rival]}
    values = [[cosine(descent, target), cosine(descent, target[other])] for target in targets.values()]
    return xr.Dataset(
        {"cosine": (("what", "whose", "point"), np.array(values)), "other": ("point", other.numpy())},
        coords={"what": list(targets), "whose": ["own", "other"]},
    )


def cosine_cells(found: xr.Dataset) -> dict[str, str]:
    cells = {}
    known = found["cosine"].dropna("point")
    for what in known["what"].values.tolist():
        own, other = (known.sel(what=what, whose=whose).values for whose in ("own", "other"))
        cells[what] = with_interval(own.mean(), mean_interval(own))
        cells[f"{what}, own less other"] = with_interval((own - other).mean(), mean_interval(own - other))
    return {**cells, "gradients of zero": str(found.sizes["point"] - known.sizes["point"])}


# ---- large eps -----------------------------------------------------------------------------------------------------------

LARGE = (
    "PGD far beyond the eps of training. 'fooled': points that the network calls by another class than their own. Then, of "
    "those that the judge gets right without attack: the share that it calls by the network's new class (95% Wilson "
    "intervals), and 'by chance' that share if new classes were dealt to the points anew."
)


def agreement(new: np.ndarray, verdict: np.ndarray) -> tuple[np.ndarray, float]:
    """Where two classifications agree, and how often they would if one were dealt anew: sum_c p_new(c) p_judge(c)."""
    size = int(max(new.max(initial=0), verdict.max(initial=0))) + 1
    one, other = (np.bincount(values, minlength=size) / max(len(values), 1) for values in (new, verdict))
    return new == verdict, float(one @ other)


def large_cells(y: Tensor, mine: Tensor, verdicts: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, str]:
    fooled = mine != y
    cells = {"fooled": share(fooled.numpy())}
    for judge, verdict in verdicts.items():
        kept = fooled & before[judge]
        agrees, chance = agreement(mine[kept].numpy(), verdict[kept].numpy())
        cells[judge] = share(agrees) if len(agrees) else "no point"
        cells[f"{judge}, by chance"] = f"{chance:.3f}" if len(agrees) else ""
    return cells


# ---- the way there -------------------------------------------------------------------------------------------------------

WAYS = (
    "On the straight way from each image (t 0) to its large-eps example (t 1), of points that the network gets right and "
    "ends up calling by another class: the median t at which it first says the new class (95% interval), and of it and "
    f"of each judge the share of the {WAY - 2} points between that are called by the old or the new class. 'arrives': the "
    "share whose example the judge calls by the new class, at whatever t it changes."
)


def walked(
    post: Predictive, x: Tensor, moved: Tensor, mine: Tensor, y: Tensor, called: Judges, draws: int | None, seed: int
) -> xr.Dataset:
    """Classes `[who, t, point]` by the network and the judges on the way."""
    images, draw = way(x, moved), rng.derive(seed, "study", "class")
    callers = {"the network": lambda z: classes(post, z, draws, draw), **called}
    found = np.stack([[call(step).numpy() for step in images] for call in callers.values()])
    return xr.Dataset(
        {"called": (("who", "t", "point"), found), "old": ("point", y.numpy()), "new": ("point", mine.numpy())},
        coords={"who": list(callers), "t": np.linspace(0, 1, len(images))},
    )


def way_cells(found: xr.Dataset) -> dict[str, str]:
    start = found["called"].sel(who="the network").isel(t=0).values
    kept = (start == found["old"].values) & (found["old"].values != found["new"].values)
    found = found.isel(point=np.flatnonzero(kept))
    if not found.sizes["point"]:
        return {"points": "0"}
    new = found["called"] == found["new"]
    first = found["t"].values[new.sel(who="the network").transpose("point", "t").values.argmax(1)]
    cells = {"points": str(found.sizes["point"]), "changes at": with_interval(np.median(first), median_interval(first))}
    between = (new | (found["called"] == found["old"])).isel(t=slice(1, -1)).mean(("t", "point"))
    for who in found["who"].values.tolist():
        cells[f"{who}: old or new"] = f"{float(between.sel(who=who)):.3f}"
        if who != "the network":
            cells[f"{who}: arrives"] = f"{float(new.sel(who=who).isel(t=-1).mean()):.3f}"
    return cells


# ---- words -------------------------------------------------------------------------------------------------------------


def notes(name: str, tables: Mapping[str, list[dict[str, str]]], task: Task) -> list[str]:
    """The claims of one data set, network by network, beside the plain network's figures."""
    own = {table: [row for row in rows if row["network"].startswith(f"{name}/")] for table, rows in tables.items()}
    keys = ("image, own less other", "class means, own less other")
    lines = [
        f"{name}, cosine of gradients with the point's own {key.split(',')[0]} less another's: "
        + "; ".join(f"{row['network'].split('/')[1]} {row[key]}" for row in own["gradients"]) + "."
        for key in keys
    ]  # fmt: skip
    for judge in [*task.judges, "nearest images"]:
        for attack in task.attacks(None):
            rows = [row for row in own["large"] if row["attack"] == attack]
            shares = [f"{row['network'].split('/')[1]} {row[judge]} (chance {row[f'{judge}, by chance']})" for row in rows]
            lines.append(f"{name}, {attack}, called by the network's new class by {judge}: {'; '.join(shares)}.")
    return lines


if __name__ == "__main__":
    cyclopts.run(main)
