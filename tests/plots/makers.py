"""Evaluations and comparisons, as the plots take them in their tests."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr


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
        groups |= make_chains(rng, points)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["predictive"] = json.dumps({"losses": [3.0, 2.0, 1.0], "steps": 300})
    return tree


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


def make_chains(rng: np.random.Generator, points: int) -> dict[str, xr.Dataset]:
    values = rng.normal(size=(2, 20, points))
    log_likelihood = xr.Dataset(
        {"obs": (("chain", "draw", "point"), values)},
        coords={"chain": range(2), "draw": range(20), "point": np.arange(points) * 10},
    )
    diagnostics = xr.Dataset({"rhat": ("point", np.linspace(1, 2, points))}, coords={"point": np.arange(points) * 10})
    return {"log_likelihood": log_likelihood, "diagnostics": diagnostics}
