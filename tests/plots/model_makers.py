"""Statistics of many models, as the plots take them in their tests."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesrob.analysis import bias_variance


def make_curves(shift: float = 0.0, dim: str = "eps") -> xr.Dataset:
    """What `bias_variance` gives of four models at six points and three perturbations."""
    rng = np.random.default_rng(0)
    f = xr.DataArray(shift + rng.normal(size=(4, 3, 6)), dims=("model", dim, "point"), coords={dim: [0.0, 0.1, 0.4]})
    return bias_variance(f, np.zeros(6), noise_variance=0.5)


def make_spread() -> xr.Dataset:
    values = {"accuracy": [0.9, 0.5], "accuracy_spread": [0.0, 0.1], "mean_loss": [0.2, 2.0], "loss_spread": [0.01, 0.5]}
    return xr.Dataset({name: ("rms", row) for name, row in values.items()}, coords={"rms": [0.0, 0.1]})


def make_sweep() -> xr.DataTree:
    cells = {"cell": ["a", "b", "c"], "net.width": ("cell", [8, 8, 16]), "attack": ["FGSM", "PGD"]}
    score = np.array([[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]])
    group = xr.Dataset(
        {"accuracy": ("cell", [0.1, 0.5, 0.9]), "softmax_robustness": (("cell", "attack"), score)}, coords=cells
    )
    return xr.DataTree.from_dict({"SGD": group, "HMC": group.isel(cell=[0, 2])})


def make_tradeoff(names: tuple[str, ...] = ("SVM", "HMC")) -> xr.DataTree:
    rng = np.random.default_rng(5)
    accuracy, robust = rng.uniform(0.5, 1, len(names)), rng.uniform(0, 0.9, len(names))
    chosen = {
        "accuracy": ("classifier", accuracy),
        "robust_accuracy": ("classifier", robust),
        "accuracy_interval": (("bound", "classifier"), np.stack([accuracy - 0.02, accuracy + 0.01])),
        "robust_accuracy_interval": (("bound", "classifier"), np.stack([robust - 0.03, robust + 0.05])),
    }
    bound = xr.Dataset({"robust_accuracy": ("accuracy", [0.0, 0.9])}, coords={"accuracy": [1.0, 0.9]})
    family = xr.Dataset({"accuracy": ("ratio", [0.99, 0.95]), "robust_accuracy": ("ratio", [0.01, 0.3])})
    coords = {"classifier": list(names), "bound": ["lower", "upper"]}
    return xr.DataTree.from_dict({"classifiers": xr.Dataset(chosen, coords), "bound": bound, "family": family})


def make_definitions(shift: float = 0.0, best: bool = True) -> xr.Dataset:
    rng = np.random.default_rng(6)
    worst = rng.uniform(0.1, 0.8, size=(3, 2)) + shift
    dims = ("classifier", "definition")
    group = {
        "accuracy": ("classifier", [0.99, 0.95, 0.9]),
        "worst_case_accuracy": (dims, worst),
        "worst_case_accuracy_interval": (("bound", *dims), np.stack([worst - 0.04, worst + 0.02])),
    }
    if best:
        group["best"] = 0.85
    coords = {"classifier": ["x_1", "SGD", "HMC"], "definition": ["norm", "label_invariant"], "bound": ["lower", "upper"]}
    return xr.Dataset(group, coords)


def make_features() -> xr.DataTree:
    rng = np.random.default_rng(4)
    correlation = rng.uniform(-1, 1, 12)
    correlation[3] = np.nan
    features = xr.Dataset(
        {"weights": (("model", "feature"), rng.normal(size=(2, 12))), "correlation": ("feature", correlation)},
        coords={"model": ["plain", "robust"]},
        attrs={"shape": [1, 4, 3]},
    )
    return xr.DataTree.from_dict({"features": features})


def make_pictures(channels: int = 3) -> xr.DataTree:
    rng = np.random.default_rng(5)
    group = xr.Dataset(
        {
            "picture": (("row", "column", "channel", "height", "width"), rng.uniform(size=(2, 3, channels, 4, 5))),
            "text": (("row", "column"), [["a", "b", ""], ["d", "", "f"]]),
            "signed": ("column", [False, True, False]),
        },
        coords={"row": ["one", "two"], "column": ["image", "gradient", "attacked"]},
    )
    return xr.DataTree.from_dict({"pictures": group})


def make_accuracy() -> xr.DataTree:
    rng = np.random.default_rng(6)
    values = rng.uniform(0.3, 0.7, size=(2, 2, 3))
    group = xr.Dataset(
        {
            "accuracy": (("training", "eps", "n_train"), values),
            "accuracy_interval": (("bound", "training", "eps", "n_train"), np.stack([values - 0.1, values + 0.2])),
        },
        coords={"training": ["plain", "robust"], "eps": [0.0, 0.1], "n_train": [10, 50, 200]},
    )
    return xr.DataTree.from_dict({"accuracy": group})
