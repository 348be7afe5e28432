"""What is an adversarial example? By its norm alone, or only while the true label stays (Stutz): both counts side by side.

Every world whose p(x, y) is known: two point masses, the toy of one robust and one weak feature, a hundred weak ones,
spheres, moons. Rules, networks trained plainly and on PGD, and posteriors are attacked by PGD and by attacks that ask for
label-invariant successes; of each the share that are adversarial examples, and robust accuracy under both definitions. In
the toy, where x_2 moves by 2 eta, all shares are known in closed form.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import torch
import xarray as xr
from torch import Tensor

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import binomial_interval, validity
from bayesrob.attacks import PGD, Attack, LabelInvariant, RandomSearch
from bayesrob.data.truth import phi
from bayesrob.inference import HMC, SGD, SVI, AdversarialTraining, Inference
from bayesrob.predictive import HeldDraws, Predictive
from shared.chains import CHAINS, chain_note, chain_row, thinned
from shared.known_worlds import ETA, WORLDS, P, World, rules
from shared.study import Scale, Study
from shared.tables import with_interval


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of one run.

    Args:
        n_train: number of training points.
        n_test: number of test points.
        steps: approximate number of training steps.
        draws: draws of each of four chains.
        attacked: number of draws attacked.
        warmup: transitions of warmup.
        samples: random points of the random search.
        restarts: restarts of PGD.
        hmc_steps: leapfrog steps of each transition.
        worlds: names of the worlds.
        skipped: names of the methods that are left out.
    """

    n_train: int = 1000
    n_test: int = 300
    steps: int = 1000
    draws: int = 100
    attacked: int = 100
    warmup: int = 200
    samples: int = 300
    restarts: int = 5
    hmc_steps: int = 20
    worlds: tuple[str, ...] = tuple(WORLDS)
    skipped: tuple[str, ...] = ()


SIZES: dict[Scale, Size] = {
    "smoke": Size(100, 100, 40, 5, 20, 10, 30, 1, 5, ("two points", "toy"), ("SVI, PGD",)),
    "small": Size(),
    "paper": Size(
        n_train=10_000, n_test=5000, steps=10_000, draws=250, attacked=250, warmup=1000, samples=10_000, restarts=20
    ),
}


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0) -> None:
    """Attack every classifier, judge every success by both definitions.

    Args:
        scale: smoke: seconds, two worlds; small: five worlds of 1,000 training and 300 test points, minutes on one core;
            paper: 10,000 and 5,000.
        out: Folder for results and report; default results/what_counts-SCALE.
        seed: Fixes data, training, chains and attacks.
    """
    size = SIZES[scale]
    settings = {name: str(value) for name, value in dataclasses.asdict(size).items()}
    settings |= {name: str(dataclasses.asdict(WORLDS[name])) for name in size.worlds}
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS, printed=("definitions",)
    ) as study:
        drawn: dict[str, dict[str, xr.Dataset]] = {}
        tops: dict[str, float] = {}
        chain_notes: list[str] = []
        for name in size.worlds:
            world = WORLDS[name]
            dataset = br.data.load(world.data, size.n_train, size.n_test, seed, **world.settings)
            for classifier, post in classifiers(world, dataset, size, seed):
                study.say(f"{name}: {classifier}")
                if classifier == "HMC" and isinstance(post, HeldDraws):
                    tree = br.evaluate(post, dataset, {}, num_points=100, seed=seed)
                    study.add("chains", [chain_row(f"{name}, {classifier}", tree)])
                    chain_notes.append(chain_note(f"{name}, {classifier}", tree))
                    post = thinned(post, size.attacked)
                for eps in world.radii:
                    judgement = judged(post, dataset, attacked(post, dataset, attacks(dataset, world, eps, size), seed))
                    ball = f"{world.norm} {eps:g}"
                    title = f"{name}, {ball}"
                    drawn.setdefault(title, {})[classifier] = judgement
                    tops[title] = best(dataset, eps, world.norm)
                    head = {"world": name, "ball": ball, "classifier": classifier}
                    study.add("definitions", [{**head, **cells(judgement, tops[title])}])
        combined = {title: joined(each, tops[title]) for title, each in drawn.items()}
        study.tree("definitions", xr.DataTree.from_dict({_key(title): each for title, each in combined.items()}), TREE)
        if "toy" in size.worlds:
            study.table("moved", moved_rows(size, seed))
        study.figure("definitions", plots.definitions(combined), FIGURE)
        study.note(*article_notes(), *definition_notes(combined), *chain_notes)


CAPTIONS = {
    "definitions": "Robust accuracy over all attacks under both definitions, 95% Wilson intervals; 'best': of any "
    "classifier by the norm "
    "alone, where it is known (by the label-invariant definition it is the Bayes accuracy at every eps). PGD's successes, "
    "and the share of them that are adversarial examples by the label-invariant definition; 'found': points at which PGD "
    "found such an example, and at which the attacks did that ask for one.",
    "moved": "The toy with x_2 moved by 2 eta against the label: shares of all points that are misclassified then (norm), "
    "and that "
    "are adversarial examples by the label-invariant definition; measured with 99% Wilson intervals, and exact.",
    "chains": CHAINS,
}
TREE = "analysis.validity of each classifier, by world and radius"
FIGURE = "robust accuracy under both definitions (95% intervals); dashes: accuracy; dotted: the best by the norm alone."
ASKING = ("PGD, label-invariant", "random, label-invariant")


# ---- who is attacked -----------------------------------------------------------------------------------------------------


def classifiers(world: World, dataset: br.Dataset, size: Size, seed: int) -> Iterator[tuple[str, Predictive]]:
    """Yields the name and the predictive of each classifier: rules, networks and posteriors."""
    yield from rules(world, dataset).items()
    epochs = max(1, round(size.steps / math.ceil(size.n_train / 128)))
    sgd = SGD(epochs=epochs, lr=0.01)
    svi = SVI(epochs=epochs, estimator="shared_draw", batch_size=128, num_draws=size.attacked)
    attack = PGD(eps=world.trained, norm=world.norm, steps=7)
    methods: dict[str, Inference] = {
        "SGD": sgd,
        "SGD, PGD": AdversarialTraining(attack, sgd),
        "HMC": HMC(num_samples=size.draws, warmup=size.warmup, num_steps=size.hmc_steps),
        "SVI": svi,
        "SVI, PGD": AdversarialTraining(attack, svi),
    }
    for name, method in methods.items():
        if name in size.skipped:
            continue
        net = br.nets.mlp(dataset.shape[0], world.hidden, 2, seed=seed)
        bayesian = "SGD" not in name
        post = method.fit(br.models.BayesianNetwork(net) if bayesian else net, dataset, seed=seed)
        yield name, post if name == "HMC" else post.freeze(seed=seed)


# ---- attacks and verdicts ------------------------------------------------------------------------------------------------


def attacks(dataset: br.Dataset, world: World, eps: float, size: Size) -> dict[str, Attack]:
    """PGD as always, and two attacks that go on until the label-invariant definition is met."""
    asked = LabelInvariant(dataset.conditional, dataset.project)
    ball: Any = {"eps": eps, "norm": world.norm}
    return {
        "PGD": PGD(**ball, steps=20),
        ASKING[0]: PGD(**ball, steps=20, restarts=size.restarts, stop_when_broken=True, criterion=asked),
        ASKING[1]: RandomSearch(**ball, samples=size.samples, criterion=asked),
    }


def attacked(post: Predictive, dataset: br.Dataset, chosen: dict[str, Attack], seed: int) -> dict[str, Tensor]:
    """The adversarial examples of every attack."""
    return {name: attack(post, dataset.x_test, dataset.y_test, seed=seed) for name, attack in chosen.items()}


def judged(post: Predictive, dataset: br.Dataset, moved: dict[str, Tensor], level: float = 0.95) -> xr.Dataset:
    """`analysis.validity` of what attacks made of the test points."""
    with torch.no_grad():
        clean = post(dataset.x_test).argmax(1).numpy()
        after = np.stack([post(x).argmax(1).numpy() for x in moved.values()])
    truth = np.stack([dataset.conditional(dataset.project(x)).numpy() for x in moved.values()])
    named = xr.DataArray(after, dims=("attack", "point"), coords={"attack": list(moved)})
    supported = dataset.supports(dataset.x_test, dataset.y_test).numpy()
    return validity(clean, named, dataset.y_test.numpy(), truth, supported=supported, level=level)


def best(dataset: br.Dataset, eps: float, norm: str) -> float:
    """The robust accuracy of the best classifier by the norm alone; NaN where it is not known."""
    accuracy = dataset.truth.robust_accuracy(eps, norm) if dataset.truth else None
    return math.nan if accuracy is None else accuracy


def cells(judgement: xr.Dataset, top: float) -> dict[str, str]:
    """The cells of one classifier in one ball; `top` is the best robust accuracy by the norm alone, NaN if unknown."""
    row = {"accuracy": f"{float(judgement['accuracy']):.3f}"}
    for kind in judgement["definition"].values.tolist():
        at = judgement.sel(definition=kind)
        row[f"robust, {kind.replace('_', '-')}"] = with_interval(
            at["worst_case_accuracy"], at["worst_case_accuracy_interval"].values
        )
    row["best by norm"] = "" if math.isnan(top) else f"{top:.3f}"
    asked = judgement.sel(definition="label_invariant")
    row["PGD's successes"] = str(int(judgement["successes"].sel(attack="PGD")))
    at = asked.sel(attack="PGD")
    row["of them valid"] = with_interval(at["share"], at["share_interval"].values) if at["share"].notnull() else "none"
    row["found by PGD"] = str(int(at["count"]))
    row["found when asked"] = str(int(asked["adversarial_example"].sel(attack=list(ASKING)).any("attack").sum()))
    return row


def joined(judgements: dict[str, xr.Dataset], top: float) -> xr.Dataset:
    """The judgements of all classifiers, along `classifier`."""
    combined = xr.concat(list(judgements.values()), xr.Variable("classifier", list(judgements)))
    return combined if math.isnan(top) else combined.assign(best=top)


def _key(title: str) -> str:
    return title.replace(", ", "-").replace(" ", "_")


# ---- the article's own example -------------------------------------------------------------------------------------------


def exact_moved() -> dict[str, tuple[float, float]]:
    """Shares misclassified, and label-invariant, after x_2 went by 2 eta: y x_2 is then N(-eta, 1), y x_1 = 1 with p."""
    reach = math.log(P / (1 - P)) / (2 * ETA)  # |y x_2| below which x_1 decides what is likelier
    stays = P * phi(-ETA + reach) + (1 - P) * phi(-ETA - reach)
    return {
        "x_1 alone": (1 - P, 0.0),
        "weak alone": (phi(ETA), P * (phi(ETA) - phi(ETA - reach))),
        "Bayes, linear": (1 - stays, 0.0),
        "Bayes of pi(x)": (1 - stays, 0.0),
    }


def moved_rows(size: Size, seed: int) -> list[dict[str, str]]:
    """A row for each rule: measured and exact shares after the toy's x_2 has moved by 2 eta."""
    count = 20 * size.n_test
    world = WORLDS["toy"]
    dataset = br.data.load(world.data, 1, count, seed, **world.settings)
    step = torch.tensor([0.0, 2 * ETA]) * (2.0 * dataset.y_test[:, None] - 1)
    rows = []
    for name, post in rules(world, dataset).items():
        judgement = judged(post, dataset, {"moved": dataset.x_test - step})
        exact = exact_moved()[name]
        cells = {"classifier": name, "points": str(count)}
        for kind, value in zip(judgement["definition"].values.tolist(), exact, strict=True):
            hits = int(judgement["count"].sel(definition=kind, attack="moved"))
            cells[kind.replace("_", "-")] = with_interval(hits / count, binomial_interval(hits, count, 0.99))
            cells[f"{kind.replace('_', '-')}, exact"] = f"{value:.4f}"
        rows.append(cells)
    return rows


def article_notes() -> list[str]:
    """p(y = 1 | x) before and after, at the article's point and at its mirror image in x_1."""
    truth = br.data.load("tradeoff_toy", 1, 1, p=P, eta=ETA)
    points = torch.tensor([[s, e] for s in (-1.0, 1.0) for e in (ETA, -ETA)])
    before_1, after_1, before_2, after_2 = truth.conditional(points)[:, 1].tolist()
    return [
        f"The article's point: y = +1 at x = (-1, {ETA:g}), moved to (-1, {-ETA:g}): p(y = +1 | x) falls from "
        f"{before_1:.6f} to {after_1:.2g}; at (+1, {ETA:g}) from {before_2:.6f} to {after_2:.2g}. Neither is an adversarial "
        f"example."
    ]


def definition_notes(judgements: dict[str, xr.Dataset]) -> list[str]:
    """Says for each world and radius what the definition changes, and what PGD missed."""
    texts = []
    for title, judgement in judgements.items():
        worst = judgement["worst_case_accuracy"]
        gap = (worst.sel(definition="label_invariant") - worst.sel(definition="norm")).values
        asked = judgement["adversarial_example"].sel(definition="label_invariant")
        by_pgd = int(asked.sel(attack="PGD").sum())
        anyone = int(asked.any("attack").sum())
        valid, all_hits = (
            int(judgement["count"].sel(definition="label_invariant", attack="PGD").sum()),
            int(judgement["successes"].sel(attack="PGD").sum()),
        )
        texts.append(
            f"{title}: of PGD's {all_hits} successes against {judgement.sizes['classifier']} classifiers {valid} are "
            f"adversarial examples by the label-invariant definition; robust accuracy differs by up to {gap.max():.3f} "
            f"between the definitions. PGD found {by_pgd} of the {anyone} points with such an example that any attack found."
        )
    return texts


if __name__ == "__main__":
    cyclopts.run(main)
