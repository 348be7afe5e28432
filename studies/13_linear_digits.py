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
import pandas as pd
import torch
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import soft_margin_svm
from bayesrob.attacks import FGSM, PGD
from bayesrob.evaluation import Results
from bayesrob.inference import HMC, SGD, AdversarialTraining, Ensemble, Inference, fit_once
from bayesrob.predictive import Predictive
from bayesrob.report import render
from shared.linear_weights import correlations, linear, uses, worst_margins
from shared.study_tools import CHAINS, Scale, chain_note, chain_row, file_name, share, show, with_interval

POSTERIORS = Path("results") / "posteriors"
"""Where the studies keep what they have trained, unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Data, radii of training, radii that are reported, epochs, bootstraps of the training set, and draws of each chain.

    The prior of HMC is 0.1: a digit's inked pixels then give logits of order 1. `svm_points`: of the SVMs.
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

    Parameters
    ----------
    scale
        smoke: seconds, on digits; small: all fives and sevens of MNIST, 20 bootstraps, minutes on one core; paper: longer
        training, 200 bootstraps and longer chains.
    out
        Folder for results and report; default results/linear_digits-SCALE.
    seed
        Fixes data, training, chains, bootstraps and attacks.
    posteriors
        Where trained networks are kept (default results/posteriors).
    """
    out = Path("results") / f"linear_digits-{scale}" if out is None else out
    size = SIZES[scale]
    settings = {"scale": scale, "seed": seed, "classes": str(CLASSES)}
    settings |= {key: str(value) for key, value in dataclasses.asdict(size).items()}
    results = Results(out, "linear_digits", (__doc__ or "").splitlines()[0], settings)
    dataset = br.data.keep_classes(br.data.load(size.data, n_train=size.n_train, seed=seed), CLASSES)
    net = zero_net(dataset)
    fitted = {name: fit_once(method, net, dataset, posteriors, seed) for name, method in trainings(size).items()}
    bags = {}
    for name, method in trainings(size).items():
        bag = fit_once(Ensemble(size.bootstraps, bootstrap=True, base=method), net, dataset, posteriors, seed)
        bags[name] = np.stack([w for w, _ in linear(bag)])
    print(
        f"logistic: {sum(post.info['seconds'] for post in fitted.values()):.0f} s of training, bootstraps apart", flush=True
    )
    hmc = HMC(num_samples=size.draws, warmup=size.draws + 50)
    model = br.models.BayesianNetwork(br.nets.mlp(dataset.x_train[0].numel(), (), 2, seed=seed), prior_scale=size.prior)
    fitted["HMC"] = fit_once(hmc, model, dataset, posteriors, seed)
    print(f"HMC: {fitted['HMC'].info['seconds']:.0f} s", flush=True)
    classifiers = {name: linear(post)[0] for name, post in fitted.items() if name != "HMC"}
    classifiers |= svms(dataset, size)
    draws = linear(fitted["HMC"])
    classifiers["HMC, mean weights"] = (np.mean([w for w, _ in draws], axis=0), float(np.mean([b for _, b in draws])))
    features = feature_tree(dataset, classifiers)
    results.tree("features", features, "weights w_1 - w_0 and the correlation of every pixel with the label")
    rows = use_table(features, bags, np.stack([w for w, _ in draws]))
    results.table("weights", pd.DataFrame(rows), WEIGHTS)
    results.figure("weights", plots.feature_weights(features), FIGURE)
    results.table("accuracy", pd.DataFrame(accuracy_table(dataset, classifiers, size)), ACCURACY)
    notes = use_notes(features, bags, size)
    notes += attacked(results, dataset, fitted, classifiers, size, seed)
    for note in notes:
        results.note(note)
        print(note, flush=True)
    for name in ("weights", "accuracy", "attacks"):
        show(out / f"{name}.csv")
    print(f"report: {render(results.finish())}")


# ---- classifiers ---------------------------------------------------------------------------------------------------------


def trainings(size: Size) -> dict[str, Inference]:
    sgd = SGD(epochs=size.epochs, initial="keep")
    robust: dict[str, Inference] = {f"robust {eps:g}": AdversarialTraining(FGSM(eps=eps), sgd) for eps in size.eps}
    return {"plain": sgd, **robust}


def zero_net(dataset: br.Dataset) -> torch.nn.Sequential:
    net = br.nets.mlp(dataset.x_train[0].numel(), (), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    return net


def svms(dataset: br.Dataset, size: Size) -> dict[str, tuple[np.ndarray, float]]:
    """hinge + eps |w|_1 in the unit ball, without a bias, and its optimum: the paper's adversarial loss."""
    x, y = dataset.x_train[: size.svm_points].flatten(1).numpy(), dataset.y_train[: size.svm_points].numpy()
    found = {}
    for eps in (0.0, size.eps[0]):
        svm = soft_margin_svm(x, y, eps)
        name = f"SVM, robust {eps:g}" if eps else "SVM"
        print(f"{name}: loss {float(svm['loss']):.5f}, at most {float(svm['gap']):.1g} above the optimum", flush=True)
        found[name] = (svm["weights"].values, 0.0)
    return found


def feature_tree(dataset: br.Dataset, classifiers: Mapping[str, tuple[np.ndarray, float]]) -> xr.DataTree:
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
WEIGHTS = (
    "Over the pixels that vary: Spearman's rank correlation of |weight| and |correlation with the label|, and the share of "
    "|w| on the half whose correlation is weaker (0.5: no preference); beside it the share of |w| times the pixel's "
    "standard deviation, what a pixel adds to the logit's spread. Intervals: 95% percentiles over bootstraps of the "
    "training points, everything trained again; of HMC's draws over the draws. The SVMs are optima without an interval."
)


def percentiles(values: Any) -> np.ndarray:
    return np.percentile(np.asarray(values), (2.5, 97.5))


def use_table(tree: xr.DataTree, bags: Mapping[str, np.ndarray], draws: np.ndarray) -> list[dict[str, str]]:
    features, rows = tree["features"].to_dataset(), []
    names = features["model"].values.tolist()
    for name, (_, found) in zip(names, uses(features["weights"].values, features).iterrows(), strict=True):
        again = uses(bags[name], features) if name in bags else None
        cells = {
            key: f"{value:.3f}" if again is None else with_interval(value, percentiles(again[str(key)]))
            for key, value in found.items()
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

ACCURACY = (
    "Standard and robust accuracy of the linear classifiers on all test points, exact (no attack is run), with 95% Wilson "
    "intervals. Perturbations stay within l_inf eps and in [0, 1]; 'unbounded': in the ball alone, as in the paper's theory "
    "(margin less eps |w|_1)."
)


def accuracy_table(dataset: br.Dataset, classifiers: Mapping[str, tuple[np.ndarray, float]], size: Size) -> list[Any]:
    x, y = dataset.x_test.flatten(1).double().numpy(), dataset.y_test.numpy()
    rows = []
    for name, (w, b) in classifiers.items():
        cells = {"standard": share(worst_margins(w, b, x, y, 0.0, None) > 0)}
        cells |= {f"eps {eps:g}": share(worst_margins(w, b, x, y, eps, dataset.bounds) > 0) for eps in size.radii}
        top = size.eps[-1]
        cells[f"eps {top:g}, unbounded"] = share(worst_margins(w, b, x, y, top, None) > 0)
        rows.append({"classifier": name, **cells})
    return rows


ATTACKS = (
    "The same by attacks, all test points: accuracy with 95% Wilson intervals, and the exact one of linear models beside "
    "it. HMC's averaged prediction is not linear: attacks say at most how robust it is."
)


def attacked(
    results: Results,
    dataset: br.Dataset,
    fitted: Mapping[str, Predictive],
    classifiers: Mapping[str, tuple[np.ndarray, float]],
    size: Size,
    seed: int,
) -> list[str]:
    """Attacks must find the worst perturbation where it is known."""
    x, y = dataset.x_test.flatten(1).double().numpy(), dataset.y_test.numpy()
    rows, notes, eps = [], [], size.eps[0]
    attacks = {"FGSM": FGSM(eps=eps), "PGD": PGD(eps=eps, steps=20)}
    attacks["PGD margin"] = dataclasses.replace(attacks["PGD"], objective="margin_per_draw")
    for name, post in fitted.items():
        tree = br.evaluate(post, dataset, attacks, num_points=None, seed=seed)
        results.tree(file_name(name), tree, f"evaluation of {name}")
        points = tree["points"].to_dataset()
        label = points["label"].values
        left = {a: points["adversarial_log_probability"].sel(attack=a).values.argmax(-1) == label for a in attacks}
        exact = None
        if name in classifiers:
            exact = worst_margins(*classifiers[name], x, y, eps, dataset.bounds) > 0
            wrong = int((left["FGSM"] != exact).sum())
            notes.append(f"{name}: FGSM at {eps:g} and the closed form disagree at {wrong} of {len(exact)} points.")
        else:
            results.table("chains", pd.DataFrame([chain_row(name, tree)]), CHAINS)
            notes.append(chain_note(name, tree))
        clean = points["log_probability"].values.argmax(-1) == label
        cells = {"standard": share(clean), **{f"{a} {eps:g}": share(right) for a, right in left.items()}}
        rows.append({"classifier": name, **cells, "exact": "" if exact is None else share(exact)})
        results.table("attacks", pd.DataFrame(rows), ATTACKS)
    return notes


if __name__ == "__main__":
    cyclopts.run(main)
