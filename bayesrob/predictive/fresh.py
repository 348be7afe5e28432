"""Draws made anew whenever they are needed: SVI, the stochastic delta rule, dropout."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bayesrob import rng
from bayesrob.errors import InputError
from bayesrob.numerics import slices
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.checks import check_num_draws
from bayesrob.predictive.held import HeldDraws, Part, WeightChunk, WeightFunction
from bayesrob.types import Weights

__all__ = ["FreshDraws"]


class FreshDraws(Predictive):
    """A distribution over weights that can be drawn from without end.

    Args:
        net: the architecture.
        num_draws: how many to draw when no number is given. 100: the Monte Carlo error of a probability is then at most
            0.05, and attacks average as many draws as the papers' experiments do.
        seed: of the predictive's own generator, which draws without a seed continue.
        common: see `Predictive`.
    """

    def __init__(self, net: nn.Module, num_draws: int = 100, seed: int = 0, **common: Any):
        super().__init__(net, **common)
        self._num_draws = check_num_draws(num_draws)
        self.seed = seed
        self._generator = rng.generator(seed, "fresh")
        self._function = WeightFunction(self.net)

    @abc.abstractmethod
    def sample(self, num_draws: int, generator: torch.Generator) -> Weights:
        """`num_draws` draws of the weights, `[draw, *shape]`, made one after the other.

        One after the other, because draws must not depend on how many are made at once.
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
        return self._num_draws if num_draws is None else check_num_draws(num_draws), seed

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> HeldDraws:
        num_draws, seed = self.resolve(num_draws, seed)
        weights = self.sample(num_draws, rng.generator(seed, "draws"))
        info = {**self.info, "frozen": {"num_draws": num_draws, "seed": seed}}
        return HeldDraws(self.net, weights, **{**self._common(), "info": info})

    def __getitem__(self, index: int | slice) -> FreshDraws:
        if not isinstance(index, slice) or index.start not in (None, 0) or index.step not in (None, 1):
            raise InputError(
                f"[{index}] of fresh draws.",
                "They have no order: only their number can be chosen.",
                "freeze() them first.",
            )
        fewer = copy.copy(self)
        fewer._modules = dict(self._modules)  # a shallow copy shares it, and .double() on one would convert the other
        fewer.net = copy.deepcopy(self.net)
        fewer._function = WeightFunction(fewer.net)
        fewer._num_draws = check_num_draws(self._num_draws if index.stop is None else index.stop)
        fewer._generator = rng.generator(self.seed, "fresh")
        return fewer
