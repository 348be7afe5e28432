"""Posteriors trained once and found again: several studies look at the same ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import torch
from torch import nn

from bayesrob.data import Dataset
from bayesrob.inference.base import Inference
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import Predictive, load

__all__ = ["fit_once"]


def fit_once(
    method: Inference, model: nn.Module, dataset: Dataset, folder: str | os.PathLike[str], seed: int = 0
) -> Predictive:
    """`method.fit(model, dataset, seed)`, unless `folder` already holds the result of that very fit, which is then loaded.

    The same fit: the same settings, architecture, weights it starts from, prior, likelihood, seed and training points, to
    the last bit. Another version of bayesrob or torch does not make it another fit; `info["versions"]` tells which made it.

    Args:
        method, model, dataset, seed: see `Inference.fit`.
        folder: where fits are kept, one folder `METHOD-DATASET-KEY` each; made if it is not there.

    Raises:
        InputError: as `fit`. CheckpointError: the saved result is damaged; remove its folder to fit again.
    """
    path = Path(folder) / f"{type(method).__name__}-{dataset.name}-{_key(method, model, dataset, seed)[:16]}"
    if path.exists():
        return load(path, net=model.net if isinstance(model, BayesianNetwork) else model)
    predictive = method.fit(model, dataset, seed=seed)
    predictive.save(path)
    return predictive


def _key(method: Inference, model: nn.Module, dataset: Dataset, seed: int) -> str:
    """SHA-256 of everything that a fit depends on."""
    bayesian = isinstance(model, BayesianNetwork)
    net = model.net if bayesian else model
    description = {
        "method": type(method).__name__,
        "settings": dataclasses.asdict(method),
        "seed": int(seed),
        "net": repr(net),
        "prior_scale": model.prior_scale if bayesian else None,
        "likelihood": model.likelihood.spec() if bayesian else None,
        "dataset": [dataset.name, dataset.bounds, dataset.num_classes],
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for tensor in (*net.state_dict().values(), dataset.x_train, dataset.y_train):
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
