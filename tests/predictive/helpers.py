"""Predictives with known draws, and every average written out as a loop over draws from its definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bayesrob import nets
from bayesrob.models import Categorical, Normal
from bayesrob.predictive import GaussianDraws, HeldDraws, MaskedDraws, Predictive
from tests.nets.helpers import Recurrent, random_inputs, random_weights

SHAPES = {"mlp": (2, 3), "cnn": (1, 16, 16), "lstm": (4, 3)}
CLASSES = 4
POINTS = 5


def network(name: str = "mlp") -> nn.Module:
    if name == "mlp":
        return nets.mlp(6, (5,), CLASSES, activation="tanh")
    if name == "cnn":
        return nets.cnn((1, 16, 16), 2, CLASSES, activation="tanh")
    return Recurrent(3, 4, CLASSES)


def held(name: str = "mlp", num_draws: int = 7, dtype: torch.dtype = torch.float64, **common: Any) -> HeldDraws:
    net = network(name)
    weights = {key: 2 * tensor for key, tensor in random_weights(net, num_draws, dtype=dtype).items()}
    return HeldDraws(net, weights, input_shape=SHAPES[name], out_features=CLASSES, **common).to(dtype)


def gaussian(name: str = "mlp", num_draws: int = 7, dtype: torch.dtype = torch.float64, **common: Any) -> GaussianDraws:
    net = network(name)
    loc = {key: tensor[0] for key, tensor in random_weights(net, 1, dtype=dtype).items()}
    scale = {key: torch.full_like(tensor, 0.5) for key, tensor in loc.items()}
    common = {"input_shape": SHAPES[name], "out_features": CLASSES, **common}
    return GaussianDraws(net, loc, scale, num_draws=num_draws, **common).to(dtype)


def masked(
    name: str = "mlp",
    num_draws: int = 7,
    dtype: torch.dtype = torch.float64,
    p: float = 0.3,
    unit: str = "input",
    **common: Any,
) -> MaskedDraws:
    net = network(name)
    loc = {key: tensor[0] for key, tensor in random_weights(net, 1, dtype=dtype).items()}
    common = {"input_shape": SHAPES[name], "out_features": CLASSES, **common}
    return MaskedDraws(net, loc, p, unit, num_draws=num_draws, **common).to(dtype)


def data(name: str = "mlp", likelihood: object = None, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = random_inputs(POINTS, *SHAPES[name], seed=5, dtype=dtype)
    if isinstance(likelihood, Normal):
        return x, random_inputs(POINTS, CLASSES, seed=6, dtype=dtype)
    return x, torch.tensor([0, 3, 1, 1, 2])


def in_chunks_of(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(Predictive, "chunk", lambda self, x, extra=0: size)


def draw_outputs(post: HeldDraws, x: Tensor) -> list[Tensor]:
    """Each draw's outputs `[batch, out]`, by running the network under its weights."""
    draws = [{name: tensor[d] for name, tensor in post.weights.items()} for d in range(post.num_draws)]
    return [functional_call(post.net, draw, (x,)) for draw in draws]


def negative_log_likelihood(outputs: Tensor, y: Tensor, likelihood: object) -> Tensor:
    if isinstance(likelihood, Categorical):
        return torch.nn.functional.cross_entropy(outputs, y, reduction="none")
    assert isinstance(likelihood, Normal)
    return -torch.distributions.Normal(outputs, likelihood.noise_scale).log_prob(y).sum(-1)


def defined(objective: str, outputs: list[Tensor], y: Tensor, likelihood: object) -> Tensor:
    """The objective of each point, from its definition in `predictive.objectives`."""
    losses = [negative_log_likelihood(f, y, likelihood) for f in outputs]
    if objective == "expected_loss":
        return sum(losses) / len(losses)
    if objective == "predictive_loss":
        return -(sum((-loss).exp() for loss in losses) / len(losses)).log()
    if objective in ("bias", "variance") and isinstance(likelihood, Normal):
        mean = sum(outputs) / len(outputs)
        errors = [(y - mean).square()] if objective == "bias" else [(f - mean).square() for f in outputs]
        return sum(errors).mean(-1) / len(errors)
    probabilities = [f.exp() / f.exp().sum(-1, keepdim=True) for f in outputs]
    if objective == "double_softmax_per_draw":
        return sum(negative_log_likelihood(p, y, likelihood) for p in probabilities) / len(losses)
    if objective == "margin_per_draw":
        own = torch.nn.functional.one_hot(y, outputs[0].shape[-1]).bool()
        return sum(f.masked_fill(own, -torch.inf).amax(-1) - f[own] for f in outputs) / len(losses)
    if objective == "confident_error":
        mean_log = sum(p.log() for p in probabilities) / len(losses)
        return torch.stack(
            [torch.stack([*row[:c], *row[c + 1 :]]).max() for row, c in zip(mean_log, y.tolist(), strict=True)]
        )
    if objective in ("bias", "variance"):
        geometric = (sum(p.log() for p in probabilities) / len(losses)).exp()
        total = geometric.sum(-1)
        return -(geometric[range(len(y)), y] / total).log() if objective == "bias" else -total.log()
    mean = sum(probabilities) / len(losses)
    if objective == "double_softmax":
        return negative_log_likelihood(mean, y, likelihood)
    assert objective in ("margin", "dlr")
    rows = []
    for p, label in zip(mean, y.tolist(), strict=True):
        wrong = torch.stack([p[c] for c in range(len(p)) if c != label])
        margin = wrong.max().log() - p[label].log()
        order = p.sort(descending=True).values.log()
        rows.append(margin / (order[0] - order[2]) if objective == "dlr" and len(p) > 2 else margin)
    return torch.stack(rows)


def defined_gradient(objective: str, post: HeldDraws, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    values = defined(objective, draw_outputs(post, x), y, post.likelihood)
    return torch.autograd.grad(values.sum(), x)[0]


def draw_gradients(objective: str, post: HeldDraws, x: Tensor, y: Tensor) -> Tensor:
    """Each draw's own gradient, `[draw, batch, *shape]`, one network at a time."""
    return torch.stack([defined_gradient(objective, post[d], x, y) for d in range(post.num_draws)])
