"""Small sweeps, and what is compared between two runs of one."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from bayesrob import sweeps
from bayesrob.sweeps import Grid

SGD = {"method": "SGD", "decay": False, "batch_size": 64}
FIXED = {
    "data": {"name": "robust_features", "n_train": 200, "n_test": 60, "d": 63},  # needs no scikit-learn in the workers
    "net": {"architecture": "mlp", "activation": "tanh"},
    "inference": SGD,
    "evaluation": {
        "num_points": 30,
        "attacks": {"FGSM": {"eps": 0.1}, "twice": {"attack": "FGSM", "objective": "double_softmax"}},
    },
}
SMALL = Grid(FIXED, {"net.width": [8, 12], "net.depth": [1, 2], "inference.epochs": [2, 3, 5]})
CHAINS = Grid(
    {**FIXED, "inference": {"method": "HMC", "warmup": 5, "num_steps": 3, "num_chains": 2}, "seed": 3},
    {"net.width": [8], "inference.num_samples": [2, 4, 9], "inference.step_size": [0.01, None]},
)
VARIATIONAL = Grid(
    {**FIXED, "inference": {"method": "SVI", "decay": False, "num_draws": 10}},
    {"net.width": [8], "inference.epochs": [2, 4]},
)
ALL = [SMALL, CHAINS, VARIATIONAL]


def scores(folder: Path) -> dict[str, xr.Dataset]:
    """Everything but the time it took, by method, in the order of the keys."""
    tree = sweeps.collect(folder)
    timed = ["training_seconds", "scoring_seconds"]
    return {name: node.to_dataset().drop_vars(timed).sortby("cell") for name, node in tree.children.items()}


def assert_same(one: Path, other: Path) -> None:
    first, second = scores(one), scores(other)
    assert first.keys() == second.keys()
    for name, table in first.items():
        xr.testing.assert_identical(table, second[name])
