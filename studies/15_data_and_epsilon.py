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

import cyclopts
import numpy as np
import pandas as pd
import torch
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import mean_interval
from bayesrob.attacks import PGD, Random
from bayesrob.evaluation import Results
from bayesrob.inference import SGD, AdversarialTraining, Inference, Replicates, fit_once
from bayesrob.report import render
from shared.study_tools import Scale, file_name, show, with_interval

POSTERIORS = Path("results") / "posteriors"
"""Where the studies keep what they have trained, unless told otherwise."""

BATCH = 128


@dataclasses.dataclass(frozen=True)
class Size:
    """Data, hidden layers, numbers of training points, eps of training and of random signs, radii of the attack.

    `steps` of Adam for every network; `pgd_steps` of PGD in training; `attack_steps` of the attack on `points` test points.
    Standard accuracy is on all of `n_test`.
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
        sgd = SGD(epochs=math.ceil(self.steps / math.ceil(count / BATCH)), batch_size=BATCH)
        found: dict[str, Inference] = {"plain": sgd}
        for eps in self.eps:
            attack = PGD(eps=eps, steps=self.pgd_steps, step_size=2.5 * eps / self.pgd_steps)
            found[f"PGD {eps:g}"] = AdversarialTraining(attack, sgd)
        return {**found, f"noise {self.noise:g}": AdversarialTraining(Random(eps=self.noise), sgd)}


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

    Parameters
    ----------
    scale
        smoke: seconds, on digits; small: up to 20,000 MNIST images, three replicates, ten minutes on one core; paper: all
        images, wider networks, five replicates.
    out
        Folder for results and report; default results/data_and_epsilon-SCALE.
    seed
        Fixes training points, training, attacked points and attacks.
    posteriors
        Where trained networks are kept (default results/posteriors).
    """
    out = Path("results") / f"data_and_epsilon-{scale}" if out is None else out
    size = SIZES[scale]
    settings = {"scale": scale, "seed": seed, "batch": BATCH}
    settings |= {key: str(value) for key, value in dataclasses.asdict(size).items()}
    results = Results(out, "data_and_epsilon", (__doc__ or "").splitlines()[0], settings)
    names, parts = list(size.trainings(1)), []
    for count in size.counts:
        found = np.array([
            [measured(results, size, name, count, replicate, seed, posteriors) for replicate in range(size.replicates)]
            for name in names
        ])  # fmt: skip
        parts.append(found)
        everything = gathered(np.stack(parts), names, size.counts[: len(parts)], size.radii)
        results.tree("accuracy", everything, "accuracy of every network, and means over replicates with t intervals")
        results.table("accuracy", pd.DataFrame(rows(everything)), TABLE)  # anew after each: an interrupted run leaves it
        results.table("clean", pd.DataFrame(clean_rows(everything)), CLEAN)
    results.figure("data", plots.accuracy_lines(everything), f"Figure 2: {FIGURE}")
    results.figure("epsilon", plots.accuracy_lines(everything, "eps", "n_train"), f"Figure 3: {FIGURE}")
    for note in notes(everything):
        results.note(note)
        print(note, flush=True)
    for name in ("accuracy", "clean"):
        show(out / f"{name}.csv")
    print(f"report: {render(results.finish())}")


# ---- one network ---------------------------------------------------------------------------------------------------------


@functools.cache
def loaded(data: str, n_train: int, n_test: int | None, seed: int) -> br.Dataset:
    """A smaller training set of the same seed is the beginning of a larger one."""
    return br.data.load(data, n_train=n_train, n_test=n_test, seed=seed)


def measured(results: Results, size: Size, name: str, count: int, replicate: int, seed: int, folder: Path) -> list[float]:
    """Accuracy on all test points, then under PGD of every radius on some of them."""
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
    results.tree(file_name(f"{name}-{count}-{replicate}"), tree, f"evaluation of {name}, {count} points, number {replicate}")
    under = tree["robustness"].to_dataset()["adversarial_accuracy"].values.tolist()
    seconds = post.info["seconds"]
    print(
        f"{name}, {count} points, number {replicate}: {seconds:.0f} s; " + " ".join(f"{a:.3f}" for a in [clean, *under]),
        flush=True,
    )
    return [clean, *under]


# ---- all of them ---------------------------------------------------------------------------------------------------------

TABLE = (
    "Accuracy without attack (eps 0, all test points) and under PGD of radius eps: means over replicates with 95% t "
    "intervals; each replicate has its own training points and initial weights."
)
CLEAN = (
    "Clean accuracy less that of the plainly trained network of the same replicate: what training on attacks (or on random "
    "signs) gives or costs. Means with 95% t intervals over replicates."
)
FIGURE = (
    "accuracy by training, means and 95% t intervals over replicates; eps 0 is clean, n_train the number of training points."
)


def gathered(values: np.ndarray, names: list[str], counts: tuple[int, ...], radii: tuple[float, ...]) -> xr.DataTree:
    """From `[n_train, training, replicate, eps]`, eps 0 first."""
    every = xr.DataArray(
        values,
        dims=("n_train", "training", "replicate", "eps"),
        coords={"n_train": list(counts), "training": names, "eps": [0.0, *radii]},
    )
    gain = every.sel(eps=0.0) - every.sel(eps=0.0, training="plain")
    found = xr.Dataset({"every": every, "accuracy": every.mean("replicate"), "gain": gain.mean("replicate")})
    found["accuracy_interval"] = intervals(every).clip(0, 1)
    found["gain_interval"] = intervals(gain)
    return xr.DataTree.from_dict({"accuracy": found.assign_coords(bound=["lower", "upper"])})


def intervals(values: xr.DataArray) -> xr.DataArray:
    """Student's over replicates, in a last dim `bound`."""
    found = np.apply_along_axis(lambda row: np.array(mean_interval(row)), values.get_axis_num("replicate"), values.values)
    dims = [dim if dim != "replicate" else "bound" for dim in values.dims]
    made = xr.DataArray(found, dims=dims, coords={k: v for k, v in values.coords.items() if k != "replicate"})
    return made.transpose(..., "bound")


def rows(tree: xr.DataTree) -> list[dict[str, str]]:
    found, lines = tree["accuracy"].to_dataset(), []
    for count in found["n_train"].values.tolist():
        for name in found["training"].values.tolist():
            at = found.sel(n_train=count, training=name)
            cells = {
                f"eps {eps:g}": with_interval(at["accuracy"].sel(eps=eps), at["accuracy_interval"].sel(eps=eps).values)
                for eps in at["eps"].values.tolist()
            }
            lines.append({"points": str(count), "training": name, **cells})
    return lines


def clean_rows(tree: xr.DataTree) -> list[dict[str, str]]:
    found, lines = tree["accuracy"].to_dataset(), []
    for name in found["training"].values.tolist()[1:]:
        at = found.sel(training=name)
        cells = {
            f"{count} points": with_interval(at["gain"].sel(n_train=count), at["gain_interval"].sel(n_train=count).values)
            for count in at["n_train"].values.tolist()
        }
        lines.append({"training": name, **cells})
    return lines


def verdict(low: float, high: float) -> str:
    return "helps" if low > 0 else "costs" if high < 0 else "not to be told from none"


def notes(tree: xr.DataTree) -> list[str]:
    """The claims, as found."""
    found, lines = tree["accuracy"].to_dataset(), []
    for name in found["training"].values.tolist()[1:]:
        words = []
        for count in found["n_train"].values.tolist():
            at = found.sel(training=name, n_train=count)
            interval = at["gain_interval"].values
            words.append(f"{count} points {with_interval(at['gain'], interval)} ({verdict(*interval)})")
        lines.append(f"Clean accuracy, {name} less plain: {'; '.join(words)}.")
    means = found["accuracy"]
    ups = int((means.diff("eps") > 0).sum())
    lines.append(
        f"Accuracy against the attack's eps, of {means.diff('eps').size} steps up in eps: {ups} rise, the others do not."
    )
    trained = [name for name in found["training"].values.tolist() if name == "plain" or name.startswith("PGD")]
    for count in found["n_train"].values.tolist():
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
