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

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import cyclopts
import numpy as np
import torch
import xarray as xr
from torch import Tensor

import bayesrob as br
from bayesrob import plots, rng
from bayesrob.analysis import mean_interval, median_interval
from bayesrob.attacks import PGD
from shared.semantic_pictures import WAY, chosen, grid, strip, way
from shared.semantic_tasks import Task, classes, judges, tasks, trained
from shared.study import POSTERIORS, Scale, Study
from shared.tables import file_name, share, with_interval

Judges = Mapping[str, Callable[[Tensor], Tensor]]


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) networks and judges, take gradients, attack with a large eps, walk towards the examples.

    Args:
        scale: smoke: seconds, on digits; small: MLPs on MNIST and a narrow ResNet on 2,000 CIFAR-10 images, minutes on one
            core; paper: convolutional networks on all images, a day.
        out: Folder for results and report; default results/semantic_gradients-SCALE.
        seed: Fixes data, training, draws and attacks.
        posteriors: Folder of trained networks (default results/posteriors).
    """
    settings = {
        name: f"{task.described}; {task.n_train or 'all'} training points, {task.epochs} epochs, trained in l_inf "
        f"{task.eps:.3g} by PGD of {task.steps} steps; {task.num_points} points, {task.draws} draws; attacked at "
        f"{task.large}"
        for name, task in tasks(scale).items()
    }
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        for name, task in tasks(scale).items():
            one_data_set(study, name, task, seed, posteriors)


def one_data_set(study: Study, name: str, task: Task, seed: int, folder: Path) -> None:
    """Tables, figures and notes of one data set."""
    dataset, called = task.dataset(seed), judges(task, seed, folder)
    x, y = dataset.x_test, dataset.y_test
    gradients: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}  # by the last attack, for pictures
    guesses: dict[str, Tensor] = {}
    for network in task.networks:
        post = trained(task, network, seed, folder)
        study.say(f"{name}/{network}: {post.info['seconds']:.0f} s of training; attacking")
        draws = task.draws if post.num_draws > 1 else None
        pgd = {"PGD": PGD(eps=task.eps, steps=20, num_draws=draws)}
        tree = br.evaluate(post, dataset, pgd, num_points=None, seed=seed, num_draws=draws)
        study.tree(file_name(f"{name}-{network}"), tree, f"evaluation of {name}/{network} at the eps of training")
        gradients[network] = -post.input_gradient(x, y, num_draws=draws, seed=rng.derive(seed, "study", "gradient"))
        cosines = alignment(gradients[network], dataset, runner_up(tree, y), seed)
        study.tree(file_name(f"{name}-{network}-cosines"), xr.DataTree(cosines), f"cosines of {name}/{network}")
        scores = tree["robustness"].to_dataset()
        accuracy = {"clean": scores["accuracy"], f"PGD {task.eps:.3g}": scores["adversarial_accuracy"].sel(attack="PGD")}
        head = {"network": f"{name}/{network}"}
        accuracies = {key: f"{float(value):.3f}" for key, value in accuracy.items()}
        study.add("gradients", [{**head, **accuracies, **cosine_cells(cosines)}])
        for label, attack in task.attacks(draws).items():
            moved = made[network] = attack(post, x, y, seed=seed).detach()
            mine = guesses[network] = classes(post, moved, draws, rng.derive(seed, "study", "class"))
            verdicts = {judge: call(moved) for judge, call in called.items()}
            before = {judge: call(x) == y for judge, call in called.items()}
            study.add("large", [{**head, "attack": label, **large_cells(y, mine, verdicts, before)}])
            callers = {
                "the network": functools.partial(classes, post, num_draws=draws, seed=rng.derive(seed, "study", "class"))
            }
            walk = walked(callers | called, x, moved, old=y, new=mine)
            title = f"{name}/{network}, {label}, and the way there"
            study.tree(file_name(f"{name}-{network}-{label}"), xr.DataTree(walk), title)
            study.add("ways", [{**head, "attack": label, **way_cells(walk)}])
    figures(study, name, task, gradients, made=made, guesses=guesses, seed=seed)
    study.note(*notes(name, study.rows, task))


def figures(
    study: Study,
    name: str,
    task: Task,
    gradients: Mapping[str, Tensor],
    *,
    made: Mapping[str, Tensor],
    guesses: Mapping[str, Tensor],
    seed: int,
) -> None:
    """Save the pictures of one data set: gradients, large-eps examples, and the way from an image to its example."""
    x, y = task.dataset(seed).x_test, task.dataset(seed).y_test
    shown, last = chosen(y), list(task.attacks(None))[-1]
    pictures = {
        "gradients": (grid(x, y, shown, gradients, None), "image and descent direction of the loss, each on its own scale."),
        "large": (grid(x, y, shown, made, guesses), f"image and each network's example of {last}, with what it calls it."),
        "ways": (strip(x, made, guesses, y, shown[0]), f"the way from an image to each network's example of {last}."),
    }
    for figure, (tree, caption) in pictures.items():
        study.figure(f"{figure}_{file_name(name)}", plots.pictures(tree), f"{name}: {caption}")


CAPTIONS = {
    "gradients": "Accuracy, clean and under PGD at the eps of training; cosines of the descent direction of the loss (of "
    "random networks "
    "averaged over draws) with the image less the mean image, and with the mean image of the true class less that of the "
    "runner-up. 'own less other': less the cosine with another point's. Means over points with 95% t intervals.",
    "large": "PGD far beyond the eps of training. 'fooled': points that the network calls by another class than their own. "
    "Then, of "
    "those that the judge gets right without attack: the share that it calls by the network's new class (95% Wilson "
    "intervals), and 'by chance' that share if new classes were dealt to the points anew.",
    "ways": "On the straight way from each image (t 0) to its large-eps example (t 1), of points that the network gets "
    "right and "
    "ends up calling by another class: the median t at which it first says the new class (95% interval), and of it and "
    f"of each judge the share of the {WAY - 2} points between that are called by the old or the new class. 'arrives': the "
    "share whose example the judge calls by the new class, at whatever t it changes.",
}


# ---- gradients -----------------------------------------------------------------------------------------------------------


def cosine(a: Tensor, b: Tensor) -> np.ndarray:
    """The cosine between rows, in float64; NaN where one of them is zero."""
    one, other = (
        rows / torch.where(norm > 0, norm, torch.nan)
        for rows in (v.flatten(1).double() for v in (a, b))
        for norm in [rows.norm(dim=1, keepdim=True)]
    )
    return (one * other).sum(1).numpy()


def runner_up(tree: xr.DataTree, y: Tensor) -> Tensor:
    """The likeliest class other than the true one, `[point]`."""
    log_p = torch.tensor(tree["points"].to_dataset()["log_probability"].values)
    return log_p.scatter(1, y[:, None], -torch.inf).argmax(1)


def alignment(descent: Tensor, dataset: br.Dataset, rival: Tensor, seed: int) -> xr.Dataset:
    """Cosines `[what, whose, point]` with the point's own image and class means, and with another point's.

    The other point is drawn from the seed, once for all; no point is its own other.
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


def cosine_cells(cosines: xr.Dataset) -> dict[str, str]:
    """The cells of the table of gradients: mean cosines with t intervals."""
    cells = {}
    known = cosines["cosine"].dropna("point")
    for what in known["what"].values.tolist():
        own, other = (known.sel(what=what, whose=whose).values for whose in ("own", "other"))
        cells[what] = with_interval(own.mean(), mean_interval(own))
        cells[f"{what}, own less other"] = with_interval((own - other).mean(), mean_interval(own - other))
    return {**cells, "gradients of zero": str(cosines.sizes["point"] - known.sizes["point"])}


# ---- large eps -----------------------------------------------------------------------------------------------------------


def agreement(new: np.ndarray, verdict: np.ndarray) -> tuple[np.ndarray, float]:
    """Where two classifications agree, and how often they would if one were dealt anew: sum_c p_new(c) p_judge(c)."""
    size = int(max(new.max(initial=0), verdict.max(initial=0))) + 1
    one, other = (np.bincount(values, minlength=size) / max(len(values), 1) for values in (new, verdict))
    return new == verdict, float(one @ other)


def large_cells(y: Tensor, mine: Tensor, verdicts: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, str]:
    """The cells of the table of large-eps examples: who is fooled, and by what each judge calls the examples."""
    fooled = mine != y
    cells = {"fooled": share(fooled.numpy())}
    for judge, verdict in verdicts.items():
        counted = fooled & before[judge]
        agrees, chance = agreement(mine[counted].numpy(), verdict[counted].numpy())
        cells[judge] = share(agrees) if len(agrees) else "no point"
        cells[f"{judge}, by chance"] = f"{chance:.3f}" if len(agrees) else ""
    return cells


# ---- the way there -------------------------------------------------------------------------------------------------------


def walked(callers: Judges, x: Tensor, moved: Tensor, *, old: Tensor, new: Tensor) -> xr.Dataset:
    """The classes on the straight way from x to `moved`, `called` `[who, t, point]`.

    Args:
        callers: the network and its judges by name: each gives the classes of images.
        x: the images `[point, *shape]`.
        moved: their adversarial examples.
        old: the true classes `[point]`.
        new: the classes that the network gives to `moved` `[point]`.
    """
    images = way(x, moved)
    calls = np.stack([[call(step).numpy() for step in images] for call in callers.values()])
    return xr.Dataset(
        {"called": (("who", "t", "point"), calls), "old": ("point", old.numpy()), "new": ("point", new.numpy())},
        coords={"who": list(callers), "t": np.linspace(0, 1, len(images))},
    )


def way_cells(walk: xr.Dataset) -> dict[str, str]:
    """The cells of the table of ways: where the network changes its class, and what each judge says between."""
    start = walk["called"].sel(who="the network").isel(t=0).values
    changes = (start == walk["old"].values) & (walk["old"].values != walk["new"].values)
    walk = walk.isel(point=np.flatnonzero(changes))
    if not walk.sizes["point"]:
        return {"points": "0"}
    new = walk["called"] == walk["new"]
    first = walk["t"].values[new.sel(who="the network").transpose("point", "t").values.argmax(1)]
    cells = {"points": str(walk.sizes["point"]), "changes at": with_interval(np.median(first), median_interval(first))}
    between = (new | (walk["called"] == walk["old"])).isel(t=slice(1, -1)).mean(("t", "point"))
    for who in walk["who"].values.tolist():
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
