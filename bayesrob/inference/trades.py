"""TRADES: accuracy on clean inputs traded against how far predictions move within a ball."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.inference.base import EachEpoch, Inference, require
from bayesrob.inference.hardening import Hardening, Loss, Training, check_room, unless_diverged
from bayesrob.inference.sgd import SGD
from bayesrob.models import Categorical, Likelihood, Normal
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.predictive.objectives import DrawMean
from bayesrob.types import Batch, Bounds, Labels

__all__ = ["TRADES", "divergence"]


@dataclasses.dataclass(frozen=True)
class TRADES(Inference):
    """Minimise E [loss(f(x), y) + beta max_{||x' - x||_inf <= eps} KL(p(. | f(x)) || p(. | f(x')))] (Zhang et al. 2019).

    Their equation 5. The inner maximum is approached from x + 0.001 * noise, normal, by steps along the sign of the
    divergence's gradient, each projected to ball and bounds; x' sees no label. There the network is in evaluation mode, as
    in Zhang et al.'s code; the loss is in training mode at x and at x', which both count in batch statistics, and
    differentiates both sides of the divergence. In regression, where p is N(f, sigma^2), that is
    ||f(x) - f(x')||^2 / (2 sigma^2).

    With beta 0 it is `base` to the bit: initial weights and order of the data are those of the same seed.

    Args:
        beta: weight of the divergence (1 / lambda in the paper). 6, its most robust setting; 1 keeps more clean accuracy.
        eps: l_inf radius in the inputs' own unit; 0.1, the one that attacks here have by default (paper: 0.3 for MNIST,
            0.031 for CIFAR-10).
        steps: of the inner maximisation; 10 is the paper's for CIFAR-10 (40 for MNIST).
        step_size: None: 2.5 * eps / steps, as `attacks.PGD` (paper: 2.3 and, for MNIST, 1.3 times eps / steps).
        base: how the network is trained.

    Raises:
        InputError: settings that are no such numbers, another base than SGD; when fitting, an eps beyond the bounds' width.
    """

    beta: float = 6.0
    eps: float = 0.1
    steps: int = 10
    step_size: float | None = None
    base: SGD = dataclasses.field(default_factory=SGD)

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("beta", "eps"):
            value = getattr(self, name)
            good = _number(value) and value >= 0
            require(good, f"{name} is {value!r}.", "It is a weight." if name == "beta" else "It is a radius.", "Give >= 0.")
        whole = isinstance(self.steps, int) and not isinstance(self.steps, bool) and self.steps >= 1
        require(whole, f"steps is {self.steps!r}.", "It counts from 1.", "Give a whole number >= 1.")
        good = self.step_size is None or (_number(self.step_size) and self.step_size > 0)
        require(good, f"step_size is {self.step_size!r}.", "A step must go somewhere.", "Give a positive number, or None.")
        require(
            isinstance(self.base, SGD),
            f"base is {self.base!r}.",
            "TRADES compares two outputs of one network.",
            "Give SGD() with its settings; for random networks use AdversarialTraining.",
        )

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        likelihood = super()._check(model, dataset)
        check_room(self.eps, "l_inf", dataset.bounds, dataset.x_train[0].numel())
        return likelihood

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int, each_epoch: EachEpoch | None = None
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        smoothing = _Smoothing(self, likelihood, dataset.bounds, seed)
        return self.base._run(model, likelihood, dataset, seed, each_epoch, harden=smoothing)


class _Smoothing(Hardening):
    method = "TRADES"

    def __init__(self, settings: TRADES, likelihood: Likelihood, bounds: Bounds | None, seed: int):
        self.settings, self.likelihood, self.bounds = settings, likelihood, bounds
        self.generator = rng.generator(seed, "trades")

    def __call__(self, training: Training) -> Loss:
        net, criterion = training.net, training.criterion
        assert net is not None
        assert criterion is not None

        def loss(x: Tensor, y: Tensor) -> Tensor:
            post = training.live()
            moved = unless_diverged(post, x, lambda: self.furthest(post, x, y))
            outputs = net(x)
            distance = divergence(self.likelihood, outputs, net(moved)).sum(dtype=torch.float64) / len(x)
            return criterion(outputs, y) + self.settings.beta * distance

        return loss

    @torch.no_grad()
    def furthest(self, post: Predictive, x: Batch, y: Labels) -> Batch:
        """x' in the ball around each `x` where the prediction differs most from that at `x`, as far as the steps find it."""
        eps, steps = self.settings.eps, self.settings.steps
        size = 2.5 * eps / steps if self.settings.step_size is None else self.settings.step_size
        away = _Away(post.logits(x)[0], self.likelihood)
        z = x + 1e-3 * torch.randn(x.shape, generator=self.generator, dtype=torch.float32).to(x)
        for _ in range(steps):
            z = torch.clamp(z + size * post.input_gradient(z, y, away).sign(), x - eps, x + eps)
            z = z if self.bounds is None else z.clamp(*self.bounds)
        return z


def divergence(likelihood: Likelihood, outputs: Tensor, others: Tensor) -> Tensor:
    """KL(p(. | outputs) || p(. | others)) of each point, `[batch]`, from outputs `[batch, out]`."""
    if isinstance(likelihood, Normal):
        return 0.5 * ((outputs - others) / likelihood.noise_scale).square().sum(-1)
    log_p, log_q = outputs.log_softmax(-1), others.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class _Away(DrawMean):
    """The divergence from the predictions at `outputs` `[batch, out]`."""

    needs_classes = False

    def __init__(self, outputs: Tensor, likelihood: Likelihood):
        self.outputs = outputs
        self.code = outputs.softmax(-1) if isinstance(likelihood, Categorical) else outputs

    def per_draw(self, outputs: Tensor, y: Labels, likelihood: Likelihood) -> Tensor:
        return divergence(likelihood, self.outputs, outputs)

    def slope(self, outputs: Tensor, y: Labels, likelihood: Likelihood) -> Tensor:
        return likelihood.score(outputs, self.code).neg_()  # the cross-entropy with these labels differs by a constant


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
