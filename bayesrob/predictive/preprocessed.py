"""A predictive behind a step that has no useful gradient: rounding, JPEG, a purifier. Gradients take a stand-in's."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from bayesrob import weights
from bayesrob.errors import CheckpointError, InputError
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.gradients import DrawsFunction, Pullback
from bayesrob.predictive.wrapped import Wrapped
from bayesrob.types import Batch, Bounds

__all__ = ["Preprocessed"]

Function = Callable[[Tensor], Tensor]


class Preprocessed(Wrapped):
    """`post` as it sees `function(x)`: backward pass differentiable approximation (Athalye et al. 2018, section 4.1).

    Predictions are exactly those at function(x). The gradient with respect to x is that of the logits at function(x), taken
    back through the surrogate at x in place of the function. An attack that steps through a function whose own gradient is
    zero or missing makes no progress and would call the model robust.

    Args:
        post: the predictive behind the function; the copy made of it shares its draws.
        function: `[batch, *shape] -> [batch, *other]`, without changing its argument. Modules are copied, frozen and set to
            evaluation mode. Where it draws random numbers they are the global generator's, not the predictive's seed's.
        surrogate: what stands in for it in the backward pass, differentiable, with outputs of the same shape. None: the
            identity ("straight-through"). A differentiable function may be its own: `Preprocessed(post, f, f)`.
        bounds: bounds of the inputs of `function`, where they are not those of `post`.
        input_shape: shape of one input of `function`, so that inputs can be checked. None: that of `post` if the surrogate
            is None, else unknown.

    Raises:
        InputError: no predictive, or something that is not callable.

    Example:
        >>> behind = br.predictive.Preprocessed(post, lambda x: (8 * x).round() / 8)
        >>> bool((behind.logits(x) == post.logits((8 * x).round() / 8)).all())
        True
    """

    kind = "preprocessed"

    def __init__(
        self,
        post: Predictive,
        function: Function,
        surrogate: Function | None = None,
        bounds: Bounds | None = None,
        input_shape: tuple[int, ...] | None = None,
    ):
        if not callable(function) or not (surrogate is None or callable(surrogate)):
            raise InputError(
                f"function is a {type(function).__name__}, surrogate a {type(surrogate).__name__}.",
                "Both are called with a batch of inputs.",
                "Give functions or modules; surrogate=None is the identity.",
            )
        shape = getattr(post, "input_shape", None) if surrogate is None and input_shape is None else input_shape
        super().__init__(post, bounds=bounds, input_shape=shape)
        self.info["preprocessed"] = [*post.info.get("preprocessed", []), _name(function)]
        self.function = _own(function)
        self.surrogate = self.function if surrogate is function else _own(surrogate)
        self._one: tuple[object, Tensor] | None = None

    @property
    def num_draws(self) -> int:
        return self.post.num_draws

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[_Behind]:
        step = _Step(self.function, self.surrogate)
        for draws in self.post.functions(size, num_draws, seed, dtype):
            yield _Behind(step, draws)

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        return self.post.resolve(num_draws, seed)

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> Preprocessed:
        return self._before(self.post.freeze(num_draws, seed))

    def __getitem__(self, index: int | slice) -> Preprocessed:
        return self._before(self.post[index])

    def settings(self) -> dict[str, Any]:
        """See `Predictive.settings`; the functions count by their names and by the weights that modules have."""
        names = [None if step is None else _name(step) for step in (self.function, self.surrogate)]
        tensors = sorted(self.state_dict().items())
        return self._settings(weights.digest([self.post.settings(), *names], tensors))

    def contents(self) -> NoReturn:
        raise CheckpointError(
            f"A predictive behind the function {_name(self.function)} cannot be saved.",
            "A file holds weights, never code.",
            "Save the predictive itself, and put Preprocessed in front of what bayesrob.load gives back.",
        )

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> NoReturn:
        """Refuse: functions are never saved."""
        raise CheckpointError(
            "Preprocessed is never saved.", "A file holds weights, never code.", "Load what was behind it."
        )

    def chunk(self, x: Tensor, extra: int = 0) -> int:
        if len(x) == 0:
            return self.num_draws
        one = self._value_of_one(x)
        return self.post.chunk(one.expand(len(x), *one.shape[1:]), extra)

    def _checked(self, x: Tensor) -> Batch:
        x = super()._checked(x)
        if len(x):
            self._value_of_one(x)
        return x

    def _batches(self, num_draws: int) -> int | None:
        return self.post._batches(num_draws)

    def _before(self, post: Predictive) -> Preprocessed:
        return Preprocessed(post, self.function, self.surrogate, self.bounds, self.input_shape)

    def _value_of_one(self, x: Tensor) -> Tensor:
        """The function's value at the first point; the shapes are checked at the first batch of each shape and type."""
        kind = (x.shape[1:], x.dtype, x.device)
        if self._one is None or self._one[0] != kind:
            one = x.detach()[:1]
            step = _Step(self.function, self.surrogate)
            with torch.no_grad():
                value, stand_in = step.value(one), step.stand_in(one)
            if len(value) != 1:
                raise InputError(
                    f"function makes {tuple(value.shape)} of one input {tuple(one.shape)}.",
                    "Points are attacked one by one, so each must stay one point.",
                    "Keep the batch axis.",
                )
            if value.shape != stand_in.shape:
                name = "The identity" if self.surrogate is None else "surrogate"
                raise InputError(
                    f"{name} gives shape {tuple(stand_in.shape)}, function {tuple(value.shape)}.",
                    "Gradients at the function's output go back through the surrogate.",
                    "Give a differentiable surrogate with outputs of that shape.",
                )
            try:
                self.post._checked(value)
            except InputError as error:
                raise InputError(f"What function gives does not fit: {error.what}", error.why, "Check function.") from error
            self._one = kind, value
        return self._one[1]


class _Step:
    """The function at one batch, computed once for all chunks of draws, and its surrogate."""

    def __init__(self, function: Function, surrogate: Function | None):
        self.function, self.surrogate = function, surrogate
        self._last: tuple[Tensor, Tensor] | None = None

    def value(self, x: Tensor, per_draw: bool = False) -> Tensor:
        if self._last is None or self._last[0] is not x:
            with torch.no_grad():
                self._last = x, _pointwise(self.function, x.detach(), per_draw).to(x.dtype)
        return self._last[1]

    def stand_in(self, x: Tensor, per_draw: bool = False) -> Tensor:
        return x if self.surrogate is None else _pointwise(self.surrogate, x, per_draw).to(x.dtype)


@dataclasses.dataclass(frozen=True)
class _Behind:
    """A chunk of draws behind the step."""

    step: _Step
    draws: DrawsFunction

    @property
    def num_draws(self) -> int:
        return self.draws.num_draws

    def __call__(self, x: Tensor, per_draw: bool = False) -> Tensor:
        value = self.step.value(x, per_draw)
        if torch.is_grad_enabled() and x.requires_grad:
            value = _StandIn.apply(value, self.step.stand_in(x, per_draw))
        return self.draws(value, per_draw)  # pyright: ignore[reportArgumentType]

    def vjp(self, x: Tensor, per_draw: bool = False) -> tuple[Tensor, Pullback]:
        """That of the draws at the function's value, then that of the surrogate."""
        value = self.step.value(x, per_draw)
        outputs, inner = self.draws.vjp(value, per_draw)
        if self.step.surrogate is None:
            return outputs, inner

        def pullback(slope: Tensor, into: Tensor) -> None:
            at_value = torch.zeros_like(value)
            inner(slope, at_value)
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                stand_in = self.step.stand_in(leaf, per_draw)
            into.add_(torch.autograd.grad(stand_in, leaf, at_value)[0])

        return outputs, pullback


class _StandIn(torch.autograd.Function):
    """Pass the value on in the forward pass, and the gradient to the stand-in in the backward pass."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, stand_in: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[None, Tensor]:
        return None, slope[0]


def _pointwise(function: Function, x: Tensor, per_draw: bool) -> Tensor:
    """Apply `function` to `[batch, *shape]`, or to `[chunk, batch, *shape]` as one batch."""
    return function(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if per_draw else function(x)


def _own(step: Any) -> Any:
    return copy.deepcopy(step).eval().requires_grad_(False) if isinstance(step, nn.Module) else step


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
