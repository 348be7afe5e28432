"""Learners that train against an attack: each wraps the learner that it defends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.errors import BayesrobError, InputError
from bayesrob.inference.training.learner import Learner, Wrapped
from bayesrob.inference.training.live import Known, LiveNetwork, same_in_both_modes
from bayesrob.inference.training.network import NetworkLearner
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["Adversary", "AttackOnBatches", "Defence", "check_ball", "check_room", "unless_diverged"]


@runtime_checkable
class AttackOnBatches(Protocol):
    """What adversarial training asks of an attack; every attack of `bayesrob.attacks` has it."""

    def __call__(self, predictive: Predictive, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        """Adversarial versions of the inputs `x` with labels `y`."""
        ...

    def settings(self) -> dict[str, Any]:
        """The settings, as records of a fit hold them."""
        ...


class Defence(Wrapped):
    """A learner whose loss is taken at other points, too, than those of the minibatch."""

    def loss(self, batch: tuple[Batch, Labels]) -> Tensor:
        return self.loss_at(*batch)

    def split(self, x: Batch, y: Labels, sizes: list[int]) -> Iterable[tuple[Batch, Labels]]:
        return Learner.split(self, x, y, sizes)


class Adversary(Defence):
    """The loss at the points that an attack makes of each minibatch; see `AdversarialTraining`.

    Args:
        inner: the learner that is defended.
        attack: the attack.
        clean_weight: weight of the loss at the clean points, in [0, 1].
        seed: seed of the fit; each step's attack has one of its own that is derived from it.
        base: name of the method that is defended, for the record; None: it is not recorded.
    """

    def __init__(self, inner: Learner, attack: AttackOnBatches, *, clean_weight: float, seed: int, base: str | None = None):
        # A loss that is taken once a step needs no graph: then its gradient may be written out.
        super().__init__(inner if clean_weight in (0, 1) else inner.by_autograd())
        self._attack, self._weight, self._seed, self._base, self._step = attack, clean_weight, seed, base, 0
        # Until it turns out that the attack begins with another gradient: at a random start, or at other labels.
        net = self.inner.net if isinstance(self.inner, NetworkLearner) else None
        self._combined = 0 < clean_weight < 1 and net is not None and same_in_both_modes(net)

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        weight, inner = self._weight, self.inner
        if weight == 1:
            return inner.loss_at(x, y)
        seed = rng.derive(self._seed, "adversary", self._step)
        self._step += 1
        post = inner.live()
        if self._combined and isinstance(post, LiveNetwork):
            return self._both(post, x, y, seed)
        moved = unless_diverged(post, x, lambda: self._attack(post, x, y, seed=seed))
        value = inner.loss_at(moved, y)
        return value if weight == 0 else weight * inner.loss_at(x, y) + (1 - weight) * value

    def _both(self, post: LiveNetwork, x: Batch, y: Labels, seed: int) -> Tensor:
        """The weighted losses, where the backward pass of the clean one also gives the attack its first gradient."""
        weight = self._weight
        leaf = x.detach().clone().requires_grad_()
        clean = weight * self.inner.loss_at(leaf, y)
        clean.backward()  # into the weights' gradients, where the other part's will be added
        assert leaf.grad is not None
        post.known = Known(x, y, leaf.grad * (len(x) / weight))  # the loss is a mean over points
        moved = unless_diverged(post, x, lambda: self._attack(post, x, y, seed=seed))
        self._combined = post.used
        return clean.detach() + (1 - weight) * self.inner.loss_at(moved, y)

    def record(self) -> dict[str, Any]:
        return {**self.inner.record(), **({} if self._base is None else {"base": self._base})}

    def state(self) -> dict[str, Any]:
        generator = self._drawing()
        drawing = None if generator is None else generator.get_state()
        return {"inner": self.inner.state(), "step": self._step, "combined": self._combined, "drawing": drawing}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._step, self._combined = state["step"], state["combined"]
        generator = self._drawing()
        if generator is not None:
            generator.set_state(state["drawing"])

    def _drawing(self) -> torch.Generator | None:
        """What the attacked predictive draws from when an attack gives no seed."""
        return getattr(self.inner.live(), "_generator", None)


def unless_diverged(post: Predictive, x: Tensor, attack: Callable[[], Tensor]) -> Tensor:
    """Return what `attack` returns; if it fails because training has diverged, return `x`, whose loss will tell."""
    try:
        return attack()
    except BayesrobError:
        with torch.no_grad():
            if bool(post(x, 1, 0).isfinite().all()):
                raise
        return x


def check_ball(attack: Any, bounds: tuple[float, float] | None = None, size: int = 1) -> None:
    """Raise `InputError` unless `attack` is one within a ball that is smaller than the space of inputs.

    Args:
        attack: what the user gave.
        bounds: bounds of the data. None: the space of inputs is unbounded.
        size: number of values of an input.
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
            "It searches for the smallest sufficient perturbation, however large: there is no worst case to train against.",
            "Use an attack with a radius, such as PGD(eps=0.1), or BV, whose step has a length.",
        )
    if getattr(attack, "target", None) == "given":
        raise InputError(
            f'{name} has target="given".', "Training would move inputs towards their own classes.", "Leave target out."
        )
    check_room(getattr(attack, "eps", None), getattr(attack, "norm", None), bounds, size)


def check_room(eps: float | None, norm: str | None, bounds: tuple[float, float] | None, size: int) -> None:
    """Raise `InputError` if a ball of radius `eps` around any input contains all inputs of `size` values in `bounds`."""
    if eps is None or norm not in ("l_inf", "l_2") or bounds is None:  # BV's eps is no radius
        return
    diameter = (bounds[1] - bounds[0]) * (1.0 if norm == "l_inf" else size**0.5)
    if eps > diameter:
        raise InputError(
            f"eps is {eps:g}, the bounds are {bounds} ({norm} diameter {diameter:g}).",
            "Every input could become every other, and no label would mean anything.",
            "Give eps in the inputs' own unit: 0.1 for pixels in [0, 1], not 25 for pixels in [0, 255].",
        )
