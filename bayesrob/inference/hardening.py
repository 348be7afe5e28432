"""What training in mini-batches lets a defence change: the loss of a batch, told by the networks as they are trained now."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bayesrob.errors import BayesrobError, InputError
from bayesrob.nets import Normalise
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.types import Batch, Labels, Weights

__all__ = [
    "Hardening",
    "Known",
    "LiveNetwork",
    "Loss",
    "Training",
    "alike_in_both_modes",
    "check_room",
    "following",
    "require_ball",
    "unless_diverged",
]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of a mini-batch `x` and its labels, a scalar differentiable in what is trained."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One run of training, as a defence sees it before the first step.

    Args:
        loss: what training would minimise. live: called once a step, the Predictive over what is trained now: it follows
            the training's own tensors, so that nothing is built or copied network by network at each step. Its networks are
            in evaluation mode, with the running statistics of now; random ones make one draw at each look, as training
            itself does.
        net: of a deterministic method, the trained network itself, in training mode; else None.
        criterion: the loss as `criterion(net(x), y)`; None along with `net`.
    """

    loss: Loss
    live: Callable[[], Predictive]
    net: nn.Module | None = None
    criterion: Loss | None = None


class Hardening(abc.ABC):
    """From the training of one run to the loss that a defence minimises instead."""

    method: str
    """Name for the progress bar."""

    moves_points: bool = False
    """Whether it is the training's own loss still, asked for once a step, at points that were moved: no graph is needed."""

    @abc.abstractmethod
    def __call__(self, training: Training) -> Loss: ...


class Known(NamedTuple):
    """-log p(y | x)'s input gradient, which another computation brought along: it need not be taken again."""

    x: Batch
    y: Labels
    gradient: Batch


class LiveNetwork(HeldDraws):
    """The one network `net` in training, in evaluation mode: its weights are views of `net`'s parameters, or of `weights`.

    Where `known` is set, the gradient is given from there if it is the one that is asked for, and `used` tells so.
    """

    def __init__(self, net: nn.Module, weights: Weights | None = None, **common: Any):
        own = dict(net.named_parameters()) if weights is None else weights
        super().__init__(net, {name: weight.detach()[None] for name, weight in own.items()}, **common)
        share_buffers(self.net, net)
        self.known: Known | None = None
        self.used = False

    def now(self) -> LiveNetwork:
        """Itself, once a step: forget what was derived from the weights as they were."""
        self._low = self.known = None
        self.used = False
        return self

    def input_gradient(self, x: Tensor, y: Tensor, objective: Any = "expected_loss", *arguments: Any, **options: Any) -> Any:
        # Of one draw both objectives are -log p(y | x); other precisions and standard errors are others' business.
        plain = objective in ("expected_loss", "predictive_loss") and options.get("precision", "full") == "full"
        known = self.known if plain and not options.get("standard_error") and len(arguments) <= 2 else None
        if known is not None and torch.equal(x, known.x) and torch.equal(y, known.y):
            self.used = True
            return known.gradient.clone()
        return super().input_gradient(x, y, objective, *arguments, **options)


def following(post: Predictive, net: nn.Module, parts: Callable[[], Mapping[str, Weights]]) -> Callable[[], Predictive]:
    """A function that gives `post` with its parts (tensors by name) as `parts()` says they are now, and `net`'s buffers.

    Parts that share their memory with `post` already are not copied.
    """
    share_buffers(post.net, net)

    @torch.no_grad()
    def now() -> Predictive:
        for part, tensors in parts().items():
            for name, held in getattr(post, part).items():
                if held.data_ptr() != tensors[name].data_ptr():
                    held.copy_(tensors[name])
        return post

    return now


def share_buffers(copy: nn.Module, net: nn.Module) -> None:
    """Let `copy`, a copy of `net`, see the running statistics of `net` itself, as they change in place."""
    for mine, theirs in zip(copy.modules(), net.modules(), strict=True):
        mine._buffers.update(theirs._buffers)


_ALIKE = (
    nn.Sequential, nn.Flatten, nn.Identity, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LayerNorm, nn.GroupNorm,
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, Normalise,
)  # fmt: skip


def alike_in_both_modes(net: nn.Module) -> bool:
    """Whether all layers are known to compute the same in training and in evaluation mode."""
    return all(type(module) in _ALIKE for module in net.modules())


def unless_diverged(post: Predictive, x: Tensor, attack: Callable[[], Tensor]) -> Tensor:
    """What `attack` makes of `x`; where it fails because training has diverged `x` itself, whose loss will tell."""
    try:
        return attack()
    except BayesrobError:
        with torch.no_grad():
            if bool(post(x, 1, 0).isfinite().all()):
                raise
        return x


def require_ball(attack: Any, bounds: tuple[float, float] | None = None, size: int = 1) -> None:
    """Raise `InputError` unless `attack` is one within a budget, less than the room that inputs of `size` numbers have.

    Args:
        bounds: of the data; None: there is room enough everywhere.
    """
    name = getattr(attack, "__name__", type(attack).__name__)
    if isinstance(attack, type) or not callable(attack) or not callable(getattr(attack, "settings", None)):
        raise InputError(
            f"attack is {name}.",
            "It is called at every step with the network as trained so far.",
            "Give an attack with its settings, e.g. attack=bayesrob.attacks.PGD(eps=0.1, steps=7).",
        )
    ball = not getattr(attack, "minimal", False) and getattr(attack, "eps", 0.0) is not None
    if not ball:
        raise InputError(
            f"{name} has no ball.",
            "It looks for the smallest perturbation that is enough, however far: there is no worst case to train against.",
            "Use an attack with a radius, such as PGD(eps=0.1), or BV, whose step has a length.",
        )
    if getattr(attack, "target", None) == "given":
        raise InputError(
            f'{name} has target="given".', "Training would move inputs towards their own classes.", "Leave target out."
        )
    check_room(getattr(attack, "eps", None), getattr(attack, "norm", None), bounds, size)


def check_room(eps: float | None, norm: str | None, bounds: tuple[float, float] | None, size: int) -> None:
    """Raise `InputError` if a ball of radius `eps` reaches any input within `bounds` from any other."""
    if eps is None or norm not in ("l_inf", "l_2") or bounds is None:  # BV's eps is no radius
        return
    diameter = (bounds[1] - bounds[0]) * (1.0 if norm == "l_inf" else size**0.5)
    if eps > diameter:
        raise InputError(
            f"eps is {eps:g}, the bounds are {bounds} ({norm} diameter {diameter:g}).",
            "Every input could become every other, and no label would mean anything.",
            "Give eps in the inputs' own unit: 0.1 for pixels in [0, 1], not 25 for pixels in [0, 255].",
        )
