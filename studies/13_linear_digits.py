"""Linear MNIST, 5 against 7: do robust weights sit on the strongly correlated pixels and leave the weakly correlated ones?

Figure 5 of the slides on "Robustness may be at odds with accuracy" (Tsipras et al. 2019), which print no numbers: a claim in
words, "adversarial training uses strongly correlated features more and ignores the weakly correlated", is measured here as
the rank correlation of |weight| with |correlation of pixel and label|, and as the share of |w| on the weaker half of the
pixels that vary. Of a linear model the worst perturbation is known, so robust accuracies are exact, and FGSM is the inner
maximum of adversarial training. Weights start at zero: the losses are convex, and pixels that are hardly ever inked would
else keep their random start. Beside logistic regression: soft-margin SVMs, solved to a proven gap, and HMC.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import torch
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import soft_margin_svm
from bayesrob.attacks import FGSM, PGD
from bayesrob.inference import HMC, SGD, AdversarialTraining, Ensemble, Inference, fit_once
from bayesrob.predictive import Predictive
from shared.chains import CHAINS, chain_note, chain_row
from shared.linear_weights import correlations, linear, uses, worst_margins
from shared.study import POSTERIORS, Scale, Study
from shared.tables import file_name, right_after, right_before, share, with_interval


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of one run.

    Args:
        data: name of the data set.
        n_train: number of training points before the two classes are chosen, None for all.
        eps: radii of adversarial training.
        radii: radii at which robust accuracy is reported.
        epochs: passes over the training points.
        bootstraps: number of bootstraps of the training set.
        draws: draws of each chain.
        svm_points: number of training points of the SVMs.
        prior: standard deviation of HMC's prior; a digit's inked pixels then give logits of order 1.
    """

    data: str = "mnist"
    n_train: int | None = None
    eps: tuple[float, ...] = (0.1, 0.2)
    radii: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    epochs: int = 20
    bootstraps: int = 20
    draws: int = 200
    svm_points: int = 20_000
    prior: float = 0.1


SIZES: dict[Scale, Size] = {
    "smoke": Size("digits", None, (0.1, 0.2), (0.1, 0.2), 20, 3, 10),
    "small": Size(),
    "paper": Size(epochs=100, bootstraps=200, draws=2000),
}
CLASSES = (5, 7)


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train plain, robust and Bayesian linear classifiers, compare where their weights lie, and what attacks leave.

    Args:
        scale: smoke: seconds, on digits; small: all fives and sevens of MNIST, 20 bootstraps, minutes on one core; paper:
            longer training, 200 bootstraps and longer chains.
        out: Folder for results and report; default results/linear_digits-SCALE.
        seed: Fixes data, training, chains, bootstraps and attacks.
        posteriors: Folder of trained networks (default results/posteriors).
    """
    size = SIZES[scale]
    settings = {"classes": str(CLASSES), **{key: str(value) for key, value in dataclasses.asdict(size).items()}}
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS,
        printed=("weights", "accuracy", "attacks"),
    ) as study:  # fmt: skip
        dataset = br.data.keep_classes(br.data.load(size.data, n_train=size.n_train, seed=seed), CLASSES)
        fitted, bags = trained(study, dataset, size, seed, posteriors)
        classifiers = {name: linear(post)[0] for name, post in fitted.items() if name != "HMC"}
        classifiers |= svms(study, dataset, size)
        draws = linear(fitted["HMC"])
        mean_bias = float(np.mean([b for _, b in draws]))
        classifiers["HMC, mean weights"] = (np.mean([w for w, _ in draws], axis=0), mean_bias)
        features = feature_tree(dataset, classifiers)
        study.tree("features", features, "weights w_1 - w_0 and the correlation of every pixel with the label")
        study.table("weights", use_table(features, bags, np.stack([w for w, _ in draws])))
        study.figure("weights", plots.feature_weights(features), FIGURE)
        study.table("accuracy", accuracy_table(dataset, classifiers, size))
        texts = attacked(study, dataset, fitted, classifiers, eps=size.eps[0], seed=seed)
        study.note(*use_notes(features, bags, size), *texts)


CAPTIONS = {
    "weights": "Over the pixels that vary: Spearman's rank correlation of |weight| and |correlation with the label|, and "
    "the share of "
    "|w| on the half whose correlation is weaker (0.5: no preference); beside it the share of |w| times the pixel's "
    "standard deviation, what a pixel adds to the logit's spread. Intervals: 95% percentiles over bootstraps of the "
    "training points, everything trained again; of HMC's draws over the draws. The SVMs are optima without an interval.",
    "accuracy": "Standard and robust accuracy of the linear classifiers on all test points, exact (no attack is run), with "
    "95% Wilson "
    "intervals. Perturbations stay within l_inf eps and in [0, 1]; 'unbounded': in the ball alone, as in the paper's theory "
    "(margin less eps |w|_1).",
    "attacks": "The same by attacks, all test points: accuracy with 95% Wilson intervals, and the exact one of linear "
    "models beside "
    "it. HMC's averaged prediction is not linear: attacks say at most how robust it is.",
    "chains": CHAINS,
}


# ---- classifiers ---------------------------------------------------------------------------------------------------------


def trainings(size: Size) -> dict[str, Inference]:
    """Plain training, and training on FGSM of each radius."""
    sgd = SGD(epochs=size.epochs, initial="keep")
    robust: dict[str, Inference] = {f"robust {eps:g}": AdversarialTraining(FGSM(eps=eps), sgd) for eps in size.eps}
    return {"plain": sgd, **robust}


def trained(
    study: Study, dataset: br.Dataset, size: Size, seed: int, folder: Path
) -> tuple[dict[str, Predictive], dict[str, np.ndarray]]:
    """The networks and HMC by name, trained now or loaded; and the weights of the networks over bootstraps."""
    net = zero_net(dataset)
    fitted = {name: fit_once(method, net, dataset, folder, seed) for name, method in trainings(size).items()}
    bags = {}
    for name, method in trainings(size).items():
        bag = fit_once(Ensemble(size.bootstraps, bootstrap=True, base=method), net, dataset, folder, seed)
        bags[name] = np.stack([w for w, _ in linear(bag)])
    seconds = sum(post.info["seconds"] for post in fitted.values())
    study.say(f"logistic: {seconds:.0f} s of training, bootstraps apart")
    hmc = HMC(num_samples=size.draws, warmup=size.draws + 50)
    model = br.models.BayesianNetwork(br.nets.mlp(dataset.x_train[0].numel(), (), 2, seed=seed), prior_scale=size.prior)
    fitted["HMC"] = fit_once(hmc, model, dataset, folder, seed)
    study.say(f"HMC: {fitted['HMC'].info['seconds']:.0f} s")
    return fitted, bags


def zero_net(dataset: br.Dataset) -> torch.nn.Sequential:
    """A linear network whose weights are all zero."""
    net = br.nets.mlp(dataset.x_train[0].numel(), (), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    return net


def svms(study: Study, dataset: br.Dataset, size: Size) -> dict[str, tuple[np.ndarray, float]]:
    """The SVMs of the adversarial loss of Tsipras et al. 2019: hinge + eps |w|_1 in the unit ball, without a bias."""
    x, y = dataset.x_train[: size.svm_points].flatten(1).numpy(), dataset.y_train[: size.svm_points].numpy()
    solved = {}
    for eps in (0.0, size.eps[0]):
        svm = soft_margin_svm(x, y, eps)
        name = f"SVM, robust {eps:g}" if eps else "SVM"
        study.say(f"{name}: loss {float(svm['loss']):.5f}, at most {float(svm['gap']):.1g} above the optimum")
        solved[name] = (svm["weights"].values, 0.0)
    return solved


def feature_tree(dataset: br.Dataset, classifiers: Mapping[str, tuple[np.ndarray, float]]) -> xr.DataTree:
    """The weights of every classifier beside the correlation and the deviation of every pixel."""
    x, y = dataset.x_train.flatten(1).double().numpy(), dataset.y_train.numpy()
    features = xr.Dataset(
        {
            "weights": (("model", "feature"), np.stack([w for w, _ in classifiers.values()])),
            "correlation": ("feature", correlations(x, y)),
            "deviation": ("feature", x.std(0)),
        },
        coords={"model": list(classifiers)},
        attrs={"shape": list(dataset.x_train.shape[1:])},
    )
    return xr.DataTree.from_dict({"features": features})


# ---- which features are used ---------------------------------------------------------------------------------------------

FIGURE = "weights, blue for 5 and red for 7, and |weight| of each pixel that varies against its correlation with the label."


def percentiles(values: Any) -> np.ndarray:
    """The 95% percentile interval."""
    return np.percentile(np.asarray(values), (2.5, 97.5))


def use_table(tree: xr.DataTree, bags: Mapping[str, np.ndarray], draws: np.ndarray) -> list[dict[str, str]]:
    """A row for each classifier: how its weights are spread over strongly and weakly correlated pixels."""
    features, rows = tree["features"].to_dataset(), []
    names = features["model"].values.tolist()
    for name, (_, used) in zip(names, uses(features["weights"].values, features).iterrows(), strict=True):
        again = uses(bags[name], features) if name in bags else None
        cells = {
            key: f"{value:.3f}" if again is None else with_interval(value, percentiles(again[str(key)]))
            for key, value in used.items()
        }
        rows.append({"classifier": name, **cells})
    each = uses(draws, features)
    cells = {key: with_interval(each[key].median(), percentiles(each[key])) for key in each}
    return [*rows, {"classifier": "HMC, single draws", **cells}]


def use_notes(tree: xr.DataTree, bags: Mapping[str, np.ndarray], size: Size) -> list[str]:
    """The claim, by differences from the plain classifier trained on the same bootstrap."""
    features, notes = tree["features"].to_dataset(), []
    plain = uses(bags["plain"], features)
    at = {name: uses(features["weights"].sel(model=[name]).values, features).iloc[0] for name in bags}
    for name in (name for name in bags if name != "plain"):
        differences = uses(bags[name], features) - plain
        words = []
        for key, wanted in (("rank correlation", 1), ("share on the weak half", -1), ("share, weight x deviation", -1)):
            low, high = percentiles(differences[key])
            holds = "as claimed" if wanted * low > 0 and wanted * high > 0 else "against the claim"
            verdict = holds if low * high > 0 else "not to be told from none"
            change = with_interval(at[name][key] - at["plain"][key], (low, high))
            words.append(f"{key} {change} ({verdict})")
        left = at[name]["share on the weak half"]
        notes.append(
            f"{name} less plain, {size.bootstraps} paired bootstraps: {'; '.join(words)}. Weakly correlated pixels keep "
            f"{left:.3f} of |w|: {'hardly used' if left < 0.1 else 'less' if left < 0.5 else 'as much as the others'}."
        )
    return notes


# ---- accuracy ------------------------------------------------------------------------------------------------------------


def accuracy_table(dataset: br.Dataset, classifiers: Mapping[str, tuple[np.ndarray, float]], size: Size) -> list[Any]:
    """A row for each linear classifier: its exact robust accuracies."""
    x, y = dataset.x_test.flatten(1).double().numpy(), dataset.y_test.numpy()
    rows = []
    for name, (w, b) in classifiers.items():
        cells = {"standard": share(worst_margins(w, b, x, y, eps=0.0, bounds=None) > 0)}
        cells |= {f"eps {eps:g}": share(worst_margins(w, b, x, y, eps=eps, bounds=dataset.bounds) > 0) for eps in size.radii}
        top = size.eps[-1]
        cells[f"eps {top:g}, unbounded"] = share(worst_margins(w, b, x, y, eps=top, bounds=None) > 0)
        rows.append({"classifier": name, **cells})
    return rows


def attacked(
    study: Study,
    dataset: br.Dataset,
    fitted: Mapping[str, Predictive],
    classifiers: Mapping[str, tuple[np.ndarray, float]],
    *,
    eps: float,
    seed: int,
) -> list[str]:
    """Attack every network and table it; returns notes on where an attack misses the worst perturbation that is known."""
    x, y = dataset.x_test.flatten(1).double().numpy(), dataset.y_test.numpy()
    texts = []
    attacks = {"FGSM": FGSM(eps=eps), "PGD": PGD(eps=eps, steps=20)}
    attacks["PGD margin"] = dataclasses.replace(attacks["PGD"], objective="margin_per_draw")
    for name, post in fitted.items():
        tree = br.evaluate(post, dataset, attacks, num_points=None, seed=seed)
        study.tree(file_name(name), tree, f"evaluation of {name}")
        left = {attack: right_after(tree).sel(attack=attack).values for attack in attacks}
        exact = None
        if name in classifiers:
            exact = worst_margins(*classifiers[name], x, y, eps=eps, bounds=dataset.bounds) > 0
            wrong = int((left["FGSM"] != exact).sum())
            texts.append(f"{name}: FGSM at {eps:g} and the closed form disagree at {wrong} of {len(exact)} points.")
        else:
            study.add("chains", [chain_row(name, tree)])
            texts.append(chain_note(name, tree))
        cells = {"standard": share(right_before(tree)), **{f"{a} {eps:g}": share(right) for a, right in left.items()}}
        study.add("attacks", [{"classifier": name, **cells, "exact": "" if exact is None else share(exact)}])
    return texts


if __name__ == "__main__":
    cyclopts.run(main)
