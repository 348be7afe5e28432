"""A network as a function of one flat weight vector."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesrob.models.likelihoods import Likelihood
from bayesrob.nets import draws_forward, forward, sequence
from bayesrob.types import Batch

__all__ = ["FlatNetwork"]


class FlatNetwork(nn.Module):
    """p(y | net_w(x)) over weights w `[weight]`, parameters in the order of `net.named_parameters()`.

    Args:
        net: any module, used as it is: in its mode, and with its buffers (batch statistics are gathered in them).
        likelihood: what the outputs say about a label.
    """

    def __init__(self, net: nn.Module, likelihood: Likelihood):
        super().__init__()
        self.net = net.requires_grad_(False)
        self.likelihood = likelihood
        self._steps = sequence(self.net)
        self._shapes = {name: parameter.shape for name, parameter in self.net.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]

    @property
    def num_weights(self) -> int:
        """Length of the flat weight vector."""
        return sum(self._sizes)

    def empty(self, *lead: int) -> Float[Tensor, "*lead weight"]:
        """Memory for weight vectors, of the network's dtype and on its device."""
        return next(self.net.parameters()).new_empty(*lead, self.num_weights)

    def unflatten(self, theta: Float[Tensor, "*draws weight"]) -> dict[str, Tensor]:
        """Parameters by name, `[*draws, *shape]`, as views of the flat vector(s)."""
        pieces = theta.split(self._sizes, dim=-1)
        lead = theta.shape[:-1]
        return {name: piece.view((*lead, *shape)) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}

    def flatten(self, weights: Any) -> Float[Tensor, "*draws weight"]:
        """The inverse of `unflatten`."""
        pieces = []
        for name, shape in self._shapes.items():
            lead = weights[name].shape[: weights[name].ndim - len(shape)]
            pieces.append(weights[name].reshape(*lead, shape.numel()))
        return torch.cat(pieces, dim=-1)

    @property
    def batches_draws(self) -> bool:
        """Whether many weight vectors go through the network in batched products, not one after the other."""
        return self._steps is not None

    def outputs(self, theta: Float[Tensor, "*draws weight"], x: Batch) -> Tensor:
        """The network's outputs `[*draws, batch, out]` at one flat weight vector, or at each of `[draw, weight]`."""
        run = forward if theta.ndim == 1 else draws_forward
        return run(self.net, self._steps, self.unflatten(theta), x)
