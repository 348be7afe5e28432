"""Posteriors trained once and found again: several studies look at the same ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference.base import EachEpoch, Inference
from bayesrob.models import BayesianNetwork
from bayesrob.nets import sequence, spec_of
from bayesrob.predictive import Predictive, load

__all__ = ["fit_once", "found", "place_of"]


def fit_once(
    method: Inference,
    model: nn.Module,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    seed: int = 0,
    key: str | None = None,
    each_epoch: EachEpoch | None = None,
) -> Predictive:
    """`method.fit(model, dataset, seed)`, unless `folder` already holds the result of that very fit, which is then loaded.

    The same fit: the same method and settings, architecture, weights it starts from, prior, likelihood, seed and training
    points, to the last bit. Another version of bayesrob or torch, or another route of products, does not make it another
    fit; `info["versions"]` and `info["numerics"]` tell which made it. What the fit warned of, loading warns of again.

    Args:
        method, model, dataset, seed: see `Inference.fit`.
        folder: where fits are kept, one folder `METHOD-DATASET-KEY` each; made if it is not there.
        key: what tells your own architecture from others, needed for networks that are not of `bayesrob.nets` or stacks of
            torch's plain layers: what their code does can be seen by nobody else. Change it when you change the code.
        each_epoch: see `Inference.fit`. A fit that is found was watched when it was made: what the watcher returned then is
            in `info["epochs"]`. Give another `key` for another watcher.

    Raises:
        InputError: as `fit`, and a network of your own without a key. CheckpointError: the saved result is damaged; remove
            its folder to fit again.
    """
    place = place_of(method, model, dataset, folder, seed, key)
    if not place.exists():
        predictive = method.fit(model, dataset, seed=seed, each_epoch=each_epoch)
        predictive.save(place)
        return predictive
    predictive = found(place, model)
    for note in predictive.info.get("notes", []):
        warnings.warn(note, ConvergenceWarning, stacklevel=2)
    return predictive


def place_of(
    method: Inference, model: nn.Module, dataset: Dataset, folder: str | os.PathLike[str], seed: int, key: str | None
) -> Path:
    """Where `fit_once` keeps this very fit."""
    method._check(model, dataset)
    net = model.net if isinstance(model, BayesianNetwork) else model
    if key is None and spec_of(net) is None and sequence(net) is None:
        raise InputError(
            f"fit_once got a {type(net).__name__} of your own.",
            "Its code could differ from that of a saved fit, which nothing here would notice.",
            'Pass key="..." that you change with the code, or use fit and save.',
        )
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", dataset.name)[:40]
    return Path(folder) / f"{type(method).__name__}-{name}-{_digest(method, model, dataset, seed, key)[:16]}"


def found(place: Path, model: nn.Module) -> Predictive:
    """The fit that is kept at `place`, on the model's device."""
    net = model.net if isinstance(model, BayesianNetwork) else model
    assert isinstance(net, nn.Module)
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
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    # Buffers that are not persistent count too, as does the scale of every weight's prior, which is one of them.
    tensors = [*model.named_parameters(), *model.named_buffers(), ("x", dataset.x_train), ("y", dataset.y_train)]
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _parts(settings: Any) -> Iterator[Any]:
    """`settings` and the methods and attacks among its fields, theirs too: settings say what fields are, not whose."""
    yield settings
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value) and hasattr(value, "settings"):
            yield from _parts(value)
