"""Robust training against numbers of training points and eps: does it help clean accuracy at few points and cost it at many?

Figures 2 and 3 of the slides on "Robustness may be at odds with accuracy" (Tsipras et al. 2019), which print no numbers. Two
claims: training on attacks is data augmentation, which helps clean accuracy where points are few and costs it where they are
many; and accuracy falls as eps grows. Networks trained plainly, on PGD in l_inf at several eps, and, to tell attacks from
any augmentation, on random signs of one eps; all take as many steps, whatever the number of points. Each replicate has its
own training points and initial weights, and differences are between networks of the same replicate.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import NamedTuple

import cyclopts
import numpy as np
import torch
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import mean_interval
from bayesrob.attacks import PGD, Random
from bayesrob.inference import SGD, AdversarialTraining, Inference, Replicates, fit_once
from shared.study import POSTERIORS, Scale, Study
from shared.tables import file_name, with_interval

BATCH = 128


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of one run.

    Args:
        data: name of the data set.
        hidden: units of each hidden layer.
        counts: numbers of training points.
        eps: radii of adversarial training.
        noise: eps of the random signs that other networks are trained on.
        radii: radii of the attack.
        replicates: number of networks of each training and number of points.
        steps: steps of Adam for every network, whatever the number of points.
        pgd_steps: steps of PGD in training.
        attack_steps: steps of the attack.
        points: number of test points attacked.
        n_test: number of test points on which standard accuracy is measured, None for all.
    """

    data: str = "mnist"
    hidden: tuple[int, ...] = (128, 128)
    counts: tuple[int, ...] = (200, 2000, 20_000)
    eps: tuple[float, ...] = (0.03, 0.1, 0.2)
    noise: float = 0.1
    radii: tuple[float, ...] = (0.03, 0.1, 0.2)
    replicates: int = 3
    steps: int = 1000
    pgd_steps: int = 5
    attack_steps: int = 20
    points: int = 500
    n_test: int | None = None

    def trainings(self, count: int) -> dict[str, Inference]:
        """The ways of training by name, for a number of training points."""
        sgd = SGD(epochs=math.ceil(self.steps / math.ceil(count / BATCH)), batch_size=BATCH)
        methods: dict[str, Inference] = {"plain": sgd}
        for eps in self.eps:
            attack = PGD(eps=eps, steps=self.pgd_steps, step_size=2.5 * eps / self.pgd_steps)
            methods[f"PGD {eps:g}"] = AdversarialTraining(attack, sgd)
        return {**methods, f"noise {self.noise:g}": AdversarialTraining(Random(eps=self.noise), sgd)}


SIZES: dict[Scale, Size] = {
    "smoke": Size("digits", (16,), (40, 400), (0.2,), 0.1, (0.1, 0.2), 2, 100, 2, 5, 40, 100),
    "small": Size(),
    "paper": Size(
        "mnist", (512, 512), (200, 500, 1000, 5000, 20_000, 60_000), (0.01, 0.03, 0.1, 0.2, 0.3), replicates=5, steps=10_000,
        pgd_steps=10, attack_steps=50, points=1000, radii=(0.01, 0.03, 0.1, 0.2, 0.3),
    ),
}  # fmt: skip


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train a network for each number of points, training and replicate; standard and robust accuracy of each.

    Args:
        scale: smoke: seconds, on digits; small: up to 20,000 MNIST images, three replicates, ten minutes on one core; paper:
            all images, wider networks, five replicates.
        out: Folder for results and report; default results/data_and_epsilon-SCALE.
        seed: Fixes training points, training, attacked points and attacks.
        posteriors: Folder of trained networks (default results/posteriors).
    """
    size = SIZES[scale]
    settings = {"batch": BATCH, **{key: str(value) for key, value in dataclasses.asdict(size).items()}}
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        names, parts = list(size.trainings(1)), []
        for count in size.counts:
            accuracies = [
                [
                    measured(study, size, Cell(name, count, replicate), seed, posteriors)
                    for replicate in range(size.replicates)
                ]
                for name in names
            ]
            parts.append(np.array(accuracies))
            everything = gathered(np.stack(parts), names, size.counts[: len(parts)], size.radii)
            study.tree("accuracy", everything, "accuracy of every network, and means over replicates with t intervals")
            study.table("accuracy", rows(everything))
            study.table("clean", clean_rows(everything))
        study.figure("data", plots.accuracy_lines(everything), f"Figure 2: {FIGURE}")
        study.figure("epsilon", plots.accuracy_lines(everything, "eps", "n_train"), f"Figure 3: {FIGURE}")
        study.note(*notes(everything))


# ---- one network ---------------------------------------------------------------------------------------------------------


@functools.cache
def loaded(data: str, n_train: int, n_test: int | None, seed: int) -> br.Dataset:
    """The data set; a smaller training set of the same seed is the beginning of a larger one."""
    return br.data.load(data, n_train=n_train, n_test=n_test, seed=seed)


class Cell(NamedTuple):
    """One network of the study.

    Args:
        name: of its training.
        count: number of training points.
        replicate: which of the networks that differ by training points and initial weights.
    """

    name: str
    count: int
    replicate: int


def measured(study: Study, size: Size, cell: Cell, seed: int, folder: Path) -> list[float]:
    """Accuracy of one network on all test points, then under PGD of every radius on some of them."""
    name, count, replicate = cell
    own = Replicates.member_seed(seed, replicate)
    dataset = loaded(size.data, count, size.n_test, own)
    net = br.nets.mlp(dataset.x_train[0].numel(), size.hidden, dataset.out_features, seed=own)
    post = fit_once(size.trainings(count)[name], net, dataset, folder, own)
    with torch.no_grad():
        clean = float(post(dataset.x_test).argmax(1).eq(dataset.y_test).double().mean())
    attacks = {
        f"PGD {eps:g}": PGD(eps=eps, steps=size.attack_steps, step_size=2.5 * eps / size.attack_steps, stop_when_broken=True)
        for eps in size.radii
    }
    tree = br.evaluate(post, dataset, attacks, num_points=size.points, seed=own)
    study.tree(file_name(f"{name}-{count}-{replicate}"), tree, f"evaluation of {name}, {count} points, number {replicate}")
    under = tree["robustness"].to_dataset()["adversarial_accuracy"].values.tolist()
    accuracies = " ".join(f"{accuracy:.3f}" for accuracy in [clean, *under])
    study.say(f"{name}, {count} points, number {replicate}: {post.info['seconds']:.0f} s; {accuracies}")
    return [clean, *under]


# ---- all of them ---------------------------------------------------------------------------------------------------------

CAPTIONS = {
    "accuracy": "Accuracy without attack (eps 0, all test points) and under PGD of radius eps: means over replicates with "
    "95% t "
    "intervals; each replicate has its own training points and initial weights.",
    "clean": "Clean accuracy less that of the plainly trained network of the same replicate: what training on attacks (or "
    "on random "
    "signs) gives or costs. Means with 95% t intervals over replicates.",
}
FIGURE = (
    "accuracy by training, means and 95% t intervals over replicates; eps 0 is clean, n_train the number of training points."
)


def gathered(values: np.ndarray, names: list[str], counts: tuple[int, ...], radii: tuple[float, ...]) -> xr.DataTree:
    """Means over replicates with t intervals, given accuracies `[n_train, training, replicate, eps]` with eps 0 first."""
    every = xr.DataArray(
        values,
        dims=("n_train", "training", "replicate", "eps"),
        coords={"n_train": list(counts), "training": names, "eps": [0.0, *radii]},
    )
    gain = every.sel(eps=0.0) - every.sel(eps=0.0, training="plain")
    scores = xr.Dataset({"every": every, "accuracy": every.mean("replicate"), "gain": gain.mean("replicate")})
    scores["accuracy_interval"] = intervals(every).clip(0, 1)
    scores["gain_interval"] = intervals(gain)
    return xr.DataTree.from_dict({"accuracy": scores.assign_coords(bound=["lower", "upper"])})


def intervals(values: xr.DataArray) -> xr.DataArray:
    """Student's intervals over replicates, in a last dim `bound`."""
    bounds = np.apply_along_axis(lambda row: np.array(mean_interval(row)), values.get_axis_num("replicate"), values.values)
    dims = [dim if dim != "replicate" else "bound" for dim in values.dims]
    made = xr.DataArray(bounds, dims=dims, coords={k: v for k, v in values.coords.items() if k != "replicate"})
    return made.transpose(..., "bound")


def rows(tree: xr.DataTree) -> list[dict[str, str]]:
    """A row for each number of points and training: accuracy by eps."""
    scores, lines = tree["accuracy"].to_dataset(), []
    for count in scores["n_train"].values.tolist():
        for name in scores["training"].values.tolist():
            at = scores.sel(n_train=count, training=name)
            cells = {
                f"eps {eps:g}": with_interval(at["accuracy"].sel(eps=eps), at["accuracy_interval"].sel(eps=eps).values)
                for eps in at["eps"].values.tolist()
            }
            lines.append({"points": str(count), "training": name, **cells})
    return lines


def clean_rows(tree: xr.DataTree) -> list[dict[str, str]]:
    """A row for each training but the plain one: the gain of clean accuracy by number of points."""
    scores, lines = tree["accuracy"].to_dataset(), []
    for name in scores["training"].values.tolist()[1:]:
        at = scores.sel(training=name)
        cells = {
            f"{count} points": with_interval(at["gain"].sel(n_train=count), at["gain_interval"].sel(n_train=count).values)
            for count in at["n_train"].values.tolist()
        }
        lines.append({"training": name, **cells})
    return lines


def verdict(low: float, high: float) -> str:
    """Whether a difference with this interval helps, costs, or cannot be told from none."""
    return "helps" if low > 0 else "costs" if high < 0 else "not to be told from none"


def notes(tree: xr.DataTree) -> list[str]:
    """Says for each training and number of points whether it helps, and how accuracy moves with eps."""
    scores, lines = tree["accuracy"].to_dataset(), []
    for name in scores["training"].values.tolist()[1:]:
        words = []
        for count in scores["n_train"].values.tolist():
            at = scores.sel(training=name, n_train=count)
            interval = at["gain_interval"].values
            words.append(f"{count} points {with_interval(at['gain'], interval)} ({verdict(*interval)})")
        lines.append(f"Clean accuracy, {name} less plain: {'; '.join(words)}.")
    means = scores["accuracy"]
    ups = int((means.diff("eps") > 0).sum())
    lines.append(
        f"Accuracy against the attack's eps, of {means.diff('eps').size} steps up in eps: {ups} rise, the others do not."
    )
    trained = [name for name in scores["training"].values.tolist() if name == "plain" or name.startswith("PGD")]
    for count in scores["n_train"].values.tolist():
        line = means.sel(n_train=count, training=trained)
        clean, worst = line.sel(eps=0.0).values, line.isel(eps=-1).values
        falls = "falls" if (np.diff(clean) < 0).all() else "does not fall throughout"
        lines.append(
            f"{count} points: with the eps of training (none, then growing) clean accuracy {falls}: "
            f"{', '.join(f'{a:.3f}' for a in clean)}; accuracy at eps {float(means['eps'][-1]):g}: "
            f"{', '.join(f'{a:.3f}' for a in worst)}."
        )
    return lines


if __name__ == "__main__":
    cyclopts.run(main)
