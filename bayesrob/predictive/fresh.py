"""Draws made anew whenever they are needed: SVI, the stochastic delta rule, dropout."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bayesrob import rng
from bayesrob.numerics import slices
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.checks import check_num_draws, check_prefix
from bayesrob.predictive.held import HeldDraws
from bayesrob.predictive.weight_function import Part, WeightChunk, WeightFunction
from bayesrob.types import Weights

__all__ = ["FreshDraws"]


class FreshDraws(Predictive):
    """A distribution over weights that can be drawn from without end.

    Args:
        net: the architecture.
        num_draws: number of draws where none is given. 100: the Monte Carlo standard error of a probability is then at most
            0.05, and attacks average as many draws as the papers' experiments do.
        seed: seed of the predictive's own generator, which draws without a seed continue.
        **common: as in `predictive.draws.Draws`.
    """

    def __init__(self, net: nn.Module, num_draws: int = 100, seed: int = 0, **common: Any):
        super().__init__(net, **common)
        self._num_draws = check_num_draws(num_draws)
        self._generator = rng.generator(seed, "fresh")
        self.seed = int(seed)
        self._function = WeightFunction(self.net)

    @abc.abstractmethod
    def sample(self, num_draws: int, generator: torch.Generator) -> Weights:
        """Return draws of the weights, `[draw, *shape]`, made one after the other.

        One after the other, because draws must not depend on how many are made at once.

        Args:
            num_draws: number of draws.
            generator: on the CPU, where the random numbers come from.
        """

    @property
    def num_draws(self) -> int:
        return self._num_draws

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[WeightChunk]:
        generator = rng.generator(seed, "draws")
        sizes = (part.stop - part.start for part in slices(num_draws, size))
        return self._function.chunks((Part(self.sample(count, generator)) for count in sizes), dtype)

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        if seed is None:
            seed = int(torch.randint(2**62, (), generator=self._generator))
        return self._num_draws if num_draws is None else check_num_draws(num_draws), int(seed)

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> HeldDraws:
        num_draws, seed = self.resolve(num_draws, seed)
        weights = self.sample(num_draws, rng.generator(seed, "draws"))
        info = {**self.info, "frozen": {"num_draws": num_draws, "seed": seed}}
        return HeldDraws(self.net, weights, **{**self._common(), "info": info})

    def __getitem__(self, index: int | slice) -> FreshDraws:
        num_draws = check_prefix(index, self._num_draws)
        fewer = copy.copy(self)
        fewer._modules = dict(self._modules)  # a shallow copy shares it, and .double() on one would convert the other
        fewer.net = copy.deepcopy(self.net)
        fewer._function = WeightFunction(fewer.net)
        fewer._num_draws = num_draws
        fewer._generator = rng.generator(self.seed, "fresh")
        return fewer
