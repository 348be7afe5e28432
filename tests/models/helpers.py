from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from bayesrob import nets
from bayesrob.models import BayesianNetwork
from tests.nets.helpers import Recurrent, random_inputs


class Scaled(nn.Module):
    """A network with a parameter that is a single number."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.temperature * self.linear(x)


NETS = {
    "mlp": (lambda: nets.mlp(3, (4,), 3, activation="tanh"), (3,)),
    "cnn": (lambda: nets.cnn((1, 16, 16), 2, 3), (1, 16, 16)),
    "lstm": (lambda: Recurrent(3, 4, 3), (5, 3)),
}


def case(name: str, likelihood: str, prior_scale: float | str) -> tuple[BayesianNetwork, Tensor, Tensor]:
    """A float64 model of three outputs and eleven points with labels."""
    make, shape = NETS[name]
    noise_scale = 0.3 if likelihood == "normal" else None
    model = BayesianNetwork(make(), prior_scale, likelihood, noise_scale).double()
    x = random_inputs(11, *shape)
    y = random_inputs(11, 3, seed=2) if likelihood == "normal" else torch.arange(11) % 3
    return model, x, y


def random_theta(model: BayesianNetwork, *lead: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return 0.4 * torch.randn(*lead, model.num_weights, generator=generator, dtype=torch.float64)


def pyro_log_joint(model: BayesianNetwork, theta: Tensor, x: Tensor, y: Tensor, num_data: int | None = None) -> Tensor:
    conditioned = pyro.poutine.condition(model, data=model.unflatten(theta))
    return pyro.poutine.trace(conditioned).get_trace(x, y, num_data).log_prob_sum()
