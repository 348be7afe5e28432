"""SHA-256 of tensors, arrays, trees and posteriors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from bayesrob.data import Dataset
from bayesrob.predictive import Predictive

LEFT_OUT = {
    *("seconds", "training_seconds", "scoring_seconds"),  # differ from run to run
    *("reason", "worst_case_reason", "question", "source", "about"),  # sentences, which may be reworded
}
RECORDED = ("losses", "sigma", "steps", "epochs", "members")
"""What a digest covers of a fit's record."""

Case = tuple[str, Callable[[], str]]
"""A name, and what computes its digest."""


def digest(*parts: Any) -> str:
    """The SHA-256 of tensors, arrays, numbers, text, trees and containers of them."""
    state = hashlib.sha256()
    for part in parts:
        _feed(state, part)
    return state.hexdigest()


def _feed(state: Any, part: Any) -> None:
    if isinstance(part, torch.Tensor):
        part = part.detach().contiguous().numpy()
    if isinstance(part, xr.DataTree):
        for node in part.subtree:
            state.update(node.path.encode())
            _feed(state, node.to_dataset(inherit=False))
    elif isinstance(part, xr.Dataset):
        for name in sorted(map(str, part.variables)):
            if name not in LEFT_OUT:
                state.update(name.encode())
                _feed(state, part[name].values)
    elif isinstance(part, np.ndarray) and part.dtype.kind != "O":
        state.update(str((part.dtype.str, part.shape)).encode() + np.ascontiguousarray(part).tobytes())
    elif isinstance(part, dict):
        for name in sorted(part):
            if name not in LEFT_OUT:
                state.update(str(name).encode())
                _feed(state, part[name])
    elif isinstance(part, list | tuple | np.ndarray):
        for one in part:
            _feed(state, one)
    else:
        state.update(repr(part).encode())


def posterior(post: Predictive, dataset: Dataset) -> str:
    """Everything a fit leaves: logits, gradients, the record of the run and the chains' statistics."""
    x, y = dataset.x_test[:20], dataset.y_test[:20]
    held = post.freeze(min(3, post.num_draws), seed=1)
    info = {name: value for name, value in post.info.items() if name in RECORDED}
    stats = getattr(post, "sample_stats", None) or {}
    notes = len(post.info.get("notes", []))
    return digest(
        held.logits(x), post.logits(x, seed=5), post.input_gradient(x, y, seed=5), info, notes, dict(stats), post.num_draws
    )
