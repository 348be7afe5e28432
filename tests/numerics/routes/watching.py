"""Outcomes of probes that are made up, and networks that write down under which setting their products ran."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob.numerics.probe import Outcome
from bayesrob.numerics.routes import LARGE, MATMUL, ROUTES

FASTER = Outcome("onednn", {"plain": 2.5e-7, "onednn": 3.7e-7}, {"onednn": 2.0})
ROUNDS = Outcome("plain", {"plain": 2.5e-7, "onednn": 2e-3}, {})
WIDTH = LARGE // 100


class Probe:
    """Stands in for the probe: says what it is told, and counts."""

    def __init__(self):
        self.outcome, self.calls = FASTER, 0

    def __call__(self, routes):
        assert list(routes) == list(ROUTES)
        self.calls += 1
        return self.outcome


def settings() -> list[str]:
    torch_wide = torch.backends.fp32_precision  # pyright: ignore[reportAttributeAccessIssue]
    mkldnn = torch.backends.mkldnn
    return [torch_wide, mkldnn.fp32_precision, mkldnn.matmul.fp32_precision, mkldnn.conv.fp32_precision]


class Watched(torch.autograd.Function):
    """The identity, which writes down the setting of products on its way there and back."""

    @staticmethod
    def forward(ctx, x, seen):
        ctx.seen = seen
        seen.append(("forward", MATMUL.fp32_precision))
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        ctx.seen.append(("backward", MATMUL.fp32_precision))
        return g, None


class Spy(nn.Module):
    """A large network that writes down the setting of its products, and fails if told to."""

    def __init__(self, seen: list):
        super().__init__()
        self.first, self.last, self.seen = nn.Linear(100, WIDTH + 1), nn.Linear(WIDTH + 1, 3), seen
        self.fails = False

    def __deepcopy__(self, memo):
        copied = Spy(self.seen)
        copied.load_state_dict(self.state_dict())
        copied.fails = self.fails
        return copied

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise RuntimeError("on purpose")
        return Watched.apply(self.last(self.first(x).relu()), self.seen)


def large() -> nn.Module:
    return br.nets.mlp(100, (WIDTH + 1,), 3)
