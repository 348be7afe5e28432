"""Posteriors that are trained once and loaded from then on, because several studies use the same ones."""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from bayesrob import rng, weights
from bayesrob.data import Dataset
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference.base import EachEpoch, Inference
from bayesrob.models import BayesianNetwork, network_of
from bayesrob.nets import sequence, spec_of
from bayesrob.predictive import Predictive, load

__all__ = ["fit_once", "load_fit", "place_of"]


def fit_once(
    method: Inference,
    model: nn.Module,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    key: str | None = None,
    each_epoch: EachEpoch | None = None,
) -> Predictive:
    """`method.fit(model, dataset, seed)`, unless `folder` already holds the result of that very fit, which is then loaded.

    It is the same fit if method and settings, architecture, initial weights, prior, likelihood, seed and training points are
    the same, to the last bit. Another version of bayesrob or torch, or another route of products, does not make it another
    fit; `info["versions"]` and `info["numerics"]` tell which made it. Loading repeats the warnings of the fit.

    Args:
        method: the inference method with its settings.
        model: see `Inference.fit`.
        dataset: see `Inference.fit`.
        folder: where fits are saved, in one folder `METHOD-DATASET-KEY` each; it is made if it is not there.
        seed: see `Inference.fit`.
        key: tells your own architecture from others. It is needed for networks that are not of `bayesrob.nets` or stacks of
            torch's plain layers, because nobody can see what their code does. Change it when you change the code.
        each_epoch: see `Inference.fit`. If the fit is loaded, what the function returned when the fit was made is in
            `info["epochs"]`. Give another `key` for another function.

    Raises:
        InputError: as `fit`, and for a network of your own without a key.
        CheckpointError: the saved result is damaged; remove its folder to fit again.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first, second = (br.inference.fit_once(br.inference.SGD(epochs=2), net, ds, folder) for _ in range(2))
        >>> bool((first(x) == second(x)).all())
        True
    """
    place = place_of(method, model, dataset, folder, seed, key=key)
    if not place.exists():
        predictive = method.fit(model, dataset, seed=seed, each_epoch=each_epoch)
        predictive.save(place)
        return predictive
    predictive = load_fit(place, model)
    for note in predictive.info.get("notes", []):
        warnings.warn(note, ConvergenceWarning, stacklevel=2)
    return predictive


def place_of(
    method: Inference,
    model: nn.Module,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    seed: int,
    *,
    key: str | None,
) -> Path:
    """The folder in which `fit_once` saves this fit."""
    method._check(model, dataset)
    net = network_of(model)
    if key is None and spec_of(net) is None and sequence(net) is None:
        raise InputError(
            f"fit_once got a {type(net).__name__} of your own.",
            "Its code could differ from that of a saved fit, which nothing here would notice.",
            'Pass key="..." that you change with the code, or use fit and save.',
        )
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", dataset.name)[:40]
    return Path(folder) / f"{type(method).__name__}-{name}-{_digest(method, model, dataset, seed, key)[:16]}"


def load_fit(place: Path, model: nn.Module) -> Predictive:
    """Load the fit that is saved at `place`, to the model's device."""
    net = network_of(model)
    return load(place, net=net).to(next(net.parameters()).device)


def _digest(method: Inference, model: nn.Module, dataset: Dataset, seed: int, key: str | None) -> str:
    """SHA-256 of everything that a fit depends on."""
    parts = list(_parts(method))
    description = {
        "method": [word for part in parts for word in (type(part).__module__, type(part).__qualname__)],
        "settings": method.settings(),
        "seed": rng.derive(seed),
        "model": [(name, type(module).__module__, type(module).__qualname__) for name, module in model.named_modules()],
        "repr": repr(model),
        "key": key,
        "likelihood": model.likelihood.spec() if isinstance(model, BayesianNetwork) else None,
        "dataset": [dataset.name, dataset.bounds, dataset.num_classes],
    }
    # The buffers that are not persistent count, too; the scale of every weight's prior is one of them.
    tensors = [*model.named_parameters(), *model.named_buffers(), ("x", dataset.x_train), ("y", dataset.y_train)]
    return weights.digest(description, tensors)


def _parts(settings: Any) -> Iterator[Any]:
    """Yields `settings` and, recursively, the methods and attacks among its fields, whose classes settings do not name."""
    yield settings
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value) and hasattr(value, "settings"):
            yield from _parts(value)
