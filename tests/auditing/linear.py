"""A model whose robustness is known, and the checks' evidence about it.

The model is linear in four features: class 1 where their sum exceeds 2. A point's distance to that boundary is, in l_inf,
what its sum lacks divided by four, so it is known which of them a ball of radius 0.1 reaches.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.analysis.findings import thresholds
from bayesrob.attacks import Attack
from bayesrob.auditing import CHECKS, Finding, Level
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.run_files import RunFiles
from bayesrob.auditing.runs import Runs
from bayesrob.predictive import GaussianDraws, HeldDraws, Predictive, from_modules

EPS = 0.1
NEAR, FAR = 0.05, 0.2
TINY = Level(
    steps=10, queries=200, samples=200, images=None, radii=(0.5, 2.0), draws=(1, 5, 20), repeats=3, errors=20, fresh=False
)
COMMON: dict[str, Any] = {"bounds": (0.0, 1.0), "input_shape": (4,), "out_features": 2}
NET = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


def points(*distances: float) -> tuple[Tensor, Tensor]:
    """Points of class 0 at these distances, ten of each."""
    x = torch.tensor(distances, dtype=torch.float32).repeat_interleave(10)
    return (0.5 - x)[:, None].expand(-1, 4).clone(), torch.zeros(len(x), dtype=torch.long)


def linear(scale: float = 10.0, num_draws: int = 1, **more: Any) -> HeldDraws:
    """Logits are -+ scale * (sum of x - 2) / 2, for every draw."""
    weight = scale / 2 * torch.tensor([[-1.0] * 4, [1.0] * 4])
    weights = {"1.weight": weight.expand(num_draws, 2, 4).clone(), "1.bias": scale * torch.tensor([[1.0, -1.0]] * num_draws)}
    return HeldDraws(NET, weights, **more, **COMMON)


def fresh(scale: float, num_draws: int) -> GaussianDraws:
    """The linear model with a threshold that every draw moves by a normal amount of standard deviation 1.4 * scale / 10."""
    loc = {name: tensor[0] for name, tensor in linear().weights.items()}
    scales = {"1.weight": torch.full((2, 4), 1e-6), "1.bias": torch.full((2,), scale)}
    return GaussianDraws(NET, loc, scales, num_draws=num_draws, **COMMON)


class Behind(nn.Module):
    """The linear model behind another step."""

    def __init__(self, step: nn.Module):
        super().__init__()
        self.step, self.net = step, nn.Linear(4, 2)
        with torch.no_grad():
            for parameter, tensor in zip(self.net.parameters(), linear().weights.values(), strict=True):
                parameter.copy_(tensor[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.step(x))


def behind(step: nn.Module) -> Predictive:
    return from_modules([Behind(step).eval()], bounds=(0.0, 1.0), num_classes=2)


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (1000 * x).round() / 1000


class Noisy(nn.Module):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, slope):
            return slope + 1000 * torch.randn_like(slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.Function.apply(x)


class Shaken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)


@dataclasses.dataclass(frozen=True)
class Moved(Attack):
    """Adds `by` to every component, whatever the radius."""

    by: float = 0.0
    eps: float = EPS
    norm: str = "l_inf"

    def perturb(self, victim, x, generator):
        return x + self.by


@dataclasses.dataclass(frozen=True)
class OnlyNear(Moved):
    """Finds what is there in small balls, and nothing in large ones."""

    def perturb(self, victim, x, generator):
        return (x + self.eps).clamp(0, 1) if self.eps < 0.15 else x


def bench(post: Predictive, x: Tensor, y: Tensor, attack: Attack | None = None, **level: Any) -> Bench:
    spent = dataclasses.replace(TINY, **level)
    return Bench(Runs(post, x, y, eps=EPS, norm="l_inf", seed=0, level=spent, files=RunFiles(None, ""), given=attack))


def finding(name: str, post: Predictive, attack: Attack | None = None, at: Any = (NEAR, FAR), **level: Any) -> Finding:
    """What the check `name` finds at points of the distances `at`, or at the points and labels `at`."""
    x, y = at if isinstance(at[0], Tensor) else points(*at)
    return CHECKS[name].run(bench(post, x, y, attack, **level), thresholds(CHECKS, len(x))[name])
