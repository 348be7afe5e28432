"""Help for the tests of averaged gradients: a linear model whose draws are given."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import nets
from bayesrob.predictive import HeldDraws


def linear(weight: Tensor, **common) -> HeldDraws:
    """Draws of linear logits (0, w.x) from w `[draw, component]`, or of a linear regression."""
    count, components = weight.shape
    out = 1 if "likelihood" in common else 2
    net = nets.mlp(components, (), out)
    full = torch.zeros(count, out, components, dtype=weight.dtype)
    full[:, -1] = weight
    named = {"weight": full, "bias": torch.zeros(count, out, dtype=weight.dtype)}
    weights = {name: named[name.rpartition(".")[2]] for name, _ in net.named_parameters()}
    return HeldDraws(net, weights, out_features=out, input_shape=(components,), **common)
