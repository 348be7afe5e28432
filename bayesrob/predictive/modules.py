"""Anybody's trained networks as a Predictive."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob import rng, weights
from bayesrob.errors import CheckpointError, InputError, ModelWarning, SuspiciousOutputs
from bayesrob.nets import sequence
from bayesrob.numerics import slices
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.checks import are_probabilities, check_num_draws
from bayesrob.predictive.gradients import Pullback, autograd_vjp
from bayesrob.predictive.held import HeldDraws
from bayesrob.types import Bounds, Weights

__all__ = ["ModuleDraws", "from_modules"]


def from_modules(
    modules: Sequence[nn.Module],
    bounds: Bounds | None = None,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
) -> Predictive:
    """Trained classifiers as the draws of a Predictive: an ensemble, or with one module a deterministic network.

    Modules are copied and set to evaluation mode. Stacks of linear layers of one architecture are run in batched
    products, others one after the other. Modules must put out logits; what looks wrong is warned about, never refused.
    Several predictives become one by `from_predictives`.

    Args:
        modules: one network or more, all with the same inputs and classes.
        bounds: smallest and largest input value, `(lo, hi)`; None leaves attacks unclipped.
        input_shape: shape of one input, so that inputs can be checked.
        num_classes: number of outputs, so that labels can be checked.

    Raises:
        InputError: no module, or something that is not one, or a predictive.

    Warns:
        SuspiciousOutputs: a last layer that is a (log-)softmax, or (where `input_shape` says what an input is) outputs that
            are probabilities. `br.audit` checks again, at real inputs.
        ModelWarning: a module in training mode (it was switched).

    Example:
        >>> ensemble = br.predictive.from_modules([br.nets.mlp(2, (8,), 2, seed=seed).eval() for seed in range(3)])
        >>> ensemble.logits(x).shape
        torch.Size([3, 5, 2])
    """
    modules = [modules] if isinstance(modules, nn.Module) else list(modules)
    if not modules or not all(isinstance(module, nn.Module) for module in modules):
        kinds = [type(module).__name__ for module in modules]
        raise InputError(f"from_modules got {kinds}.", "It wraps networks.", "Pass a list of one torch module or more.")
    if any(isinstance(module, Predictive) for module in modules):
        raise InputError(
            f"from_modules got {[type(module).__name__ for module in modules]}.",
            "It wraps networks, and a predictive is a distribution over networks.",
            "Use predictive.from_predictives([post1, post2]).",
        )
    for module in modules:
        _warn(module, bounds, input_shape)
    info = {"method": "modules", "num_modules": len(modules)}
    common: dict[str, Any] = {"bounds": bounds, "input_shape": input_shape, "out_features": num_classes, "info": info}
    if _alike(modules):
        names = [name for name, _ in modules[0].named_parameters()]
        if names:
            stacked = {name: torch.stack([module.get_parameter(name) for module in modules]) for name in names}
            return HeldDraws(modules[0], stacked, **common)
    return ModuleDraws(modules, **common)


def _warn(module: nn.Module, bounds: Bounds | None, input_shape: tuple[int, ...] | None) -> None:
    softmax = any(True for _ in module.children()) and isinstance(list(module.modules())[-1], nn.Softmax | nn.LogSoftmax)
    if softmax or _puts_out_probabilities(module, bounds, input_shape):
        reason = "The last layer is a softmax." if softmax else "The outputs lie in [0, 1] and sum to one."
        warnings.warn(
            f"{reason} Logits are expected, and softmax is applied to them: twice softmaxed, gradients die and robustness "
            "is overstated. Remove the network's own.",
            SuspiciousOutputs,
            stacklevel=3,
        )
    if module.training:
        warnings.warn(
            "A module was in training mode; its copy is evaluated in evaluation mode (dropout off, batch statistics fixed).",
            ModelWarning,
            stacklevel=3,
        )


def _puts_out_probabilities(module: nn.Module, bounds: Bounds | None, input_shape: tuple[int, ...] | None) -> bool:
    """Whether the outputs at two inputs between the bounds are probabilities; False where no input's shape is known."""
    if input_shape is None:
        return False
    lo, hi = (-1.0, 1.0) if bounds is None else bounds
    parameter = next(module.parameters(), torch.empty(0))
    probes = torch.linspace(lo, hi, 2 * math.prod(input_shape)).view(2, *input_shape).to(parameter)
    try:
        with torch.no_grad(), rng.global_seed(0, "from_modules"):
            outputs = copy.deepcopy(module).eval()(probes)
    except Exception:  # what a network does not take is reported where it is used, with real inputs
        return False
    return isinstance(outputs, Tensor) and outputs.ndim == 2 and are_probabilities(outputs)


def _alike(modules: Sequence[nn.Module]) -> bool:
    """Whether all are the same stack of known layers, which fixes the function up to its parameters."""
    return all(sequence(module) is not None and repr(module) == repr(modules[0]) for module in modules)


@dataclasses.dataclass(frozen=True)
class _ModuleChunk:
    """A chunk of networks, run one after the other."""

    modules: Sequence[nn.Module]
    dtype: torch.dtype | None = None

    @property
    def num_draws(self) -> int:
        return len(self.modules)

    def __call__(self, x: Tensor, per_draw: bool = False) -> Tensor:
        inputs = x if per_draw else [x] * len(self.modules)
        return torch.stack([module(one) for module, one in zip(self.modules, inputs, strict=True)])

    def vjp(self, x: Tensor, per_draw: bool = False) -> tuple[Tensor, Pullback]:
        return autograd_vjp(self, x, per_draw, self.dtype)


class ModuleDraws(Predictive):
    """Networks of any architecture, one draw each, run one after the other.

    Args:
        modules: the networks; copied, frozen and set to evaluation mode.
        **common: as in `predictive.draws.Draws`.
    """

    kind = "modules"

    def __init__(self, modules: Sequence[nn.Module], **common: Any):
        super().__init__(modules[0], **common)
        self.modules_ = nn.ModuleList([self.net, *(copy.deepcopy(m).eval().requires_grad_(False) for m in modules[1:])])

    @property
    def num_draws(self) -> int:
        return len(self.modules_)

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[_ModuleChunk]:
        for part in slices(num_draws, size):
            yield _ModuleChunk(list(self.modules_)[part], dtype)

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        return self.num_draws if num_draws is None else check_num_draws(num_draws, self.num_draws), 0

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> ModuleDraws:
        return self[: self.resolve(num_draws, seed)[0]]

    def __getitem__(self, index: int | slice) -> ModuleDraws:
        picked = [self.modules_[index]] if isinstance(index, int) else list(self.modules_)[index]
        if not picked:
            raise InputError(f"[{index}] of {self.num_draws} networks is empty.", "At least one is needed.", "Widen it.")
        return ModuleDraws(picked, **self._common())  # type: ignore[arg-type]

    def example_weights(self) -> Weights:
        return dict(self.net.named_parameters())

    def settings(self) -> dict[str, Any]:
        """See `Predictive.settings`; of networks that are themselves predictives, theirs count."""
        described = [module.settings() if isinstance(module, Predictive) else repr(module) for module in self.modules_]
        sha256 = weights.digest([*described, self.likelihood.spec()], sorted(self.state_dict().items()))
        return self._settings(sha256)

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        raise CheckpointError(
            "Wrapped modules of the user's own architecture cannot be saved.",
            "A file holds weights, never code.",
            "Save the modules' state_dicts and wrap them again with from_modules.",
        )

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> ModuleDraws:
        """Refuse: modules are never saved."""
        raise CheckpointError("Wrapped modules are never saved.", "A file holds weights, never code.", "Use from_modules.")
