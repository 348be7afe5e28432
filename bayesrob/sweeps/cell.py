"""One setting of a sweep: data, network, inference and evaluation, as plain values that a JSON file can hold."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

from torch import nn

from bayesrob import nets
from bayesrob.arguments import plain, whole
from bayesrob.attacks import ATTACKS, Attack
from bayesrob.data import Dataset, load
from bayesrob.errors import InputError, check_name
from bayesrob.inference import METHODS, Inference
from bayesrob.models import BayesianNetwork

__all__ = ["PARTS", "Cell", "canonical"]

PARTS = ("data", "net", "inference", "evaluation")

BAYESIAN = ("HMC", "NUTS", "SVI", "AdvBNN")
"""Methods that need a prior: it is N(0, 1) where a cell gives none."""

INPUTS = {"mlp": "features", "cnn": "shape", "lstm": "shape"}
"""Which size of the inputs an architecture takes as its argument; the others take the number of channels."""


def canonical(value: Any) -> str:
    """Return settings as JSON in which equal settings have equal text.

    Args:
        value: dictionaries, lists, strings, booleans, None, and numbers of Python or numpy.

    Raises:
        InputError: a value that JSON cannot hold; settings are stored in files and sent to other machines.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_python_number)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{value!r} is no setting: {error}.", "Settings are stored in files.", "Use plain values."
        ) from error


def _python_number(value: Any) -> Any:
    if isinstance(value, numbers.Number):
        return plain(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting of a sweep; a `Grid` makes many.

    Args:
        data: the `name` of the data set and further arguments of `data.load`. `seed` is the cell's unless it is given here.
        net: the `architecture` (an mlp where it is not given) and its arguments, without the sizes of inputs and outputs,
            which the data determine. The layers of an mlp are `hidden`, or `width` and `depth` (`depth` layers of that
            width). `prior_scale` makes the network Bayesian; for HMC, NUTS, SVI and AdvBNN it is 1 where it is not given.
        inference: the `method` and its settings.
        evaluation: `attacks`, the settings of each attack by a name of its own (`attack` in the settings says which attack,
            unless the name does); `num_points`, how many test points are attacked (500); `num_draws`, how many draws of the
            posterior are used (None for as many as it has). By default one FGSM.
        seed: seed of everything that is random.

    Example:
        >>> cell = br.sweeps.Cell({"name": "digits"}, {"width": 8}, {"method": "SGD", "epochs": 3})
        >>> len(cell.key), cell.method().epochs
        (16, 3)
    """

    data: Mapping[str, Any]
    net: Mapping[str, Any]
    inference: Mapping[str, Any]
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"attacks": {"FGSM": {}}})
    seed: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """The setting as values that JSON gives back unchanged."""
        return json.loads(canonical(dataclasses.asdict(self)))

    @functools.cached_property
    def key(self) -> str:
        """The first 16 hexadecimal digits of the setting's SHA-256, which name the file of its result."""
        return hashlib.sha256(canonical(self.config).encode()).hexdigest()[:16]

    def dataset(self) -> Dataset:
        """Return the data set; the last eight that were loaded stay in memory."""
        return _loaded(canonical({"seed": self.seed, **self.data}))

    def network(self) -> nn.Module:
        """Return the network, with a prior if the cell gives one or its method needs one.

        Raises:
            InputError: arguments that the architecture does not take.
            UnknownNameError: an architecture that does not exist.
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
            raise InputError(
                f"The network {dict(self.net)}: {error}.", f"{name} does not take these.", "Remove or rename them."
            ) from error
        return net if prior is None else BayesianNetwork(net, prior_scale=prior)

    def method(self) -> Inference:
        """Return the inference method.

        Raises:
            InputError: settings that the method does not take.
            UnknownNameError: a method that does not exist.
        """
        return _built("method", METHODS, self.inference)

    def attacks(self) -> dict[str, Attack]:
        """Return the attacks by their names.

        Raises:
            InputError: settings that an attack does not take.
            UnknownNameError: an attack that does not exist.
        """
        given = self.evaluation.get("attacks", {})
        return {name: _built("attack", ATTACKS, {"attack": name, **settings}) for name, settings in given.items()}

    def check(self) -> None:
        """Build everything but the posterior, so that a setting that cannot work raises its error before any training.

        Raises:
            InputError: a part that is no dictionary, a setting that does not exist, or a value that is refused.
            UnknownNameError: a data set, architecture, method or attack that does not exist.
        """
        for part in PARTS:
            if not isinstance(getattr(self, part), Mapping):
                raise InputError(f"{part} is {getattr(self, part)!r}.", "It has several settings.", "Give a dictionary.")
        unknown = self.evaluation.keys() - {"attacks", "num_points", "num_draws"}
        if unknown:
            raise InputError(
                f"evaluation has {', '.join(sorted(unknown))}.",
                "It would have no effect.",
                "Use attacks, num_points and num_draws only.",
            )
        whole("num_points", self.evaluation.get("num_points", 500), "It counts test points.")
        self.attacks()
        self.method()._check(self.network(), self.dataset())


@functools.lru_cache(maxsize=8)
def _loaded(spec: str) -> Dataset:
    arguments = json.loads(spec)
    if "name" not in arguments:
        raise InputError(f"data is {arguments}.", "It names no data set.", 'Give data={"name": "mnist"}.')
    return load(**arguments)


def _built(kind: str, registry: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """Return the method or attack that `settings` name under `kind`, with the methods and attacks among its settings."""
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
