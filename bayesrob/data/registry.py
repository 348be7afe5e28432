"""Data sets by name. To add one, write a function in a file of its own and add one row to `LOADERS`."""

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

# To add a data set, write `name(n_train=..., n_test=..., seed=0, *, ...) -> Dataset` in a file of this folder, with a
# default for every argument, and add its row here. `load`, the command line and the contract tests then list it.
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
    """Return the names that `load` accepts, in alphabetical order.

    Example:
        >>> "half_moons" in br.data.names()
        True
    """
    return tuple(sorted(LOADERS))


def load(name: str, n_train: int | None = None, n_test: int | None = None, seed: int = 0, **parameters: Any) -> Dataset:
    """Load or generate a data set by its name.

    Args:
        name: one of `names()`.
        n_train: number of training points; None, the default, for the data set's own default (all of the images).
        n_test: number of test points; None, the default, for the data set's own default.
        seed: seed of the subset, or of the generated points. The same seed gives the same bits.
        **parameters: parameters of the data set itself, such as `balanced=True` for images or `noise=0.2` for the moons.

    Raises:
        UnknownNameError: a name that no data set has; the message gives the nearest one.
        InputError: a parameter that the data set does not have, or a value that it refuses.
        MissingDataError: a data set that is not on this machine and cannot be downloaded; the message says how to get it.

    Example:
        >>> br.data.load("half_moons", n_train=60, n_test=20, noise=0.2)
        Dataset('half_moons': 60 train, 20 test, shape (2,), 2 classes, bounds (0.0, 1.0))
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
