"""What plots are given in their tests."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from bayesrob.analysis import bias_variance, component_quantiles, gradient_statistics


def make_tree(image: bool = True, chains: bool = True) -> xr.DataTree:
    rng = np.random.default_rng(0)
    attacks, points = ["random", "pgd"], 12
    shape = (1, 5, 5) if image else (2,)
    axes = [f"axis_{i}" for i in range(len(shape))]
    log_p = np.log(rng.dirichlet(np.ones(3), points))
    groups = {
        "robustness": xr.Dataset(
            {
                "accuracy": 0.9,
                "accuracy_interval": ("bound", [0.8, 0.95]),
                "adversarial_accuracy": ("attack", [0.7, 0.2]),
                "adversarial_accuracy_interval": (("attack", "bound"), [[0.6, 0.8], [0.1, 0.35]]),
            },
            coords={"attack": attacks, "bound": ["lower", "upper"]},
        ),
        "points": xr.Dataset(
            {
                "label": ("point", rng.integers(0, 3, points)),
                "log_probability": (("point", "class"), log_p),
                "adversarial_log_probability": (("attack", "point", "class"), np.stack([log_p, log_p[::-1]])),
            },
            coords={"attack": attacks},
        ),
        "gradients": xr.Dataset(
            {
                "norm": (("objective", "point"), rng.exponential(size=(2, points))),
                "standard_error": (("objective", "point"), rng.exponential(size=(2, points)) / 10),
            },
            coords={"objective": ["expected_loss", "predictive_loss"]},
        ),
        "examples": xr.Dataset(
            {
                "clean": (("point", *axes), rng.uniform(size=(9, *shape))),
                "adversarial": (("attack", "point", *axes), rng.uniform(size=(2, 9, *shape))),
            },
            coords={"attack": attacks},
        ),
    }
    if chains:
        values = rng.normal(size=(2, 20, points))
        groups["log_likelihood"] = xr.Dataset(
            {"obs": (("chain", "draw", "point"), values)},
            coords={"chain": range(2), "draw": range(20), "point": np.arange(points) * 10},
        )
        groups["diagnostics"] = xr.Dataset(
            {"rhat": ("point", np.linspace(1, 2, points))}, coords={"point": np.arange(points) * 10}
        )
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["predictive"] = json.dumps({"losses": [3.0, 2.0, 1.0], "steps": 300})
    return tree


def make_gradients(scale: float = 1.0, shape: tuple[int, ...] = (1, 4, 3)) -> xr.DataTree:
    """A result of `evaluate_gradients` of known draws, in two precisions that differ plainly."""
    rng = np.random.default_rng(1)
    points, prefixes = 7, (1, 5, 20)
    g = scale * (0.2 + rng.normal(size=(20, points, *shape)))
    found = xr.concat(
        [
            gradient_statistics(g * factor, -np.abs(g[..., 0].sum(axis=tuple(range(2, g.ndim - 1)))), prefixes)
            for factor in (10, 1)
        ],
        xr.DataArray(["float32", "float64"], dims="precision", name="precision"),
    )
    axes = [f"axis_{i}" for i in range(len(shape))]
    images = xr.Dataset(
        {
            "gradient": found["gradient"].isel(point=slice(5)),
            "input": (("point", *axes), rng.uniform(size=(5, *shape))),
            "label": ("point", np.arange(5) + 2),
        }
    )
    quantiles = [component_quantiles(found["gradient"].sel(precision=name)) for name in ("float32", "float64")]
    quantiles = xr.concat(quantiles, found["precision"])
    return xr.DataTree.from_dict(
        {
            "statistics": found.drop_vars("gradient"),
            "components": xr.Dataset({"gradient": quantiles}),
            "images": images,
        }
    )


def make_grid() -> xr.DataTree:
    rng = np.random.default_rng(2)
    dims = ("objective", "n_train", "warmup", "width")  # in no order that a plot may count on
    coords = {
        "objective": ["expected_loss", "predictive_loss"],
        "n_train": [100, 200, 300],
        "warmup": [5, 10],
        "width": [4, 16, 64, 256],
        "bound": ["lower", "upper"],
    }
    shape = (2, 3, 2, 4)
    norm = rng.uniform(1, 2, size=shape)
    grid = {
        "norm": (dims, norm),
        "standard_error": (dims, rng.uniform(0.1, 0.2, size=shape)),
        "draw_norm": (dims, rng.uniform(3, 4, size=shape)),
        "norm_interval": (("bound", *dims), np.stack([norm * 0.9, norm * 1.3])),
    }
    return xr.DataTree.from_dict({"grid": xr.Dataset(grid, coords)})


def make_table() -> xr.DataTree:
    measured = np.array([[0.9, 0.5, 0.2], [0.8, 0.4, 0.1], [0.7, 0.3, 0.0]])
    table = xr.Dataset(
        {
            "measured": (("row", "column"), measured),
            "published": (("row", "column"), [[np.nan, 0.95, 0.97], [np.nan, np.nan, 0.6], [np.nan] * 3]),
            "interval": (("bound", "row", "column"), np.stack([measured - 0.05, measured + 0.02])),
        },
        coords={"row": ["MNIST/HMC", "MNIST/VI", "digits"], "column": ["none", "pgd", "pgd_margin"]},
    )
    return xr.DataTree.from_dict({"table": table})


def make_transfer() -> xr.DataTree:
    rng = np.random.default_rng(3)
    names, targets = ["SGD", "HMC"], ["SGD", "SVI", "HMC"]
    coords = {"source": names, "target": targets, "bound": ["lower", "upper"]}
    values = rng.uniform(size=(2, 3))
    restricted = values.copy()
    restricted[1, 2] = np.nan
    pair = ("source", "target")
    matrix = {
        "accuracy": ("target", [0.9, 0.8, 0.7]),
        "accuracy_interval": (("bound", "target"), [[0.85, 0.75, 0.65], [0.95, 0.85, 0.75]]),
        "adversarial_accuracy": (pair[::-1], values.T),
        "adversarial_accuracy_interval": ((*pair, "bound"), np.stack([values - 0.1, values + 0.1], -1)),
        "both_right_accuracy": (pair, restricted),
        "both_right_accuracy_interval": ((*pair, "bound"), np.stack([restricted - 0.1, restricted + 0.1], -1)),
    }
    return xr.DataTree.from_dict({"transfer": xr.Dataset(matrix, coords)})


def make_gauntlet(shift: float = 0.0) -> xr.DataTree:
    """Three attacks in l_inf <= 0.1, one in l_2 <= 1, two that look for the smallest l_2 and one for the smallest l_0."""
    settings = {
        "weak": {"norm": "l_inf", "eps": 0.1},
        "strong l_inf": {"norm": "l_inf", "eps": 0.1},
        "middle": {"norm": "l_inf", "eps": 0.1},
        "round": {"norm": "l_2", "eps": 1.0},
        "near l_2": {"norm": "l_2", "eps": 0.3},
        "nearer": {"norm": "l_2"},
        "few": {"norm": "l_0"},
    }
    accuracy = np.array([0.8, 0.2, 0.5, 0.4, 0.0, 0.0, 0.1]) + shift
    smallest = np.full((7, 6), np.nan)
    smallest[4] = [0, 0.5, 0.6, 0.7, np.inf, np.inf]
    smallest[5] = [0, 0.4, 0.9, 0.7, 1.1, np.inf]
    smallest[6] = [0, 1, 1, 2, 3, np.inf]
    median = np.array([np.nan] * 4 + [0.7, 0.8, 2.0])
    worst = np.array([0.1, 0.3]) + shift
    scores = xr.Dataset(
        {
            "accuracy": 0.9 + shift,
            "accuracy_interval": ("bound", np.array([0.8, 0.95]) + shift),
            "adversarial_accuracy": ("attack", accuracy),
            "adversarial_accuracy_interval": (("bound", "attack"), [accuracy - 0.02, accuracy + 0.03]),
            "median_perturbation": ("attack", median),
            "worst_case_accuracy": ("threat", worst),
            "worst_case_accuracy_interval": (("bound", "threat"), [worst - 0.05, worst + 0.04]),
        },
        coords={
            "attack": list(settings),
            "threat": ["l_inf <= 0.1", "l_2 <= 1"],
            "norm": ("threat", ["l_inf", "l_2"]),
            "eps": ("threat", [0.1, 1.0]),
            "bound": ["lower", "upper"],
        },
    )
    points = xr.Dataset({"smallest_perturbation": (("attack", "point"), smallest)}, coords={"attack": list(settings)})
    tree = xr.DataTree.from_dict({"robustness": scores, "points": points})
    tree.attrs["attacks"] = json.dumps(settings)
    return tree


def make_epochs() -> xr.DataTree:
    value = np.array([[[0.1, 0.3, 0.2], [0.3, 0.5, 0.6]], [[0.5, np.nan, np.nan], [0.7, np.nan, np.nan]]])
    coords = {"curve": ["mean", "stopped"], "seed": [0, 1], "epoch": [1, 2, 3]}
    group = xr.Dataset({"value": (("curve", "seed", "epoch"), value)}, coords=coords)
    return xr.DataTree.from_dict({"MLP": group, "LSTM": group.isel(curve=[1])})


def make_protocols() -> dict[str, xr.DataTree]:
    """Two data sets, the second with a posterior of its own; of the first, one median gradient is zero."""
    trees = {}
    for data, names in (("digits", ["HMC", "SGD"]), ("moons", ["SGD", "VI"])):
        right = np.arange(10) < np.array([9, 7, 3])[:, None]
        both = np.stack([right, np.arange(10) < np.array([9, 4, 0])[:, None]])
        norm = np.random.default_rng(0).exponential(size=(2, 3, 3, 10))
        norm[0, 0] = 0
        coords = {"posterior": names, "eps": [0.0, 0.1, 0.3]}
        accuracy = xr.Dataset(
            {"right": (("posterior", "protocol", "eps", "point"), np.stack([both, both[::-1]]))},
            coords={**coords, "protocol": ["reference", "audited"]},
        )
        gradients = xr.Dataset(
            {"norm": (("posterior", "objective", "eps", "point"), norm)}, coords={**coords, "objective": ["a", "b", "c"]}
        )
        trees[data] = xr.DataTree.from_dict({"accuracy": accuracy, "gradients": gradients})
    return trees


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
    found = xr.Dataset(
        {"accuracy": ("cell", [0.1, 0.5, 0.9]), "softmax_robustness": (("cell", "attack"), score)}, coords=cells
    )
    return xr.DataTree.from_dict({"SGD": found, "HMC": found.isel(cell=[0, 2])})


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
    found = {
        "accuracy": ("classifier", [0.99, 0.95, 0.9]),
        "worst_case_accuracy": (dims, worst),
        "worst_case_accuracy_interval": (("bound", *dims), np.stack([worst - 0.04, worst + 0.02])),
    }
    if best:
        found["best"] = 0.85
    coords = {"classifier": ["x_1", "SGD", "HMC"], "definition": ["norm", "label_invariant"], "bound": ["lower", "upper"]}
    return xr.Dataset(found, coords)


def make_parts(scale: float = 1.0, parts: tuple[str, ...] = ("tangent", "off")) -> xr.Dataset:
    rng = np.random.default_rng(7)
    each = [gradient_statistics(scale * (k + rng.normal(size=(20, 6, 3))), None, (1, 5, 20)) for k in range(len(parts))]
    return xr.concat(each, xr.Variable("part", list(parts)))


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
    found = xr.Dataset(
        {
            "picture": (("row", "column", "channel", "height", "width"), rng.uniform(size=(2, 3, channels, 4, 5))),
            "text": (("row", "column"), [["a", "b", ""], ["d", "", "f"]]),
            "signed": ("column", [False, True, False]),
        },
        coords={"row": ["one", "two"], "column": ["image", "gradient", "attacked"]},
    )
    return xr.DataTree.from_dict({"pictures": found})


def make_accuracy() -> xr.DataTree:
    rng = np.random.default_rng(6)
    values = rng.uniform(0.3, 0.7, size=(2, 2, 3))
    found = xr.Dataset(
        {
            "accuracy": (("training", "eps", "n_train"), values),
            "accuracy_interval": (("bound", "training", "eps", "n_train"), np.stack([values - 0.1, values + 0.2])),
        },
        coords={"training": ["plain", "robust"], "eps": [0.0, 0.1], "n_train": [10, 50, 200]},
    )
    return xr.DataTree.from_dict({"accuracy": found})
