"""Draws on disk: one folder with `weights.safetensors` and `predictive.json`. Reading it never executes code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from bayesrob.errors import CheckpointError

__all__ = ["FORMAT", "digest", "read", "write"]

FORMAT = 1
"""Version of the files; raised when an older bayesrob could no longer read them."""

_TENSORS, _DESCRIPTION = "weights.safetensors", "predictive.json"


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> Path:
    """Write tensors and their description to the folder `path`, replacing an older checkpoint only once all is written.

    Args:
        path: the folder; what leads to it is made.
        tensors: tensors by name.
        description: what else is known of them, as JSON values.

    Returns:
        The folder.

    Raises:
        CheckpointError: `path` exists and is not a checkpoint folder (nothing of the user's is ever overwritten).
    """
    path = Path(path)
    ours = {_TENSORS, _DESCRIPTION}
    if path.exists() and not (path.is_dir() and {file.name for file in path.iterdir()} <= ours):
        raise CheckpointError(
            f"{path} exists and is not (only) a saved predictive.", "Saving would overwrite it.", "Choose another path."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        partial.chmod(0o755)  # mkdtemp's folders are private; a checkpoint is as readable as any other file
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial / _TENSORS)
        content = hashlib.sha256((partial / _TENSORS).read_bytes()).hexdigest()
        document = {"format": FORMAT, "sha256": content, **description}
        document["description_sha256"] = _signature(document)
        (partial / _DESCRIPTION).write_text(json.dumps(document, indent=1))
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return path


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the description that `write` left at `path`.

    Args:
        path: the folder.

    Raises:
        CheckpointError: nothing there, a file missing or damaged (its SHA-256 differs), or a newer format.
    """
    path = Path(path)
    for name in (_DESCRIPTION, _TENSORS):
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path / name} does not exist.",
                f"A saved predictive is a folder with {_TENSORS} and {_DESCRIPTION}.",
                "Pass the path given to save().",
            )
    damaged = ("The file is damaged, or was not written by bayesrob.", "Restore it from a copy, or fit and save again.")
    try:
        description = json.loads((path / _DESCRIPTION).read_text())
        version, recorded = description["format"], description["sha256"]
        signed = description.pop("description_sha256") == _signature(description)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / _DESCRIPTION} cannot be read: {error}.", *damaged) from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has format {version!r}.", f"This version of bayesrob reads format {FORMAT}.", "Update bayesrob."
        )
    if not signed:
        raise CheckpointError(f"{path / _DESCRIPTION} does not have the recorded SHA-256.", *damaged)
    content = (path / _TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != recorded:
        raise CheckpointError(f"{path / _TENSORS} does not have the recorded SHA-256.", *damaged)
    try:
        return load_tensors(content), description
    except SafetensorError as error:
        raise CheckpointError(f"{path / _TENSORS} cannot be read: {error}.", *damaged) from error


def digest(description: Any, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of a description and of tensors, by which a record or a folder knows what it was made from.

    Args:
        description: JSON values; others count by their `str`.
        tensors: names and tensors. Their order counts, their device and layout in memory do not.

    Example:
        >>> one = [("weight", post.weights["1.weight"])]
        >>> br.weights.digest("mine", one) == br.weights.digest("mine", one)
        True
        >>> br.weights.digest("mine", one) == br.weights.digest("yours", one)
        False
    """
    state = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for name, tensor in tensors:
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def _signature(description: Mapping[str, Any]) -> str:
    """SHA-256 of a description as JSON with sorted keys: against damage, not against forgery."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
