"""Data sets by name. A new one is a function in a file of its own and one row in `LOADERS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from bayesrob import errors
from bayesrob.data.cifar import cifar10, cifar100
from bayesrob.data.dataset import Dataset
from bayesrob.data.digits import digits
from bayesrob.data.manifolds import moons, sphere
from bayesrob.data.mnist import fashion_mnist, mnist
from bayesrob.data.robust_features import robust_features, tradeoff_toy
from bayesrob.data.simulated import simulated_classes, simulated_regression
from bayesrob.data.toys import half_moons
from bayesrob.data.two_points import two_points

__all__ = ["LOADERS", "load", "names"]

# To add a data set: write `name(n_train=..., n_test=..., seed=0, ...) -> Dataset`, every argument with a default, in a
# file of this folder, and add its row here. `load`, the command line and the contract tests then find it.
LOADERS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "half_moons": half_moons,
    "mnist": mnist,
    "moons": moons,
    "robust_features": robust_features,
    "simulated_classes": simulated_classes,
    "simulated_regression": simulated_regression,
    "sphere": sphere,
    "tradeoff_toy": tradeoff_toy,
    "two_points": two_points,
}


def names() -> tuple[str, ...]:
    """Names that `load` takes, in alphabetical order."""
    return tuple(sorted(LOADERS))


def load(name: str, n_train: int | None = None, n_test: int | None = None, seed: int = 0, **parameters: Any) -> Dataset:
    """Load or generate a data set by its name.

    Args:
        name: one of `names()`.
        n_train: number of training points; None, the default, is the loader's own default (whole sets for images).
        n_test: number of test points, likewise.
        seed: of the subset, or of the generated points. The same seed gives the same bits.
        parameters: the loader's own, such as `balanced=True` for images or `noise=0.2` for the moons.

    Raises:
        UnknownNameError: no such data set; names the nearest.
        InputError: a parameter that the loader does not know, or a value that it refuses.
        MissingDataError: a set that is neither on this machine nor downloadable; says how to get it.
    """
    loader = LOADERS[errors.check_name("data set", name, LOADERS)]
    _check_parameters(name, loader, parameters)
    counts = {key: count for key, count in (("n_train", n_train), ("n_test", n_test)) if count is not None}
    return loader(seed=seed, **counts, **parameters)


def _check_parameters(name: str, loader: Callable[..., Dataset], parameters: dict[str, Any]) -> None:
    accepted = list(inspect.signature(loader).parameters)
    unknown = [key for key in parameters if key not in accepted]
    if unknown:
        raise errors.InputError(
            f"The data set {name!r} has no parameter {', '.join(map(repr, unknown))}.",
            "It would have no effect.",
            f"It accepts: {', '.join(accepted)}.",
        )
