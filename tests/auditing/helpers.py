"""Robustness figures that an audit must catch, and figures that it must believe: each made here, small, from a seed."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import bayesrob as br
from bayesrob.attacks import PGD, Attack, Transfer
from bayesrob.data import Dataset
from bayesrob.errors import ConvergenceWarning, SuspiciousOutputs
from bayesrob.predictive import GaussianDraws, HeldDraws, Predictive, from_modules

EPS = 0.1
POINTS = 40
COMMON = {"bounds": (0.0, 1.0), "input_shape": (1, 8, 8)}


@dataclasses.dataclass(frozen=True)
class Case:
    """A posterior and the attack whose figure on it is audited (None: the audit's own).

    `checks` are those made for such a case: at least one of them must fail. Empty: all must pass, but those about
    `inference`, which has a verdict of its own, where `chains` says that the draws come from short chains.
    """

    make: Callable[[int], tuple[Predictive, Attack | None]]
    checks: tuple[str, ...] = ()
    chains: bool = False


@functools.cache
def digits() -> Dataset:
    return br.data.load("digits")


def points(seed: int) -> tuple[Tensor, Tensor]:
    data = digits()
    return data.x_test[seed * POINTS : (seed + 1) * POINTS], data.y_test[seed * POINTS : (seed + 1) * POINTS]


@functools.cache
def trained(seed: int) -> nn.Module:
    """A plain network of 95% accuracy."""
    net = br.nets.mlp(64, (32,), 10)
    post = br.inference.SGD(epochs=30, lr=0.01).fit(net, digits(), seed=seed)
    assert isinstance(post, HeldDraws)
    return with_weights(net, {name: tensor[0] for name, tensor in post.weights.items()})


def with_weights(net: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    net.load_state_dict(weights)
    return net.eval()


def wrapped(*modules: nn.Module) -> Predictive:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspiciousOutputs)
        return from_modules([module.eval() for module in modules], num_classes=10, **COMMON)


# ---- what must be caught ------------------------------------------------------------------------------------------------


class Probabilities(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(-1)


def double_softmax(seed: int) -> tuple[Predictive, Attack]:
    return wrapped(Probabilities(trained(seed))), PGD(eps=EPS, objective="expected_loss")


def large_step(seed: int) -> tuple[Predictive, Attack]:
    return wrapped(trained(seed)), PGD(eps=EPS, step_size=2.0, objective="margin")


def one_draw_kept(seed: int) -> tuple[Predictive, None]:
    """Two chains whose proposals were all rejected."""
    net = trained(seed)
    weights = {name: parameter.detach().expand(20, *parameter.shape) for name, parameter in net.named_parameters()}
    stats = {"accepted": np.zeros((2, 10), dtype=bool), "acceptance_rate": np.zeros((2, 10))}
    return HeldDraws(net, weights, 2, stats, out_features=10, **COMMON), None


def saturated(seed: int) -> tuple[Predictive, Attack]:
    """The same classes as the plain network's, every probability 0 or 1 in float32."""
    net = trained(seed)
    weights = {name: parameter.detach()[None].clone() for name, parameter in net.named_parameters()}
    last = list(weights)[-2:]
    weights |= {name: 1e4 * weights[name] for name in last}
    return HeldDraws(net, weights, out_features=10, **COMMON), PGD(eps=EPS, objective="expected_loss")


def another_draw_scored(seed: int) -> tuple[Predictive, Attack]:
    """The published protocol of randomised weights: one draw attacked, the next one scored."""
    net = trained(seed)
    loc = {name: parameter.detach() for name, parameter in net.named_parameters()}
    scale = {name: 0.5 * parameter.abs() + 0.05 for name, parameter in loc.items()}
    post = GaussianDraws(net, loc, scale, num_draws=1, seed=seed, out_features=10, **COMMON)
    return post, PGD(eps=EPS, objective="margin", draws="held")


class Rounded(nn.Module):
    """Eight grey values. Rounding has the derivative zero, everywhere."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(quantised(x))


def quantised(x: Tensor) -> Tensor:
    return (7 * x).round() / 7


def rounded(seed: int) -> tuple[Predictive, Attack]:
    return wrapped(Rounded(trained(seed))), PGD(eps=EPS, objective="margin")


class _NoiseBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, slope):
        return slope + 50 * slope.norm() * torch.randn_like(slope)


class NoisyGradient(nn.Module):
    """The network's own predictions, with gradients drowned in noise."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(_NoiseBackward.apply(x))


def noisy_gradient(seed: int) -> tuple[Predictive, Attack]:
    return wrapped(NoisyGradient(trained(seed))), PGD(eps=EPS, objective="margin")


class MeanLogits(nn.Module):
    def __init__(self, *nets: nn.Module):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([net(x) for net in self.nets]).mean(0)


class Scaled(nn.Module):
    def __init__(self, net: nn.Module, factor: float):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.net(x)


def logits_averaged(seed: int) -> tuple[Predictive, Attack]:
    """In the mean of logits the surest member decides alone, in the mean of probabilities the two others outvote it."""
    nets = [Scaled(trained(seed + i), factor) for i, factor in enumerate((30.0, 3.0, 3.0))]
    return wrapped(*nets), Transfer(surrogate=wrapped(MeanLogits(*nets)), attack=PGD(eps=EPS, objective="margin"))


# ---- what must be believed ----------------------------------------------------------------------------------------------


def plain(seed: int) -> tuple[Predictive, None]:
    return wrapped(trained(seed)), None


@functools.cache
def robust(seed: int) -> nn.Module:
    """Trained on what PGD makes of its batches (Madry et al. 2018)."""
    data = digits()
    net = br.nets.mlp(64, (64,), 10, seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    order = torch.Generator().manual_seed(seed)
    for _ in range(25):
        for rows in torch.randperm(len(data.x_train), generator=order).split(256):
            x, y = data.x_train[rows], data.y_train[rows]
            z = PGD(eps=EPS, steps=5)(wrapped(net.eval()), x, y, seed=seed)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(z), y).backward()
            optimizer.step()
    return net.eval()


def adversarially_trained(seed: int) -> tuple[Predictive, None]:
    return wrapped(robust(seed)), None


def hmc(seed: int) -> tuple[Predictive, None]:
    """Short chains, of draws that are sure of themselves."""
    model = br.models.BayesianNetwork(br.nets.mlp(64, (16,), 10), prior_scale=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return br.inference.HMC(num_samples=8, warmup=40, num_chains=2).fit(model, digits(), seed=seed), None


CAUGHT: dict[str, Case] = {
    "double_softmax": Case(double_softmax, ("outputs",)),
    "large_step": Case(large_step, ("convergence",)),
    "one_draw_kept": Case(one_draw_kept, ("inference",)),
    "saturated": Case(saturated, ("zero_gradients",)),
    "another_draw_scored": Case(another_draw_scored, ("randomness",)),
    "rounded": Case(rounded, ("zero_gradients", "gradient_free")),
    "noisy_gradient": Case(noisy_gradient, ("gradient_noise",)),
    "logits_averaged": Case(logits_averaged, ("attack_draws",)),
}
BELIEVED: dict[str, Case] = {
    "plain": Case(plain),
    "adversarially_trained": Case(adversarially_trained),
    "hmc": Case(hmc, chains=True),
}


@functools.cache
def audited(name: str, seed: int, level: str = "quick") -> xr.DataTree:
    """The audit of a case, made once."""
    post, attack = (CAUGHT | BELIEVED)[name].make(seed)
    x, y = points(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspiciousOutputs)
        return br.audit(post, x, y, eps=EPS, seed=seed, level=level, attack=attack)


def failed(tree: xr.DataTree) -> list[str]:
    found = tree["checks"].to_dataset()
    return found["check"].values[np.isin(found["status"].values, ["failed", "error"])].tolist()
