"""One setting of a sweep: data, network, inference and evaluation, as plain values that a file can hold."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from bayesrob import nets
from bayesrob.attacks import ATTACKS, Attack
from bayesrob.data import Dataset, load
from bayesrob.errors import InputError, check_name
from bayesrob.inference import METHODS, Inference
from bayesrob.models import BayesianNetwork

__all__ = ["PARTS", "Cell", "canonical"]

PARTS = ("data", "net", "inference", "evaluation")

BAYESIAN = ("HMC", "NUTS", "SVI", "AdvBNN")
"""Methods without which a prior is needed: N(0, 1) where a cell names none."""

INPUTS = {"mlp": "features", "cnn": "shape", "lstm": "shape"}
"""What an architecture is told of the inputs; the others are told the channels."""


def canonical(value: Any) -> str:
    """JSON in one spelling: equal settings have equal text.

    Raises:
        InputError: what JSON cannot hold: settings are kept in files, and sent to other machines.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{value!r} is no setting: {error}.", "Settings are kept in files.", "Use plain values.") from error


@dataclasses.dataclass(frozen=True)
class Cell:
    """A setting of a sweep; `Grid` makes many.

    Args:
        data: `name`, and what else `data.load` takes; `seed` is the cell's unless it is given.
        net: `architecture` and its sizes without inputs and outputs, which are the data's. Of an mlp `hidden`, or `width`
            and `depth` (that many layers of that width). `prior_scale`: of a Bayesian network; of HMC, NUTS and SVI it is 1
            where it is not given.
        inference: `method` and its settings.
        evaluation: `attacks`, each by a name its settings (`attack` where the name is none of an attack); `num_points`, 500;
            `num_draws`, of the posterior, None for its own number.
        seed: of everything random.
    """

    data: Mapping[str, Any]
    net: Mapping[str, Any]
    inference: Mapping[str, Any]
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"attacks": {"FGSM": {}}})
    seed: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """The setting as plain values."""
        return json.loads(canonical(dataclasses.asdict(self)))

    @functools.cached_property
    def key(self) -> str:
        """Of the setting, 16 hexadecimal digits: the name of its result."""
        return hashlib.sha256(canonical(self.config).encode()).hexdigest()[:16]

    def dataset(self) -> Dataset:
        return _loaded(canonical({"seed": self.seed, **self.data}))

    def network(self) -> nn.Module:
        """The network, with a prior where the cell or its method has one.

        Raises:
            InputError: sizes that the architecture does not take. UnknownNameError: no such architecture.
        """
        arguments, dataset = dict(self.net), self.dataset()
        name = check_name("architecture", arguments.pop("architecture", "mlp"), nets.ARCHITECTURES)
        default = 1.0 if self.inference.get("method") in BAYESIAN else None
        prior = arguments.pop("prior_scale", default)
        if "width" in arguments and INPUTS.get(name) == "features":
            arguments["hidden"] = (arguments.pop("width"),) * arguments.pop("depth", 1)
        inputs = {"features": math.prod(dataset.shape), "shape": tuple(dataset.shape)}.get(INPUTS.get(name, ""))
        sizes = (dataset.out_features, dataset.shape[0]) if inputs is None else (inputs,)
        if inputs is not None:
            arguments["out_features"] = dataset.out_features
        try:
            net = nets.ARCHITECTURES[name](*sizes, **arguments, seed=self.seed)
        except TypeError as error:
            raise InputError(f"The network {dict(self.net)}: {error}.", f"{name} does not take these.", "") from error
        return net if prior is None else BayesianNetwork(net, prior_scale=prior)

    def method(self) -> Inference:
        """Raises: InputError: settings that the method does not take. UnknownNameError: no such method."""
        return _built("method", METHODS, self.inference)

    def attacks(self) -> dict[str, Attack]:
        """Raises: InputError: settings that an attack does not take. UnknownNameError: no such attack."""
        given = self.evaluation.get("attacks", {})
        return {name: _built("attack", ATTACKS, {"attack": name, **settings}) for name, settings in given.items()}

    def check(self) -> None:
        """Raise what is wrong with the setting, before any training."""
        for part in PARTS:
            if not isinstance(getattr(self, part), Mapping):
                raise InputError(f"{part} is {getattr(self, part)!r}.", "It has several settings.", "Give a dictionary.")
        unknown = self.evaluation.keys() - {"attacks", "num_points", "num_draws"}
        if unknown:
            raise InputError(
                f"evaluation has {', '.join(sorted(unknown))}.",
                "It would have no effect.",
                "attacks, num_points, num_draws.",
            )
        points = self.evaluation.get("num_points", 500)
        if isinstance(points, bool) or not isinstance(points, int) or points < 1:
            raise InputError(f"num_points is {points!r}.", "It counts test points.", "Give a whole number >= 1.")
        self.attacks()
        self.method()._check(self.network(), self.dataset())


@functools.lru_cache(maxsize=8)
def _loaded(spec: str) -> Dataset:
    arguments = json.loads(spec)
    if "name" not in arguments:
        raise InputError(f"data is {arguments}.", "No set is named.", 'Give data={"name": "mnist"}.')
    return load(**arguments)


def _built(kind: str, registry: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The method or attack that `settings` name under `kind`; methods and attacks within it likewise."""
    arguments = dict(settings)
    name = check_name(kind, arguments.pop(kind, None), registry)
    accepted = inspect.signature(registry[name]).parameters
    unknown = [key for key in arguments if key not in accepted]
    if unknown:
        raise InputError(
            f"{name} has no setting {', '.join(map(repr, unknown))}.",
            "It would have no effect.",
            f"It has: {', '.join(accepted)}.",
        )
    for key, value in arguments.items():
        if isinstance(value, Mapping):
            inner = next((one for one in ("method", "attack") if one in value), None)
            if inner is not None:
                arguments[key] = _built(inner, {"method": METHODS, "attack": ATTACKS}[inner], value)
    return registry[name](**arguments)
