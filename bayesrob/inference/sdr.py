"""The stochastic delta rule: weights drawn anew for every mini-batch, with standard deviations that training moves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.errors import InputError, check_name
from bayesrob.inference.base import EachEpoch, Inference, require, require_bayesian, require_count
from bayesrob.inference.hardening import Hardening, Loss, Training, following
from bayesrob.inference.initial_sigma import check_sigma, initial_sigma
from bayesrob.inference.optimise import minimise
from bayesrob.inference.sgd import check_batches, check_training, penalised, statistics
from bayesrob.inference.svi import SVI
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.nets import in_fast_layout, initialise
from bayesrob.predictive import GaussianDraws, Predictive
from bayesrob.types import Batch, Labels, Weights

__all__ = ["SDR"]


@dataclasses.dataclass(frozen=True)
class SDR(Inference):
    """The stochastic delta rule (Hanson 1990; Frazier-Logue & Hanson 2018), for any network: linear, convolutional, LSTM.

    For every mini-batch weights w ~ N(mu, sigma^2) are drawn, once for all of its points, and the gradient of the mean loss
    is taken at them.

    variance="decay" (equation 3 and algorithm 2 of the report "Randomized deep learning models against adversarial
    attacks"; what it writes Sigma is the standard deviation): mu takes a step of Adam along that gradient g,
    sigma <- sigma + beta |g|, and after so many batches sigma <- zeta sigma. It predicts with the means: one held draw.
    On 60,000 images that print diverges at the report's own settings: in the half epoch between two decays sigma grows,
    with it the gradients, and with these sigma (784-100-100-100-10: not finite after 330 steps, also from sigma 0). The code
    of Frazier-Logue & Hanson lets sigma grow only where it decays, sigma <- zeta (sigma + beta |g|) twice an epoch:
    growth="at_decays".

    variance="learnable" (section 5.3 there): mu and sigma are both learned through w = mu + sigma * eps, without a
    divergence from any prior. Sigma is learned as its logarithm, which keeps it positive (the report's code learns it raw).
    It is `SVI(estimator="shared_draw", kl_weight=0)` from other starting values. It predicts with fresh draws.

    With beta 0 and an initial sigma of 0, "decay" is plain Adam: to the bit `SGD(decay=False)` of the same seed, which
    starts from the same weights and sees the same batches.

    `info["sigma"]` has the sum of sigma over each parameter, at the start and after every epoch.

    Args:
        variance: "decay" or "learnable".
        epochs: 20, lr: 0.001 of Adam, and batch_size: 64, the report's.
        beta: 0.05, what a gradient adds to sigma,
        zeta: 0.7, what is left of sigma at each decay, and
        decays_per_epoch: 2, the report's, and
        growth: of sigma "every_batch", as the report prints it, or "at_decays", as the code of 2018 does. All four under
            "decay" only.
        initial_sigma: a number; a number or rule for each parameter by its name; or a rule for all: "frazier_logue_2018"
            (uniform in [0, 0.5 sqrt(2 / numel)] of the tensor) or "xavier" (the absolute value of a normal number of
            variance 2 / (fan in + fan out), Glorot & Bengio 2010; a bias counts as a weight from its own units). None: the
            published code's of each, "frazier_logue_2018" under "decay" and "xavier" under "learnable".
        kl_weight: under "learnable", of the divergence from the prior of a `BayesianNetwork`; 0 is the report's, 1 SVI.
        predict: "means" or "draws" at test time. None: the report's, the means under "decay", draws under "learnable".
        num_draws: 50, the report's ensemble; see `predictive.vote` for its majority.
    """

    variance: Literal["decay", "learnable"] = "decay"
    epochs: int = 20
    lr: float = 1e-3
    batch_size: int = 64
    beta: float = 0.05
    zeta: float = 0.7
    decays_per_epoch: int = 2
    growth: Literal["every_batch", "at_decays"] = "every_batch"
    initial_sigma: float | str | Mapping[str, float | str] | None = None
    kl_weight: float = 0.0
    predict: Literal["means", "draws"] | None = None
    num_draws: int = 50

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_training(self.epochs, self.lr, self.batch_size)
        require(self.epochs is not None, "epochs is None.", "A run needs an end.", "Give 20, as the report.")
        check_name("variance", self.variance, ["decay", "learnable"])
        check_name("growth", self.growth, ["every_batch", "at_decays"])
        if self.predict is not None:
            check_name("predict", self.predict, ["means", "draws"])
        good = math.isfinite(self.beta) and self.beta >= 0
        require(good, f"beta is {self.beta}.", "Sigma grows by beta times a gradient.", "Give a number >= 0.")
        require(0 <= self.zeta <= 1, f"zeta is {self.zeta}.", "It is the part of sigma that stays.", "Give it in [0, 1].")
        require_count("decays_per_epoch", self.decays_per_epoch, "Sigma decays so many times.", least=0)
        require_count("num_draws", self.num_draws, "A prediction averages one at least.")
        if self.initial_sigma is not None:
            check_sigma(self.initial_sigma, positive=self.variance == "learnable")
        good = math.isfinite(self.kl_weight) and self.kl_weight >= 0
        require(good, f"kl_weight is {self.kl_weight}.", "It weighs a divergence.", "Give a number >= 0.")
        if self.kl_weight and self.variance == "decay":
            raise InputError(
                f'kl_weight={self.kl_weight} with variance="decay".',
                "There sigma follows a rule, not a loss.",
                'Set variance="learnable".',
            )

    def _run(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
        harden: Hardening | None = None,
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        rule = self.initial_sigma
        if rule is None:
            rule = "frazier_logue_2018" if self.variance == "decay" else "xavier"
        net = model.net if isinstance(model, BayesianNetwork) else model
        assert isinstance(net, nn.Module)
        sigma = initial_sigma(rule, net, seed)
        trace = {name: [float(start.sum(dtype=torch.float64))] for name, start in sigma.items()}
        draws = (self.predict or ("means" if self.variance == "decay" else "draws")) == "draws"

        def predictive(post: GaussianDraws) -> Predictive:
            return post if draws else post.means()

        def watch(epoch: int, post: Predictive) -> None:
            assert isinstance(post, GaussianDraws)
            for name, scale in post.scale.items():
                trace[name].append(float(scale.sum(dtype=torch.float64)))
            if each_epoch is not None:
                each_epoch(epoch, predictive(post))

        run = self._decay if self.variance == "decay" else self._learn
        post, notes, record = run(model, likelihood, dataset, seed, sigma, watch, harden)
        return predictive(post), notes, {**record, "sigma": trace}

    def _learn(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        sigma: Weights,
        watch: EachEpoch,
        harden: Hardening | None,
    ) -> tuple[GaussianDraws, list[str], dict[str, Any]]:
        if self.kl_weight:
            require_bayesian("SDR with a kl_weight", model)
        svi = self.as_svi()
        post, notes, record = svi._run(model, likelihood, dataset, seed, watch, sigma, harden)
        assert isinstance(post, GaussianDraws)
        return post, [note.replace("SVI", "SDR", 1) for note in notes], record

    def as_svi(self) -> SVI:
        """The variational inference that `variance="learnable"` is, up to its starting sigma."""
        return SVI(
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            estimator="shared_draw",
            decay=False,
            num_draws=self.num_draws,
            kl_weight=self.kl_weight,
            mirrored=False,
            beta_2=0.999,
        )

    def _decay(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        sigma: Weights,
        watch: EachEpoch,
        harden: Hardening | None,
    ) -> tuple[GaussianDraws, list[str], dict[str, Any]]:
        bnn = model if isinstance(model, BayesianNetwork) else None
        source = model if bnn is None else bnn.net
        net = in_fast_layout(initialise(source, seed, "sgd")).train().requires_grad_(True)
        parameters, sigmas = list(net.parameters()), [sigma[name] for name, _ in net.named_parameters()]
        means = [parameter.detach().clone() for parameter in parameters]
        x, y = dataset.training(like=parameters[0])
        per_epoch = math.ceil(len(x) / self.batch_size)
        check_batches(net, len(x), self.batch_size)
        criterion = penalised(net, bnn, likelihood, len(x))
        noise, step, drawn = rng.generator(seed, "sdr", "noise"), 0, False

        @torch.no_grad()
        def draw() -> None:
            """Once a step, however many losses are taken of it."""
            nonlocal drawn
            if not drawn:
                for parameter, mean, spread in zip(parameters, means, sigmas, strict=True):
                    mean.copy_(parameter)
                    parameter.addcmul_(torch.randn(mean.shape, generator=noise, dtype=torch.float32).to(mean), spread)
            drawn = True

        def loss(x_batch: Batch, y_batch: Labels) -> Tensor:
            draw()
            return criterion(net(x_batch), y_batch)

        @torch.no_grad()
        def update_sigma(*_: Any) -> None:
            """Before Adam's step: back from the draw, whose gradients are known, to the means."""
            nonlocal step, drawn
            step, drawn = step + 1, False
            due = step * self.decays_per_epoch // per_epoch > (step - 1) * self.decays_per_epoch // per_epoch
            for parameter, mean, spread in zip(parameters, means, sigmas, strict=True):
                parameter.copy_(mean)
                assert parameter.grad is not None
                if due or self.growth == "every_batch":
                    spread.add_(parameter.grad.abs(), alpha=self.beta)
                if due:
                    spread.mul_(self.zeta)

        optimizer = torch.optim.Adam(parameters, lr=self.lr, fused=True)
        optimizer.register_step_pre_hook(update_sigma)

        def predictive(num_draws: int = self.num_draws) -> GaussianDraws:
            loc = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
            scale = {name: tensor.clone() for name, tensor in sigma.items()}
            common = self._common(likelihood, dataset)
            return GaussianDraws(net, loc, scale, num_draws=num_draws, seed=seed, **common)

        def hardened(harden: Hardening) -> Loss:
            parts = {"loc": dict(net.named_parameters()), "scale": sigma}
            return harden(Training(loss, following(predictive(1), net, lambda: parts)))

        with rng.global_seed(seed, "sgd", "layers"):
            run = minimise(
                loss if harden is None else hardened(harden),
                [*parameters, *statistics(net)],
                optimizer,
                x,
                y,
                self.epochs,
                self.batch_size,
                False,
                rng.generator(seed, "sgd"),
                "SDR" if harden is None else harden.method,
                lambda epoch: watch(epoch, predictive()),
            )
        advice = (
            "Use a smaller beta" + (', growth="at_decays"' if self.growth == "every_batch" else "") + " or a smaller lr."
        )
        notes = [note.replace("Use a smaller lr.", advice) for note in run.notes("SDR")]
        return predictive(), notes, {"losses": run.losses, "steps": run.steps}
