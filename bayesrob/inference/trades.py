"""TRADES: accuracy on clean inputs traded against how far predictions move within a ball."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.arguments import number, require, whole
from bayesrob.data import Dataset
from bayesrob.inference.sgd import SGD
from bayesrob.inference.training import MiniBatchMethod, Schedule
from bayesrob.inference.training.defence import Defence, check_room, unless_diverged
from bayesrob.inference.training.network import NetworkLearner
from bayesrob.models import Categorical, Likelihood, Normal
from bayesrob.numerics import without_negligible
from bayesrob.predictive import DrawMean, Predictive
from bayesrob.types import Batch, Bounds, Labels

__all__ = ["TRADES", "divergence"]


@dataclasses.dataclass(frozen=True)
class TRADES(MiniBatchMethod):
    """Minimise E [loss(f(x), y) + beta max_{||x' - x||_inf <= eps} KL(p(. | f(x)) || p(. | f(x')))] (Zhang et al. 2019).

    This is their equation 5. The inner maximum is approached from x plus normal noise of scale 0.001, by steps along the
    sign of the divergence's gradient, each projected to ball and bounds, without the labels. For these steps the network is
    in evaluation mode, as in Zhang et al.'s code. The loss is in training mode at x and at x', which both count in batch
    statistics, and differentiates both sides of the divergence. In regression, where p is N(f, sigma^2), the divergence is
    ||f(x) - f(x')||^2 / (2 sigma^2).

    With beta 0 it is `base` to the bit: initial weights and order of the data are those of the same seed.

    Args:
        beta: weight of the divergence (1 / lambda in Zhang et al. 2019). 6, their most robust setting; 1 keeps more clean
            accuracy.
        eps: l_inf radius in the inputs' own unit; 0.1, the default of the attacks here (Zhang et al.: 0.3 for MNIST, 0.031
            for CIFAR-10).
        steps: gradient steps of the inner maximisation; 10 as in Zhang et al. for CIFAR-10 (40 for MNIST).
        step_size: length of a step. None: 2.5 * eps / steps, as `attacks.PGD` (Zhang et al.: 2.3 and, for MNIST, 1.3 times
            eps / steps).
        base: how the network is trained.

    Raises:
        InputError: settings that are no such numbers, another base than SGD; when fitting, an eps beyond the bounds' width.

    Example:
        >>> method = br.inference.TRADES(eps=0.1, steps=2, base=br.inference.SGD(epochs=3))
        >>> method.fit(net, ds, seed=0).num_draws
        1
    """

    origin: ClassVar[str] = "members"

    beta: float = 6.0
    eps: float = 0.1
    steps: int = 10
    step_size: float | None = None
    base: SGD = dataclasses.field(default_factory=SGD)

    def __post_init__(self) -> None:
        number("beta", self.beta, "It is a weight.", least=0)
        number("eps", self.eps, "It is a radius.", least=0)
        whole("steps", self.steps)
        number("step_size", self.step_size, "A step must go somewhere.", above=0, or_none=True)
        require(
            isinstance(self.base, SGD),
            f"base is {self.base!r}.",
            "TRADES compares two outputs of one network.",
            "Give SGD() with its settings; for random networks use AdversarialTraining.",
        )

    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> Smoothing:
        inner = self.base.learner(model, likelihood, dataset, seed).by_autograd()
        assert isinstance(inner, NetworkLearner)
        generator = rng.generator(seed, "trades")
        return Smoothing(inner, self, likelihood=likelihood, bounds=dataset.bounds, generator=generator)

    def schedule(self, num_data: int) -> Schedule:
        return self.base.schedule(num_data)

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        likelihood = super()._check(model, dataset)
        check_room(self.eps, "l_inf", dataset.bounds, dataset.x_train[0].numel())
        return likelihood


class Smoothing(Defence):
    """The loss plus `beta` times the divergence of the predictions at x and x'; see `TRADES`.

    Args:
        inner: the network that is trained.
        settings: the method's.
        likelihood: what outputs say about labels.
        bounds: bounds of the data; None: unbounded.
        generator: draws the noise that the inner maximisation begins with.
    """

    def __init__(
        self,
        inner: NetworkLearner,
        settings: TRADES,
        *,
        likelihood: Likelihood,
        bounds: Bounds | None,
        generator: torch.Generator,
    ):
        super().__init__(inner)
        self._network, self._settings, self._likelihood = inner, settings, likelihood
        self._bounds, self._generator = bounds, generator

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        net, post = self._network.net, self._network.live()
        moved = unless_diverged(post, x, lambda: self.furthest(post, x, y))
        outputs, others = net(x), net(moved)
        others.register_hook(without_negligible)
        distance = divergence(self._likelihood, outputs, others).sum(dtype=torch.float64) / len(x)
        return self._network.criterion(outputs, y) + self._settings.beta * distance

    @torch.no_grad()
    def furthest(self, post: Predictive, x: Batch, y: Labels) -> Batch:
        """Approach the x' in the ball around each `x` where the prediction differs most from that at `x`."""
        eps, steps = self._settings.eps, self._settings.steps
        size = 2.5 * eps / steps if self._settings.step_size is None else self._settings.step_size
        away = _Away(post.logits(x)[0])
        z = x + 1e-3 * torch.randn(x.shape, generator=self._generator, dtype=torch.float32).to(x)
        for _ in range(steps):
            z = torch.clamp(z + size * post.input_gradient(z, y, away, scaled=True).sign(), x - eps, x + eps)
            z = z if self._bounds is None else z.clamp(*self._bounds)
        return z

    def state(self) -> dict[str, Any]:
        return {"inner": self.inner.state(), "noise": self._generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._generator.set_state(state["noise"])


def divergence(likelihood: Likelihood, outputs: Tensor, others: Tensor) -> Tensor:
    """KL(p(. | outputs) || p(. | others)) for each point, `[batch]`, from outputs `[batch, out]`."""
    if isinstance(likelihood, Normal):
        return 0.5 * ((outputs - others) / likelihood.noise_scale).square().sum(-1)
    log_p, log_q = outputs.log_softmax(-1), others.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class _Away(DrawMean):
    """The divergence from the predictions at `outputs` `[batch, out]`."""

    needs_classes = False

    def __init__(self, outputs: Tensor):
        self.outputs = outputs

    def per_draw(self, outputs: Tensor, y: Labels, likelihood: Likelihood) -> Tensor:
        return divergence(likelihood, self.outputs, outputs)

    def slope(self, outputs: Tensor, y: Labels, likelihood: Likelihood) -> Tensor:
        if isinstance(likelihood, Categorical):  # the cross-entropy with these labels differs by a constant
            return outputs.softmax(-1) - self.outputs.softmax(-1)
        return likelihood.score(outputs, self.outputs).neg_()
