from __future__ import annotations

import dataclasses

import pytest
import torch

from bayesrob import data, nets, rng
from bayesrob.attacks import Attack
from bayesrob.data import Dataset
from bayesrob.inference import HMC
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import GaussianDraws, HeldDraws, Predictive, from_modules


@dataclasses.dataclass(frozen=True)
class Recording(Attack):
    """Moves every component up by `eps` (inside the bounds), and writes down how it was called and what it drew."""

    eps: float = 0.2

    def __post_init__(self):
        object.__setattr__(self, "calls", [])

    def run(self, predictive, x, y, seed=0):
        self.calls.append((x.clone(), y.clone(), seed))
        return super().run(predictive, x, y, seed)

    def perturb(self, victim, x, generator):
        return (x + self.eps).clamp(*victim.bounds)


@dataclasses.dataclass(frozen=True)
class NeverRun(Attack):
    """An attack that must not be called."""

    def run(self, predictive, x, y, seed=0):
        pytest.fail("an attack ran before the inputs were checked")

    def perturb(self, victim, x, generator):
        raise AssertionError


@pytest.fixture
def recording():
    return Recording


@pytest.fixture
def never_run():
    return NeverRun()


@pytest.fixture(scope="session")
def moons() -> Dataset:
    return data.load("half_moons", n_train=60, n_test=90, seed=0)


@pytest.fixture(scope="session")
def model() -> BayesianNetwork:
    return BayesianNetwork(nets.mlp(2, (6,), 2, activation="tanh"))


@pytest.fixture(scope="session")
def chains(moons, model) -> HeldDraws:
    """Three chains of eight draws that all differ."""
    return HMC(num_samples=8, warmup=20, step_size=0.05, num_steps=5, num_chains=3).fit(model, moons, seed=0)


@pytest.fixture
def fresh(model, moons) -> GaussianDraws:
    """Weights so uncertain that every new set of draws predicts something else."""
    g = rng.generator(0, "fresh")
    loc = 2 * torch.randn(model.num_weights, generator=g)
    common = {"bounds": moons.bounds, "input_shape": moons.shape, "out_features": 2, "info": {"method": "test"}}
    return GaussianDraws(model.net, model.unflatten(loc), model.unflatten(torch.full_like(loc, 0.5)), num_draws=6, **common)


@pytest.fixture
def one_draw(chains) -> HeldDraws:
    return chains[0]


@pytest.fixture(params=["chains", "fresh", "one_draw"])
def predictive(request) -> Predictive:
    return request.getfixturevalue(request.param)


SIZES = {"chains": [1, 4, 12, 20], "fresh": [1, 4, 20], "modules": [1, 3]}


@pytest.fixture(params=SIZES)
def case(request) -> tuple[Predictive, list[int], int | None]:
    """A predictive, prefixes (the last of the three chains' is no multiple of three), and its number of chains."""
    if request.param == "modules":
        torch.manual_seed(0)
        wide, deep = nets.mlp(2, (5,), 2, activation="tanh", seed=0), nets.mlp(2, (3, 3), 2, activation="tanh", seed=1)
        modules = [net.eval() for net in (wide, deep, nets.mlp(2, (4,), 2, seed=2))]
        return from_modules(modules, bounds=(0, 1)), SIZES["modules"], None
    return request.getfixturevalue(request.param), SIZES[request.param], 3 if request.param == "chains" else None
