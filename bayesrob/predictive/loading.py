"""Saved draws back from disk."""

from __future__ import annotations

import copy
import os
from typing import Any

from torch import nn

from bayesrob import weights
from bayesrob.errors import BayesrobError, CheckpointError
from bayesrob.models import likelihood_from
from bayesrob.nets import build
from bayesrob.predictive.base import KINDS, Predictive

__all__ = ["load"]


def load(path: str | os.PathLike[str], net: nn.Module | None = None) -> Predictive:
    """Return the Predictive that `save(path)` wrote. Nothing in the files is executed.

    Args:
        path: the folder.
        net: the architecture, needed only if it was not one of `bayesrob.nets`.

    Raises:
        CheckpointError: missing, damaged, a newer format, or weights that do not fit the network.

    Example:
        >>> again = br.load(post.save("folder"))
        >>> bool((again.logits(x) == post.logits(x)).all())
        True
    """
    tensors, document = weights.read(path)
    try:
        kind = KINDS[document["kind"]]
        net = _network(path, document) if net is None else net
        common: dict[str, Any] = {
            "likelihood": likelihood_from(document["likelihood"]),
            "bounds": None if document["bounds"] is None else tuple(document["bounds"]),
            "input_shape": None if document["input_shape"] is None else tuple(document["input_shape"]),
            "out_features": document["out_features"],
            "info": document["info"],
        }
        predictive = kind.restore(copy.deepcopy(net), tensors, document["values"], **common)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, BayesrobError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} cannot be understood: {error!r}.",
            "Its description is damaged or of another version.",
            "Save again.",
        ) from error
    example = predictive.example_weights()
    shapes = {name: tuple(tensor.shape) for name, tensor in example.items()}
    expected = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    if any(shapes.get(name) != shape for name, shape in expected.items()):
        raise CheckpointError(
            f"The weights in {path} do not fit the network.",
            f"It has parameters {expected}, the file has {shapes}.",
            "Pass the network that was saved.",
        )
    return predictive.to(dtype=next(iter(example.values())).dtype)


def _network(path: str | os.PathLike[str], document: dict[str, Any]) -> nn.Module:
    """The architecture that the file describes."""
    if document["net"] is None:
        raise CheckpointError(
            f"{path} holds draws of a {document['net_class']}, not a network of bayesrob.nets.",
            "A file holds weights, never code.",
            "Pass the architecture: load(path, net=...).",
        )
    return build(document["net"])
