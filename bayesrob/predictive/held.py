"""Draws that were made once: those of HMC, NUTS and ensembles, one trained network, or fresh draws frozen."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bayesrob.arguments import whole
from bayesrob.errors import InputError
from bayesrob.numerics import slices
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.checks import check_num_draws
from bayesrob.predictive.weight_function import Part, WeightChunk, WeightFunction
from bayesrob.types import Weights

__all__ = ["HeldDraws"]


class HeldDraws(Predictive):
    """Held draws of one network.

    Args:
        net: the architecture.
        weights: parameters (and buffers that differ between draws) by name, `[draw, *shape]`. Draws of several chains
            are interleaved (draw 0 of every chain, then draw 1, ...), so that the first `k * num_chains` draws are what
            a run of `k` samples a chain would have given.
        num_chains: number of chains that the draws come from; 1 for methods without chains.
        sample_stats: the sampler's record, arrays `[chain, draw]`. None: there is none.
        **common: as in `predictive.draws.Draws`.

    Raises:
        InputError: no draws, or weights that do not have the shapes of the network's parameters.

    Example:
        >>> weights = {name: weight.detach().expand(3, *weight.shape) for name, weight in net.named_parameters()}
        >>> same = br.predictive.HeldDraws(net, weights)
        >>> same.num_draws, same[:2].num_draws
        (3, 2)
    """

    kind = "held"

    def __init__(
        self,
        net: nn.Module,
        weights: Weights,
        num_chains: int = 1,
        sample_stats: dict[str, np.ndarray] | None = None,
        **common: Any,
    ):
        super().__init__(net, **common)
        counts = {len(tensor) for tensor in weights.values()}
        if len(counts) != 1 or 0 in counts:
            raise InputError(
                f"Weights with {sorted(counts)} draws.",
                "Every parameter needs the same number, one or more.",
                "Check them.",
            )
        shapes = {name: tuple(parameter.shape) for name, parameter in self.net.named_parameters()}
        held = {name: tuple(tensor.shape[1:]) for name, tensor in weights.items()}
        if any(held.get(name) != shape for name, shape in shapes.items()):
            raise InputError(
                f"Weights of shapes {held}.", f"The network has parameters {shapes}.", "Give each of them, [draw, *shape]."
            )
        # In the network's own order, not the dictionary's: a loaded posterior is the one that was saved.
        names = [*shapes, *sorted(weights.keys() - shapes)]
        self.weights = {name: weights[name].detach() for name in names}
        self.num_chains = whole("num_chains", num_chains, "It is the number of chains that the draws come from.")
        self.sample_stats = dict(sample_stats or {})
        if self.num_chains > 1 and self.origin == "unknown":  # who says how many chains says that there are some
            self.info["origin"] = "chain"
        self._function = WeightFunction(self.net)
        self._low: tuple[torch.dtype, Weights] | None = None
        self._cut: tuple[tuple[int, int], list[Tensor], list[Part]] | None = None

    @property
    def num_draws(self) -> int:
        return len(next(iter(self.weights.values())))

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[WeightChunk]:
        weights = self._rounded(dtype) if dtype is not None and self._function.stack is not None else self.weights
        return self._function.chunks(self._parts(weights, num_draws, size), dtype)

    def _parts(self, weights: Weights, num_draws: int, size: int) -> list[Part]:
        """The draws in parts of `size`, cached for the next step of an attack as long as the same tensors are held."""
        cut, sizes, tensors = self._cut, (num_draws, size), list(weights.values())
        if cut is None or cut[0] != sizes or not all(map(operator.is_, cut[1], tensors)):
            some = slices(num_draws, size)
            parts = [Part({name: tensor[one] for name, tensor in weights.items()}) for one in some]
            cut = self._cut = sizes, tensors, parts
        return cut[2]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made of the weights again: a copy would carry them several times."""
        return {**super().__getstate__(), "_low": None, "_cut": None}

    def _rounded(self, dtype: torch.dtype) -> Weights:
        """All draws rounded to `dtype`, cached for the next step of an attack."""
        if self._low is None or self._low[0] != dtype:
            self._low = dtype, {name: tensor.to(dtype) for name, tensor in self.weights.items()}
        return self._low[1]

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        return self.num_draws if num_draws is None else check_num_draws(num_draws, self.num_draws), 0

    def _batches(self, num_draws: int) -> int | None:
        # Fewer chains would leave an error of hardly any degrees of freedom.
        chains = bool(self.sample_stats) and self.num_chains >= 4 and num_draws >= 2 * self.num_chains
        return self.num_chains if chains else None

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> HeldDraws:
        return self[: self.resolve(num_draws, seed)[0]]

    def __getitem__(self, index: int | slice) -> HeldDraws:
        if isinstance(index, int):
            if not -self.num_draws <= index < self.num_draws:
                raise IndexError(f"Draw {index} of {self.num_draws}.")
            index = slice(index % self.num_draws, index % self.num_draws + 1)
        start, stop, step = index.indices(self.num_draws)
        if len(range(start, stop, step)) == 0:
            raise InputError(
                f"The slice {start}:{stop}:{step} of {self.num_draws} draws is empty.",
                "A prediction averages at least one.",
                "Widen the slice.",
            )
        # Tensors have no negative steps: reverse by index instead.
        where: Any = torch.arange(self.num_draws)[start:stop:step] if step > 0 else torch.tensor(range(start, stop, step))
        picked = {name: tensor[index] if step > 0 else tensor[where] for name, tensor in self.weights.items()}
        # A stretch that takes as many draws of every chain is chains still, with their record.
        chains = step == 1 and start % self.num_chains == 0 and stop % self.num_chains == 0
        samples = slice(start // self.num_chains, stop // self.num_chains)
        stats = {name: values[:, samples] for name, values in self.sample_stats.items()}
        part = HeldDraws(self.net, picked, self.num_chains if chains else 1, stats if chains else None, **self._common())
        part.memory = self.memory
        return part

    def example_weights(self) -> Weights:
        return {name: tensor[0] for name, tensor in self.weights.items()}

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"draws/{name}": tensor for name, tensor in self.weights.items()}
        tensors |= {f"stats/{name}": torch.from_numpy(np.ascontiguousarray(v)) for name, v in self.sample_stats.items()}
        tensors |= {f"buffers/{name}": t for name, t in self.net.named_buffers() if name not in self.weights}
        return tensors, {"num_chains": self.num_chains}

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> HeldDraws:
        groups = grouped(tensors, "draws", "stats", "buffers")
        net.load_state_dict(groups["buffers"], strict=False)
        stats = {name: tensor.numpy() for name, tensor in groups["stats"].items()}
        return cls(net, groups["draws"], values["num_chains"], stats, **common)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HeldDraws:
        """Move the draws along with the module: `.to(device)`, `.double()`."""
        super()._apply(fn, recurse)
        self.weights = {name: fn(tensor) for name, tensor in self.weights.items()}
        self._low = self._cut = None
        return self


def grouped(tensors: dict[str, Tensor], *groups: str) -> dict[str, dict[str, Tensor]]:
    """Tensors called `group/name`, by group and then name."""
    by_group: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        by_group[group][name] = tensor
    return by_group
