"""Cells of a sweep as they are written by hand with torch and Pyro alone: one after the other, nothing shared."""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Categorical, Normal
from pyro.infer import HMC, MCMC, SVI, Predictive, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal
from pyro.nn import PyroModule, PyroSample
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bayesrob.evaluation.points import chosen_points
from bayesrob.sweeps import Cell

__all__ = ["plain_cell"]

Net = nn.Module


def plain_cell(cell: Cell) -> list[float]:
    """Train, then accuracy and softmax robustness under the cell's attacks on the mean loss of the draws."""
    dataset = cell.dataset()
    torch.manual_seed(cell.seed)
    draws = {"SGD": sgd, "HMC": hmc, "SVI": svi}[cell.inference["method"]](cell, dataset.x_train, dataset.y_train)
    _, x, y = chosen_points(dataset, cell.evaluation["num_points"], cell.seed)
    clean, found = predict(draws, x), []
    found.append(float((clean.argmax(1) == y).float().mean()))
    for settings in cell.evaluation["attacks"].values():
        z = x.clone()
        steps = settings.get("steps", 1)
        size = settings["eps"] if steps == 1 else 2.5 * settings["eps"] / steps
        for _ in range(steps):
            z = (z + size * gradient(draws, z, y).sign()).clamp(x - settings["eps"], x + settings["eps"]).clamp(0, 1)
        found.append(float(1 - (clean - predict(draws, z)).abs().amax(1).mean()))
    return found


def layers(cell: Cell, sizes: tuple[int, int], linear: type = nn.Linear) -> list[nn.Module]:
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[cell.net["activation"]]
    hidden, made, before = [cell.net["width"]] * cell.net["depth"], [nn.Flatten()], sizes[0]
    for width in hidden:
        made += [linear(before, width), activation()]
        before = width
    return [*made, linear(before, sizes[1])]


def predict(draws: list[Net], x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([net(x).softmax(-1) for net in draws]).mean(0)


def gradient(draws: list[Net], x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    loss = sum(nn.functional.cross_entropy(net(x), y, reduction="sum") for net in draws)
    assert isinstance(loss, Tensor)
    return torch.autograd.grad(loss, x)[0]


def sgd(cell: Cell, x: Tensor, y: Tensor) -> list[Net]:
    net = nn.Sequential(*layers(cell, (x[0].numel(), 10)))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    loader = DataLoader(TensorDataset(x, y), batch_size=cell.inference["batch_size"], shuffle=True)
    for _ in range(cell.inference["epochs"]):
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), labels).backward()
            optimizer.step()
    return [net]


class Bayesian(PyroModule):
    """Every weight and bias N(0, 1)."""

    def __init__(self, cell: Cell, sizes: tuple[int, int]):
        super().__init__()
        made = layers(cell, sizes, PyroModule[nn.Linear])
        for layer in made:
            if isinstance(layer, nn.Linear):
                for name, parameter in list(layer.named_parameters()):
                    prior = Normal(torch.zeros_like(parameter), 1.0).to_event(parameter.ndim)
                    setattr(layer, name, PyroSample(prior))
        self.net = PyroModule[nn.Sequential](*made)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, y: Tensor | None = None, num_data: int | None = None) -> Tensor:
        logits = self.net(x)
        with pyro.plate("data", num_data or len(x), subsample_size=len(x)):
            pyro.sample("obs", Categorical(logits=logits), obs=y)
        return logits


def networks(cell: Cell, samples: dict[str, Tensor], sizes: tuple[int, int]) -> list[Net]:
    """A plain network for each draw."""
    count, found = len(next(iter(samples.values()))), []
    for i in range(count):
        net = nn.Sequential(*layers(cell, sizes))
        net.load_state_dict({name.removeprefix("net."): tensor[i].reshape_as(net.state_dict()[name.removeprefix("net.")])
                             for name, tensor in samples.items() if name.startswith("net.")})  # fmt: skip
        found.append(net)
    return found


def hmc(cell: Cell, x: Tensor, y: Tensor) -> list[Net]:
    settings = cell.inference
    pyro.clear_param_store()
    kernel = HMC(Bayesian(cell, (x[0].numel(), 10)), step_size=settings["step_size"], num_steps=settings["num_steps"],
                 adapt_step_size=False, adapt_mass_matrix=False)  # fmt: skip
    chain = MCMC(kernel, settings["num_samples"], settings["warmup"], disable_progbar=True)
    chain.run(x, y)
    return networks(cell, chain.get_samples(), (x[0].numel(), 10))


def svi(cell: Cell, x: Tensor, y: Tensor) -> list[Net]:
    settings = cell.inference
    pyro.clear_param_store()
    model = Bayesian(cell, (x[0].numel(), 10))
    guide = AutoDiagonalNormal(model, init_scale=0.01)
    engine = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": settings["lr"]}), TraceMeanField_ELBO())
    loader = DataLoader(TensorDataset(x, y), batch_size=settings["batch_size"], shuffle=True)
    for _ in range(settings["epochs"]):
        for inputs, labels in loader:
            engine.step(inputs, labels, len(x))
    sites = list(guide(x[:2], None))
    samples = Predictive(model, guide=guide, num_samples=settings["num_draws"], return_sites=sites)(x[:2])
    return networks(cell, {name: tensor.squeeze(1) if tensor.shape[1] == 1 and tensor.ndim > 2 else tensor
                           for name, tensor in samples.items()}, (x[0].numel(), 10))  # fmt: skip
