"""Lemma 1, corollary 1 and lemma 2 of Carbone et al. 2020 where the data manifold is known: spheres and moons.

Does the part of the input gradient along the manifold vanish first as networks are trained, so that what is left is normal
to it? Does averaging over a posterior cancel the normal part? Two kinds of normal directions are kept apart: across, from
one class to the other (the radius), which the data tell something about, and off the support (components that are 0 in all
data), about which they tell nothing: there the posterior is symmetric, whatever its likelihood.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import split_gradients
from bayesrob.inference import HMC, SGD, SVI, Ensemble, Inference
from bayesrob.predictive import Predictive
from shared.chains import CHAINS, chain_note, chain_row
from shared.manifold_parts import PARTS, averages, bases, cosines, gradients, left, mirrored, rms
from shared.study import Scale, Study
from shared.tables import file_name, with_interval

WORLDS: dict[str, tuple[str, dict[str, int]]] = {
    "circles": ("sphere", {"d": 2}),
    "spheres": ("sphere", {"d": 3, "extra": 5}),
    "moons": ("moons", {}),
}
FALLEN = 0.1
"""A part has fallen when its norm is below this of its first, and stays there."""


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of one run.

    Args:
        n_train: numbers of training points.
        n_test: number of test points.
        hidden: units of each hidden layer.
        epochs: epochs of training after which gradients are taken.
        draws: draws of each of four chains.
        warmup: transitions of warmup.
        hmc_steps: leapfrog steps of each transition.
        members: number of networks of an ensemble.
        svi_epochs: epochs of SVI.
        prefixes: numbers of draws that are averaged.
        worlds: names of the worlds.
    """

    n_train: tuple[int, ...] = (100, 1000)
    n_test: int = 200
    hidden: tuple[int, ...] = (32, 32)
    epochs: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200)
    draws: int = 250
    warmup: int = 250
    hmc_steps: int = 20
    members: int = 50
    svi_epochs: int = 200
    prefixes: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 250, 500, 1000)
    worlds: tuple[str, ...] = tuple(WORLDS)


SIZES: dict[Scale, Size] = {
    "smoke": Size((60,), 20, (16,), (1, 5, 20), 10, 30, 5, 10, 20, (1, 10, 40), ("spheres", "moons")),
    "small": Size(),
    "paper": Size((100, 1000, 10_000), 1000, (256, 256), draws=500, warmup=500, members=100),
}


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0) -> None:
    """Train networks and take their gradients on the way; sample posteriors and average theirs.

    Args:
        scale: smoke: seconds; small: two hidden layers of 32 on 100 and 1,000 points, minutes on one core; paper: 256,
            10,000.
        out: Folder for results and report; default results/manifold_gradients-SCALE.
        seed: Fixes data, training, chains and draws.
    """
    size = SIZES[scale]
    settings = {name: str(value) for name, value in dataclasses.asdict(size).items()}
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS,
        printed=("training", "averaging"),
    ) as study:  # fmt: skip
        texts: list[str] = []
        drawn: dict[str, xr.Dataset] = {}
        for world, n_train in itertools.product(size.worlds, size.n_train):
            name, options = WORLDS[world]
            dataset = br.data.load(name, n_train, size.n_test, seed, **options)
            title = f"{world}, {n_train} points"
            study.say(f"{title}: training")
            course = training(dataset, size, seed)
            study.tree(file_name(f"{title}-training"), xr.DataTree(course), f"{title}: gradients while training")
            texts.append(training_note(title, course))
            by_method: dict[str, xr.Dataset] = {}
            for method, post in posteriors(dataset, size, seed):
                study.say(f"{title}: {method}")
                averaged = by_method[method] = averages(post, dataset, size.prefixes)
                study.tree(file_name(f"{title}-{method}"), xr.DataTree(averaged), f"{title}: averages over {method}")
                study.add("averaging", average_rows(title, method, averaged))
                if method == "HMC":
                    tree = br.evaluate(post, dataset, {}, num_points=None, seed=seed)
                    study.add("chains", [chain_row(title, tree)])
                    texts.append(chain_note(f"{title}, HMC", tree))
            texts += average_notes(title, by_method)
            study.add("training", training_rows(title, course))
            if n_train == size.n_train[-1]:
                drawn |= {f"{title}: {method}": averaged for method, averaged in by_method.items()}
        study.figure("parts", plots.gradient_parts(drawn), FIGURE)
        study.note(*texts)


CAPTIONS = {
    "averaging": "Means over test points. 'single': norm of the draws' own gradients of the part; 'averaged': norm of the "
    "average over "
    "all draws; 'error': its Monte Carlo standard error; 'left': averaged / single beyond that error (root mean squares); "
    "'cosine' between averages of independent batches of draws (chains), 95% jackknife interval: 0 is noise alone, 1 one "
    "direction in all. (A mirrored pair is not two independent draws: only 'averaged' and 'single' count there.)",
    "training": "One network (Adam) while it is trained: loss on test points, and by part the root mean square of the loss "
    "gradient in "
    "each direction (over directions of the part and test points, which makes parts of different dimensions comparable). "
    "'tangent share': |tangent|^2 / |gradient|^2, mean over points, to be compared with 'isotropic', the share of a "
    "direction at random; it does not depend on how sure the network is.",
    "chains": CHAINS,
}
FIGURE = "Norm of the average over draws (solid), its Monte Carlo error (dashed) and single draws' (dotted), by part; means."


# ---- parts ---------------------------------------------------------------------------------------------------------------


def training(dataset: br.Dataset, size: Size, seed: int) -> xr.Dataset:
    """Norms of each part after some epochs, over `epoch` and `point`; epoch 0 is the network before training."""
    axes, records = bases(dataset), {}

    def record(epoch: int, post: Predictive) -> None:
        if epoch in (0, *size.epochs):
            losses, g = gradients(post, dataset)
            parts = {name: split_gradients(g, normal=basis)["normal_norm"].values[0] for name, basis in axes.items()}
            total = np.sqrt(sum(part**2 for part in parts.values()))
            records[epoch] = (losses[0], {name: part / np.sqrt(axes[name].shape[1]) for name, part in parts.items()})
            records[epoch] += (np.where(total > 0, (parts["tangent"] / np.where(total > 0, total, 1)) ** 2, np.nan),)

    net = br.nets.mlp(dataset.shape[0], size.hidden, 2, seed=seed)
    record(0, br.predictive.from_modules([br.nets.initialise(net, seed, "sgd").eval()]))
    # A batch is never more than the data; decay off, so that epochs are of one course.
    SGD(epochs=size.epochs[-1], lr=0.003, decay=False).fit(net, dataset, seed=seed, each_epoch=record)
    epochs = sorted(records)
    norms = {name: (("epoch", "point"), np.stack([records[epoch][1][name] for epoch in epochs])) for name in axes}
    return xr.Dataset(
        {
            "loss": (("epoch", "point"), np.stack([records[epoch][0] for epoch in epochs])),
            "tangent_share": (("epoch", "point"), np.stack([records[epoch][2] for epoch in epochs])),
            **norms,
        },
        coords={"epoch": epochs},
        attrs={"isotropic": axes["tangent"].shape[1] / dataset.shape[0]},
    )


def training_rows(title: str, course: xr.Dataset) -> list[dict[str, str]]:
    """A row for each epoch: loss and gradients by part."""
    rows = []
    for epoch in course["epoch"].values.tolist():
        at = course.sel(epoch=epoch)
        cells = {"world": title, "epoch": str(epoch), "loss": f"{float(at['loss'].mean()):.2g}"}
        cells |= {part: f"{rms(at[part]):.2g}" if part in course else "" for part in PARTS}
        cells["tangent share"] = f"{float(at['tangent_share'].mean()):.3f}"
        rows.append({**cells, "isotropic": f"{course.attrs['isotropic']:.3f}"})
    return rows


def fallen(course: xr.Dataset, part: str) -> float:
    """The epoch from which the part stays below `FALLEN` of what it was before training; infinity if it never does."""
    values = np.array([rms(course[part].sel(epoch=epoch)) for epoch in course["epoch"].values])
    above = np.flatnonzero(values > FALLEN * values[0])
    return float(course["epoch"][above[-1] + 1]) if above[-1] + 1 < len(values) else np.inf


def training_note(title: str, course: xr.Dataset) -> str:
    """Says which part of the gradient vanishes first."""
    when = {part: fallen(course, part) for part in PARTS if part in course}
    rest = [epoch for part, epoch in when.items() if part != "tangent"]
    order = "before the normal parts" if when["tangent"] < min(rest) else "not before them"
    if np.isinf(min(when.values())):
        order = "as the others do: never within these epochs"
    epochs = ", ".join(f"{part} {'never' if np.isinf(epoch) else f'{epoch:g}'}" for part, epoch in when.items())
    share = course["tangent_share"].mean("point").values
    return (
        f"{title}, one network: below {FALLEN:g} of its start for good from epoch: {epochs}; the tangent part vanishes "
        f"{order}. Its share of the squared gradient goes from {share[0]:.3f} to {share[-1]:.3f} (a direction at random: "
        f"{course.attrs['isotropic']:.3f}); the normal parts end at "
        + ", ".join(f"{part} {rms(course[part][-1]) / rms(course['tangent'][-1]):.1f}" for part in when if part != "tangent")
        + " times the tangent one."
    )


# ---- averages ------------------------------------------------------------------------------------------------------------


def posteriors(dataset: br.Dataset, size: Size, seed: int) -> Any:
    """Yields HMC, HMC with mirror images where components lie off the support, SVI, deep ensemble and bagging."""
    base = SGD(epochs=size.epochs[-1], lr=0.003)
    methods: dict[str, Inference] = {
        "HMC": HMC(num_samples=size.draws, warmup=size.warmup, num_steps=size.hmc_steps),
        "SVI": SVI(epochs=size.svi_epochs, batch_size=128),
        "ensemble": Ensemble(size=size.members, base=base),
        "bagging": Ensemble(size=size.members, bootstrap=True, base=base),
    }
    extra = getattr(dataset.truth, "extra", 0)
    for name, method in methods.items():
        net = br.nets.mlp(dataset.shape[0], size.hidden, 2, seed=seed)
        bayesian = name in ("HMC", "SVI")
        post = method.fit(br.models.BayesianNetwork(net) if bayesian else net, dataset, seed=seed)
        yield name, post.freeze(4 * size.draws, seed=seed) if name == "SVI" else post
        if name == "HMC" and extra:
            yield "HMC, mirrored", mirrored(post, extra)


def average_rows(title: str, method: str, averaged: xr.Dataset) -> list[dict[str, str]]:
    """A row for each part: norms of single and of averaged gradients, and what is left beyond the error."""
    rows = []
    for part in averaged["part"].values.tolist():
        at = averaged.sel(part=part, objective="expected_loss").isel(num_draws=-1)
        rows.append(
            {
                "world": title,
                "posterior": method,
                "part": part,
                "draws": str(int(at["num_draws"])),
                "single": f"{float(at['draw_norm'].mean()):.3g}",
                "averaged": f"{float(at['norm'].mean()):.3g}",
                "error": f"{float(at['standard_error'].mean()):.3g}",
                "averaged / single": f"{float(at['norm'].mean() / at['draw_norm'].mean()):.3f}",
                "left": f"{left(averaged, part):.3f}",
                "cosine": with_interval(cosines(averaged, part)[0], cosines(averaged, part)[1:]),
                "of the predictive's loss, left": f"{left(averaged, part, 'predictive_loss'):.3f}",
            }
        )
    return rows


def average_notes(title: str, by_method: Mapping[str, xr.Dataset]) -> list[str]:
    """Says which parts cancel: their batches of draws agree on no direction."""
    texts = []
    for method, averaged in by_method.items():
        words = []
        for part in averaged["part"].values.tolist():
            cosine, low, high = cosines(averaged, part)
            words.append(
                f"{part} {verdict(low, high)} (left {left(averaged, part):.3f}, cosine {cosine:.2f} [{low:.2f}, {high:.2f}])"
            )
        texts.append(f"{title}, averaged over {method}: {'; '.join(words)}.")
    return texts


def verdict(low: float, high: float) -> str:
    """What the interval of the cosine between batches of draws says."""
    if np.isnan(low):
        return "has too few batches of draws to say"
    if low > 0:
        return "stays"
    return "is not told from noise" if high >= 0 else "is mirrored between batches"


if __name__ == "__main__":
    cyclopts.run(main)
