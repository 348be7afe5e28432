"""What every inference method has in common: checks before the work, and a record of the fit."""

from __future__ import annotations

import abc
import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from bayesrob import numerics, rng
from bayesrob._version import __version__
from bayesrob.arguments import plain, require
from bayesrob.data import Dataset
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.models import BayesianNetwork, Categorical, Likelihood, Normal, network_of
from bayesrob.predictive import Predictive

__all__ = ["EachEpoch", "Inference", "require_bayesian"]

EachEpoch = Callable[[int, Predictive], Any]
"""Called after every epoch with the number of epochs done and the Predictive that training would end with now."""


@dataclasses.dataclass(frozen=True)
class Inference(abc.ABC):
    """A way from a model and data to a Predictive; its fields are the method's settings."""

    in_epochs: ClassVar[bool] = False
    """Whether the method trains in epochs, so that `fit` takes `each_epoch`."""
    origin: ClassVar[str] = "unknown"
    """Where its draws come from, one of `predictive.ORIGINS`."""

    def fit(self, model: nn.Module, dataset: Dataset, seed: int = 0, each_epoch: EachEpoch | None = None) -> Predictive:
        """Train on `dataset.x_train`, `dataset.y_train`.

        Args:
            model: a `BayesianNetwork`, or for methods that need no prior a plain module. It is never changed.
            dataset: the data, see `bayesrob.data`.
            seed: fixes every random choice: on one CPU and torch version the same seed gives the same bits, for one number
                of threads and one route of float32 products (`numerics.route`).
            each_epoch: called as `each_epoch(epoch, predictive)` after every epoch with the Predictive that training would
                end with now, for curves over epochs from one run. Only methods that train in epochs take it; it does not
                change the run. What it returns (anything that JSON can hold) is in `info["epochs"]`, one entry an epoch.

        Returns:
            A Predictive whose `info` records settings, seed, data, versions, time and the method's warnings.

        Raises:
            InputError: the model does not fit the data, before any work.
        """
        predictive = self._trained(model, dataset, seed, each_epoch)
        for note in predictive.info["notes"]:
            warnings.warn(note, ConvergenceWarning, stacklevel=2)
        return predictive

    def settings(self) -> dict[str, Any]:
        """The fields as records of a fit hold them: methods and attacks by their own settings."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @abc.abstractmethod
    def _run(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        """Run the method.

        Args:
            model: see `fit`.
            likelihood: the model's, or the one that the data suggest.
            dataset: see `fit`.
            seed: see `fit`.
            each_epoch: see `fit`; None unless the method is `in_epochs`.

        Returns:
            A Predictive, the warnings for the user, and what else `info` records.
        """

    def _trained(self, model: nn.Module, dataset: Dataset, seed: int, each_epoch: EachEpoch | None = None) -> Predictive:
        """`fit` without its warnings, which are in `info["notes"]`."""
        require(
            each_epoch is None or self.in_epochs,
            f"each_epoch with {type(self).__name__}.",
            "It has no epochs.",
            "Its draws are prefixes of one run: post[:n].",
        )
        likelihood = self._check(model, dataset)
        rng.derive(seed)  # refuses what is no integer, before any work
        products = numerics.choose(network_of(model))
        start = time.perf_counter()
        with products:
            returned: list[Any] = []
            watch = None if each_epoch is None else lambda *now: returned.append(each_epoch(*now))
            predictive, notes, record = self._run(model, likelihood, dataset, seed, watch)
        self._record(predictive, model, dataset, seed, products)
        predictive.info.update(seconds=time.perf_counter() - start, notes=notes, **record)
        if returned:
            predictive.info["epochs"] = returned
        return predictive

    def _record(
        self, predictive: Predictive, model: nn.Module, dataset: Dataset, seed: int, products: numerics.Products
    ) -> None:
        """Write into `predictive.info` how it was made."""
        predictive.info.update(
            method=type(self).__name__,
            origin=self._origin(),
            settings=self.settings(),
            seed=int(seed),
            dataset={"name": dataset.name, "n_train": len(dataset.x_train)},
            prior_scale=model.prior_scale if isinstance(model, BayesianNetwork) else None,
            versions={"bayesrob": __version__, "torch": torch.__version__},
            numerics=products.record(),
        )

    def _origin(self) -> str:
        """Where the method's draws come from, one of `predictive.ORIGINS`."""
        return self.origin

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        """Raise `InputError` if the model does not fit the data; return the likelihood."""
        _check_types(model, dataset)
        if isinstance(model, BayesianNetwork):
            likelihood = model.likelihood
        else:
            likelihood = Normal() if dataset.num_classes is None else Categorical()
        require(
            isinstance(likelihood, Categorical) == (dataset.num_classes is not None),
            f"The likelihood is {type(likelihood).__name__.lower()}, the data set {dataset.name!r} has "
            + ("real-valued targets." if dataset.num_classes is None else f"{dataset.num_classes} classes."),
            "They do not go together.",
            'Use likelihood="normal" for regression and "categorical" for classes.',
        )
        _check_outputs(network_of(model), dataset)
        return likelihood

    def _common(self, likelihood: Likelihood, dataset: Dataset) -> dict[str, Any]:
        """What every Predictive is told about its data."""
        return {
            "likelihood": likelihood,
            "bounds": dataset.bounds,
            "input_shape": dataset.shape,
            "out_features": dataset.out_features,
        }


def require_bayesian(method: str, model: nn.Module) -> BayesianNetwork:
    """Return `model` if it has a prior, else raise `InputError`."""
    if not isinstance(model, BayesianNetwork):
        raise InputError(
            f"{method} got a plain {type(model).__name__}.",
            "A posterior needs a prior.",
            "Wrap it: models.BayesianNetwork(net, prior_scale=1.0).",
        )
    return model


def _check_types(model: object, dataset: object) -> None:
    require(
        isinstance(model, nn.Module),
        f"The model is a {type(model).__name__}.",
        "Inference needs a torch module.",
        "Pass nets.mlp(...) or models.BayesianNetwork(nets.mlp(...)).",
    )
    require(
        isinstance(dataset, Dataset),
        f"The data set is a {type(dataset).__name__}.",
        "Training points, test points and bounds are needed together.",
        "Use data.load(...) or data.from_arrays(...).",
    )


def _check_outputs(net: nn.Module, dataset: Dataset) -> None:
    """Raise `InputError` unless `net` takes the inputs and has one output for each class or target."""
    parameter = next(net.parameters(), None)
    require(parameter is not None, "The network has no parameters.", "There is nothing to fit.", "Check it.")
    modes = [(module, module.training) for module in net.modules()]
    try:
        with torch.no_grad():
            outputs = net.eval()(dataset.x_train[:1].to(parameter))
    except Exception as error:  # whatever a network of the user's own raises
        raise InputError(
            f"The network fails on an input of shape {dataset.shape}: {error}.",
            f"It was made for other inputs than those of {dataset.name!r}.",
            "Check its input size.",
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    require(
        tuple(outputs.shape) == (1, dataset.out_features),
        f"The network puts out {tuple(outputs.shape[1:])} values, {dataset.name!r} needs ({dataset.out_features},).",
        "There is one output per class (or target).",
        f"Build it with out_features={dataset.out_features}.",
    )
