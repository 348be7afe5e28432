"""What every inference method has in common: checks before the work, and a record of it."""

from __future__ import annotations

import abc
import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from bayesrob import numerics, rng
from bayesrob._version import __version__
from bayesrob.data import Dataset
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.models import BayesianNetwork, Categorical, Likelihood, Normal
from bayesrob.predictive import Predictive

__all__ = ["EachEpoch", "Inference", "require", "require_count"]

EachEpoch = Callable[[int, Predictive], Any]
"""Called with how many epochs are done, and the Predictive that training would end with now."""


def require(condition: bool, what: str, why: str, do: str) -> None:
    """Raise `InputError` unless `condition` holds."""
    if not condition:
        raise InputError(what, why, do)


def require_count(name: str, value: object, why: str, least: int = 1) -> None:
    """Raise `InputError` unless the setting `name` is a whole number of at least `least`."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(good, f"{name} is {value}.", why, f"Give a whole number >= {least}.")


@dataclasses.dataclass(frozen=True)
class Inference(abc.ABC):
    """A way from a model and data to a Predictive; its fields are the method's settings."""

    in_epochs: ClassVar[bool] = False
    """Whether it passes over the data again and again, so that `fit` can be watched."""

    def fit(self, model: nn.Module, dataset: Dataset, seed: int = 0, each_epoch: EachEpoch | None = None) -> Predictive:
        """Train on `dataset.x_train`, `dataset.y_train`.

        Args:
            model: a `BayesianNetwork`, or for methods that need no prior a plain module. It is never changed.
            dataset: see `bayesrob.data`.
            seed: fixes every random choice: on one CPU and torch version the same seed gives the same bits, for one number
                of threads and one route of float32 products (`numerics.route`).
            each_epoch: called as `each_epoch(epoch, predictive)` after every epoch with the Predictive that training would
                end with now: curves over epochs from one run. For methods that train in epochs; it changes nothing of the
                run. What it returns (what JSON can hold) is kept, epoch by epoch, in `info["epochs"]`.

        Returns:
            A Predictive whose `info` records settings, seed, data, versions, time and what the method noticed.

        Raises:
            InputError: the model does not fit the data, before any work.
        """
        predictive = self._trained(model, dataset, seed, each_epoch)
        for note in predictive.info["notes"]:
            warnings.warn(note, ConvergenceWarning, stacklevel=2)
        return predictive

    def settings(self) -> dict[str, Any]:
        """The fields, as records of a fit hold them; those that are methods or attacks by settings of their own."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @abc.abstractmethod
    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        """The method itself: a Predictive, what a user must be warned about, and anything else to record."""

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
        products = numerics.choose(model.net if isinstance(model, BayesianNetwork) else model)
        start = time.perf_counter()
        with products:
            seen: list[Any] = []
            watch: Any = {}
            if each_epoch is not None:
                watch["each_epoch"] = lambda epoch, predictive: seen.append(each_epoch(epoch, predictive))
            predictive, notes, record = self._run(model, likelihood, dataset, seed, **watch)
        record |= {"epochs": seen} if seen else {}
        return self._recorded(predictive, model, dataset, seed, products, time.perf_counter() - start, notes, record)

    def _recorded[P: Predictive](
        self,
        predictive: P,
        model: nn.Module,
        dataset: Dataset,
        seed: int,
        products: numerics.Products,
        seconds: float,
        notes: list[str],
        record: dict[str, Any],
    ) -> P:
        """`predictive`, told how it was made."""
        predictive.info.update(
            method=type(self).__name__,
            settings=self.settings(),
            seed=int(seed),
            dataset={"name": dataset.name, "n_train": len(dataset.x_train)},
            prior_scale=model.prior_scale if isinstance(model, BayesianNetwork) else None,
            seconds=seconds,
            versions={"bayesrob": __version__, "torch": torch.__version__},
            numerics=products.record(),
            notes=notes,
            **record,
        )
        return predictive

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
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
        if isinstance(model, BayesianNetwork):
            likelihood, net = model.likelihood, model.net
        else:
            likelihood, net = (Normal() if dataset.num_classes is None else Categorical()), model
        require(
            isinstance(likelihood, Categorical) == (dataset.num_classes is not None),
            f"The likelihood is {type(likelihood).__name__.lower()}, the data set {dataset.name!r} has "
            + ("real-valued targets." if dataset.num_classes is None else f"{dataset.num_classes} classes."),
            "They do not go together.",
            'Use likelihood="normal" for regression and "categorical" for classes.',
        )
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
        return likelihood

    def _common(self, likelihood: Likelihood, dataset: Dataset) -> dict[str, Any]:
        """What every Predictive is told about its data."""
        return {
            "likelihood": likelihood,
            "bounds": dataset.bounds,
            "input_shape": dataset.shape,
            "out_features": dataset.out_features,
        }


def _plain(value: Any) -> Any:
    described = getattr(value, "settings", None)
    if callable(described):
        return described()
    return dict(value) if isinstance(value, Mapping) else value


def require_bayesian(method: str, model: nn.Module) -> BayesianNetwork:
    """Return `model` if it has a prior, else raise `InputError`."""
    if not isinstance(model, BayesianNetwork):
        raise InputError(
            f"{method} got a plain {type(model).__name__}.",
            "A posterior needs a prior.",
            "Wrap it: models.BayesianNetwork(net, prior_scale=1.0).",
        )
    return model
