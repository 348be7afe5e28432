"""Runs of an audit on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bayesrob import weights
from bayesrob.errors import CheckpointError
from bayesrob.predictive import Predictive

__all__ = ["RunFiles", "fingerprint"]

FORMAT = 1
"""Part of every key; raised when runs with the same settings would give something else."""


class RunFiles:
    """Tensors on disk, found by a key of everything that they depend on.

    Args:
        folder: made if it is not there, with one file `NAME-KEY.safetensors` for each run; None: nothing is stored.
        basis: what every run of this audit depends on.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, basis: str):
        self.folder = None if folder is None else Path(folder)
        self.basis = basis
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, depends: Any, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what is stored under `name` for the same `depends` (JSON values), or else store and return `compute()`."""
        if self.folder is None:
            return compute()
        key = hashlib.sha256(json.dumps([FORMAT, self.basis, name, depends], sort_keys=True, default=str).encode())
        path = self.folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}-{key.hexdigest()[:16]}.safetensors"
        if path.exists():
            try:
                return load(path.read_bytes())
            except SafetensorError:
                path.unlink()  # damaged: it is computed again
        computed = {label: tensor.cpu().contiguous() for label, tensor in compute().items()}
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(save(computed))
        partial.replace(path)
        return computed


def fingerprint(post: Predictive, *tensors: Tensor) -> str:
    """Return the SHA-256 of a predictive and of tensors, the first of which are inputs.

    Code that is not ours (wrapped modules, functions in front) has no contents to digest: its predictions for these inputs
    stand for it.
    """
    try:
        held, values = post.contents()
    except CheckpointError:
        with torch.no_grad():
            held, values = {**post.state_dict(), "predicted": post(tensors[0], None, 0)}, {}
    words = [post.kind, repr(post), post.num_draws, post.bounds, post.likelihood.spec(), post.info, values]
    return weights.digest(words, [*sorted(held.items()), *((str(i), tensor) for i, tensor in enumerate(tensors))])
