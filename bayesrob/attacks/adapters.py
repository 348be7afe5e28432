"""Attacks of foolbox and of the Adversarial Robustness Toolbox on a Predictive, and a Predictive as their models.

Neither library is needed to import this: they come with `pip install "bayesrob[interop]"`, and are loaded when used.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import importlib
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.attacks.base import Attack
from bayesrob.attacks.criteria import Misclassified
from bayesrob.attacks.geometry import check_radius
from bayesrob.attacks.victim import Victim, next_seed
from bayesrob.errors import BayesrobError, InputError
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Bounds

__all__ = ["ART", "Foolbox", "to_art", "to_foolbox"]

_OVERSHOOT = 1e-6
"""Largest excess over the bounds that counts as rounding and is clipped, relative to their width (at least 1)."""


def to_foolbox(post: Predictive) -> Any:
    """`post` as a `foolbox.PyTorchModel`, whose logits are the log posterior predictive probabilities.

    Fresh draws are drawn anew at each call; use `post.freeze(n)` for held draws and `post[:n]` for fewer.

    Args:
        post: a classifier with bounds.

    Raises:
        InputError: foolbox is not installed, or `post` has no classes or no bounds.
    """
    _check_classifier(post)
    if post.bounds is None:
        raise InputError("foolbox needs bounds.", "It clips to them.", "Give the predictive bounds=(lo, hi).")
    return _library("foolbox").PyTorchModel(post, post.bounds, next(post.parameters()).device)


def to_art(post: Predictive, loss: Any = None, input_shape: tuple[int, ...] | None = None) -> Any:
    """`post` as an `art.estimators.classification.PyTorchClassifier`, for attacks and defences that need no training.

    Args:
        post: a classifier; `clip_values` are its bounds.
        loss: loss of log-probabilities. None: `NLLLoss`, -log p(y | x), which here equals `CrossEntropyLoss`.
        input_shape: shape of one input, needed if `post` does not know it.

    Raises:
        InputError: ART is not installed, or `post` has no classes.
    """
    _check_classifier(post)
    shape = post.input_shape if input_shape is None else input_shape
    if shape is None or post.out_features is None:
        raise InputError(
            f"input_shape is {shape}, the number of classes {post.out_features}.",
            "ART must know both.",
            "Give them: to_art(post, input_shape=...), from_modules(..., num_classes=...).",
        )
    return _art_classifier(post, shape, post.out_features, post.bounds, device=next(post.parameters()).device, loss=loss)


@dataclasses.dataclass(frozen=True)
class _Adapter(Attack):
    """What both adapters share: the module that the library sees, seeds, counts, and the check of the result.

    Queries and gradients are counted in points that went through the module, per attacked point and rounded up, because the
    libraries go on evaluating points that they have given up. A forward pass that a gradient came back through is no query.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.criterion != Misclassified():
            raise InputError(
                f"{type(self).__name__} with {self.criterion}.",
                "The library decides about success itself, by the likeliest class.",
                "Leave the criterion out.",
            )

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        seed = next_seed(generator)
        module = _Seen(victim, (lambda: next_seed(generator)) if self.draws == "fresh" else (lambda: seed))
        with _global_seeds(next_seed(generator)), torch.enable_grad():
            z = self._generate(module, victim, x)
        victim.queries += -(-module.queries // len(x))
        victim.gradients += -(-module.gradients // len(x))
        return _checked_result(type(self).__name__, z, x, victim.bounds)

    @abc.abstractmethod
    def _generate(self, module: nn.Module, victim: Victim, x: Batch) -> Tensor:
        """The adversarial inputs that the library returns for `x`."""


@dataclasses.dataclass(frozen=True)
class Foolbox(_Adapter):
    """Any attack of foolbox 3 (Rauber et al. 2020) on the posterior predictive `post(x)`.

    A target becomes foolbox's `TargetedMisclassification`. Further settings: see `Attack`.

    Args:
        attack: an attack object of foolbox, e.g. `foolbox.attacks.LinfPGD(steps=40)`.
        eps: radius in the attack's own norm, in the inputs' own unit; None: foolbox's minimization attacks.
    """

    attack: Any
    eps: float | None = None

    needs_bounds: ClassVar[bool] = True
    paper: ClassVar[str] = "Rauber et al. 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        base = _library("foolbox.attacks.base")
        if not isinstance(self.attack, base.Attack):
            raise InputError(
                f"attack is a {type(self.attack).__name__}.",
                "It must be an attack object of foolbox.",
                "Give e.g. foolbox.attacks.LinfPGD(steps=40).",
            )
        inner = self.attack
        while isinstance(inner, base.Repeated):
            inner = inner.attack
        if self.eps is not None:
            check_radius(self.eps)
        if self.eps is None and isinstance(inner, base.FixedEpsilonAttack):
            raise InputError(f"{inner} without eps.", "It searches a ball of fixed radius.", "Give eps.")

    @property
    def only_accuracy(self) -> bool:
        return self.eps is None

    def _generate(self, module: nn.Module, victim: Victim, x: Batch) -> Tensor:
        criteria = _library("foolbox.criteria")
        model = _library("foolbox").PyTorchModel(module, victim.bounds, x.device)
        criterion = criteria.TargetedMisclassification if victim.targeted else criteria.Misclassification
        try:
            return self.attack(model, x, criterion(victim.y), epsilons=self.eps)[1]
        except ValueError as error:
            if "criterion" not in str(error):
                raise
            goal = "a target" if victim.targeted else "no target"
            raise InputError(
                f"{self.attack} with {goal}: {error}.", "foolbox does not offer it.", "Use PGD(target=...)."
            ) from error


@dataclasses.dataclass(frozen=True)
class ART(_Adapter):
    """Any evasion attack of the Adversarial Robustness Toolbox (Nicolae et al. 2018) on the posterior predictive `post(x)`.

    ART computes in float32, whatever the predictive does; its loss is `NLLLoss` on log-probabilities. With a target, the
    attack that `make` returns must be `targeted`, and without one it must not be. Further settings: see `Attack`.

    Args:
        make: a function from ART's classifier to its attack, as `lambda c: ProjectedGradientDescent(c, eps=0.1)`.
        smallest: whether the attack minimises the perturbation (DeepFool), so that only accuracy is scored.
    """

    make: Callable[[Any], Any]
    smallest: bool = False

    paper: ClassVar[str] = "Nicolae et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.make):
            raise InputError(
                f"make is a {type(self.make).__name__}.",
                "ART's attacks are made for a classifier, which is not known yet.",
                "Give a function: lambda classifier: ProjectedGradientDescent(classifier, eps=0.1).",
            )

    @property
    def only_accuracy(self) -> bool:
        return self.smallest

    def check_fits(self, predictive: Predictive) -> None:
        super().check_fits(predictive)
        _library("art.estimators.classification")

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "make": getattr(self.make, "__qualname__", repr(self.make))}

    def _generate(self, module: nn.Module, victim: Victim, x: Batch) -> Tensor:
        shape = tuple(x.shape[1:])
        attack = self.make(_art_classifier(module, shape, victim.num_classes, victim.bounds, device=x.device))
        if not callable(getattr(attack, "generate", None)):
            raise InputError(
                f"make gave a {type(attack).__name__}.", "An evasion attack of ART has `generate`.", "Return the attack."
            )
        if bool(getattr(attack, "targeted", False)) != victim.targeted:
            raise InputError(
                f"The attack is {'not ' if victim.targeted else ''}targeted, target is {self.target}.",
                "It would take the labels for the opposite of what they are.",
                "Make it with targeted=True if and only if a target is given.",
            )
        images, labels = x.detach().cpu().numpy(), victim.y.cpu().numpy()
        return torch.from_numpy(np.asarray(attack.generate(images, labels)))


class _Seen(nn.Module):
    """The posterior predictive as the library sees it, which counts the points of its forward and backward passes."""

    def __init__(self, victim: Victim, seed: Callable[[], int]):
        super().__init__()
        self.victim, self.seed = victim, seed
        self.queries = self.gradients = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.victim.predictive(x, self.victim.num_draws, self.seed())
        self.queries += len(x)
        if outputs.requires_grad:
            outputs.register_hook(self._counter(len(x)))
        return outputs

    def _counter(self, points: int) -> Callable[[Tensor], None]:
        query = points

        def count(gradient: Tensor) -> None:
            nonlocal query
            self.gradients += points
            self.queries, query = self.queries - query, 0

        return count


@contextlib.contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, which the libraries use, and restore them afterwards."""
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    with rng.global_seed(seed, "adapter"):
        try:
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
        finally:
            np.random.set_state(before[0])  # noqa: NPY002
            random.setstate(before[1])


def _checked_result(name: str, z: Tensor, x: Batch, bounds: Bounds | None) -> Batch:
    if z.shape != x.shape:
        raise BayesrobError(
            f"{name} gave back shape {tuple(z.shape)}.", f"The inputs are {tuple(x.shape)}.", "Check the attack's settings."
        )
    z = z.detach().to(x)
    if bounds is None:
        return z
    lo, hi = bounds
    outside = max(lo - float(z.min()), float(z.max()) - hi)
    if outside > _OVERSHOOT * max(1.0, hi - lo):
        raise BayesrobError(
            f"{name} left the bounds [{lo:g}, {hi:g}] by {outside:.1e}.",
            "Such inputs do not exist; the robustness would be understated.",
            "Choose settings, or an attack, that clip.",
        )
    return z.clamp(lo, hi)


def _art_classifier(
    module: nn.Module, shape: tuple[int, ...], classes: int, bounds: Bounds | None, *, device: torch.device, loss: Any = None
) -> Any:
    return _library("art.estimators.classification").PyTorchClassifier(
        module,
        loss=nn.NLLLoss() if loss is None else loss,
        input_shape=shape,
        nb_classes=classes,
        clip_values=bounds,
        device_type="cpu" if device.type == "cpu" else "gpu",
    )


def _check_classifier(post: Predictive) -> None:
    if not isinstance(post, Predictive) or post.likelihood.name != "categorical":
        kind = f"predictive of a {post.likelihood.name} likelihood" if isinstance(post, Predictive) else type(post).__name__
        raise InputError(f"Got a {kind}.", "A classifier is needed.", "Wrap networks with predictive.from_modules([net]).")


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        names = {"foolbox": "foolbox", "art": "The Adversarial Robustness Toolbox"}
        raise InputError(
            f"{names[module.partition('.')[0]]} cannot be imported: {error}.",
            "Its attacks are not part of bayesrob.",
            'Install it: pip install "bayesrob[interop]".',
        ) from error
