"""Networks of the users' own, random weights for any network, and the plainest way to run one under many weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Recurrent(nn.Module):
    """A network of the user's own that neither a stack of layers nor `vmap` can run."""

    def __init__(self, features: int = 3, hidden: int = 4, out: int = 2):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def random_weights(net: nn.Module, num_draws: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 * torch.randn(num_draws, *parameter.shape, generator=generator, dtype=dtype)
        for name, parameter in net.named_parameters()
    }


def random_inputs(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loop(net: nn.Module, weights: dict[str, Tensor], x: Tensor, per_draw: bool = False) -> Tensor:
    """One draw after the other, `[draw, batch, out]`."""
    num_draws = len(next(iter(weights.values())))
    draws = [{name: tensor[d] for name, tensor in weights.items()} for d in range(num_draws)]
    return torch.stack([functional_call(net, draw, (x[d] if per_draw else x,)) for d, draw in enumerate(draws)])
