"""Normal weights, drawn anew: the posteriors of variational inference."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesrob.errors import InputError
from bayesrob.predictive.fresh import FreshDraws
from bayesrob.predictive.held import HeldDraws, grouped
from bayesrob.types import Weights

__all__ = ["GaussianDraws", "LowRankGaussianDraws", "NormalDraws"]


class NormalDraws(FreshDraws):
    """Normal weights with means and standard deviations of their own, and whatever else a subclass adds.

    Args:
        net: the architecture.
        parts: for each name of the class's `parts`, tensors by parameter name.
        **draws: as in `FreshDraws`.

    Raises:
        InputError: a part that does not have the shapes of the network's parameters.
    """

    parts: ClassVar[dict[str, int]]
    """Attributes that the distribution consists of, each a dictionary by parameter name, with the number of leading axes
    that its tensors have before the parameter's own."""

    loc: Weights
    scale: Weights

    def __init__(self, net: nn.Module, parts: dict[str, Weights], **draws: Any):
        super().__init__(net, **draws)
        shapes = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
        for part, tensors in parts.items():
            given, axes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}, self.parts[part]
            leads = {shape[:axes] for shape in given.values()}
            fits = all(given.get(name, ())[axes:] == shape and name in given for name, shape in shapes.items())
            if not fits or len(leads) != 1 or (0,) in leads:
                raise InputError(
                    f"{part} of shapes {given}.",
                    f"The network has parameters {shapes}.",
                    f"Give each of them, {'[rank, *shape]' if axes else '[*shape]'}.",
                )
            # In the network's own order, and contiguous, whatever they came as: a seed's draws must be the same, to the last
            # bit, after loading.
            setattr(self, part, {name: tensors[name].detach().contiguous() for name in shapes})

    @abc.abstractmethod
    def sample(self, num_draws: int, generator: torch.Generator) -> Weights: ...

    @abc.abstractmethod
    def log_density(self, weights: Weights) -> Float[Tensor, " draw"]:
        """The logarithm of the density at each of several weights by parameter name, `[draw, *shape]`; float64."""

    def _standardised(self, weights: Weights) -> tuple[Float[Tensor, "draw weight"], Float[Tensor, ""]]:
        """(w - loc) / scale, and the log density of independent weights where that is zero; float64."""
        apart = [
            ((weights[name].double() - loc.double()) / self.scale[name].double()).flatten(1)
            for name, loc in self.loc.items()
        ]
        logs = torch.stack([scale.double().log().sum() for scale in self.scale.values()]).sum()
        return torch.cat(apart, 1), -logs - 0.5 * math.log(2 * math.pi) * self.num_weights

    @property
    def num_weights(self) -> int:
        """Number of weights of one draw."""
        return sum(tensor.numel() for tensor in self.loc.values())

    def independent(self, noise: Float[Tensor, "draw weight"]) -> dict[str, Tensor]:
        """Return loc + scale * noise by parameter name, `[draw, *shape]`."""
        pieces = noise.split([tensor.numel() for tensor in self.loc.values()], dim=-1)
        return {
            name: torch.addcmul(loc, self.scale[name], piece.reshape(len(noise), *loc.shape))
            for (name, loc), piece in zip(self.loc.items(), pieces, strict=True)
        }

    def means(self) -> HeldDraws:
        """Return the network at the means, one held draw: how the stochastic delta rule predicts at test time."""
        return HeldDraws(self.net, {name: loc[None].clone() for name, loc in self.loc.items()}, **self._common())

    def example_weights(self) -> Weights:
        return self.loc

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"{part}/{name}": tensor for part in self.parts for name, tensor in getattr(self, part).items()}
        tensors |= {f"buffers/{name}": tensor for name, tensor in self.net.named_buffers()}
        return tensors, {"num_draws": self.num_draws, "seed": self.seed}

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> NormalDraws:
        groups = grouped(tensors, *cls.parts, "buffers")
        net.load_state_dict(groups["buffers"], strict=False)
        parts: dict[str, Any] = {part: groups[part] for part in cls.parts}
        return cls(net, **parts, num_draws=values["num_draws"], seed=values["seed"], **common)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NormalDraws:
        super()._apply(fn, recurse)
        for part in self.parts:
            setattr(self, part, {name: fn(tensor) for name, tensor in getattr(self, part).items()})
        return self


class GaussianDraws(NormalDraws):
    """Independent normal weights: the mean-field posterior of variational inference.

    Args:
        net: the architecture.
        loc: means by parameter name, `[*shape]`.
        scale: standard deviations by parameter name, `[*shape]`.
        **draws: as in `FreshDraws`.

    Example:
        >>> loc = {name: weight.detach() for name, weight in net.named_parameters()}
        >>> scale = {name: 0.1 * weight.abs() for name, weight in loc.items()}
        >>> normal = br.predictive.GaussianDraws(net, loc, scale, num_draws=10)
        >>> normal.logits(x).shape, normal.freeze(4).num_draws
        (torch.Size([10, 5, 2]), 4)
    """

    kind = "gaussian"
    parts: ClassVar[dict[str, int]] = {"loc": 0, "scale": 0}

    def __init__(self, net: nn.Module, loc: Weights, scale: Weights, **draws: Any):
        super().__init__(net, {"loc": loc, "scale": scale}, **draws)

    def sample(self, num_draws: int, generator: torch.Generator) -> Weights:
        noise = torch.stack([_normal(self.num_weights, generator) for _ in range(num_draws)])
        return self.independent(noise.to(next(iter(self.loc.values()))))

    def log_density(self, weights: Weights) -> Float[Tensor, " draw"]:
        apart, at_centre = self._standardised(weights)
        return at_centre - 0.5 * apart.square().sum(1)


class LowRankGaussianDraws(NormalDraws):
    """Normal weights with covariance diag(scale^2) + F F': w = loc + scale * noise + F z with z `[rank]` for all weights.

    The posterior of variational inference with a low-rank guide (Ong, Nott & Smith 2018; Miller, Foti & Adams 2017).

    Args:
        net: the architecture.
        loc: means by parameter name, `[*shape]`.
        scale: standard deviations of each weight's own noise by parameter name, `[*shape]`.
        factor: F', rows of the factor by parameter name, `[rank, *shape]`.
        **draws: as in `FreshDraws`.

    Example:
        >>> loc = {name: weight.detach() for name, weight in net.named_parameters()}
        >>> factor = {name: 0.1 * weight.expand(2, *weight.shape) for name, weight in loc.items()}
        >>> normal = br.predictive.LowRankGaussianDraws(net, loc, scale=loc, factor=factor)
        >>> normal.rank, normal.logits(x, num_draws=4).shape
        (2, torch.Size([4, 5, 2]))
    """

    kind = "low_rank_gaussian"
    parts: ClassVar[dict[str, int]] = {"loc": 0, "scale": 0, "factor": 1}
    factor: Weights

    def __init__(self, net: nn.Module, loc: Weights, scale: Weights, factor: Weights, **draws: Any):
        super().__init__(net, {"loc": loc, "scale": scale, "factor": factor}, **draws)

    @property
    def rank(self) -> int:
        """Number of columns of F."""
        return len(next(iter(self.factor.values())))

    def sample(self, num_draws: int, generator: torch.Generator) -> Weights:
        like = next(iter(self.loc.values()))
        own, shared = [], []
        for _ in range(num_draws):
            own.append(_normal(self.num_weights, generator))
            shared.append(_normal(self.rank, generator).to(like))
        weights = self.independent(torch.stack(own).to(like))
        for name, factor in self.factor.items():
            # One product a draw: a product for all at once rounds differently for another number of draws.
            weights[name] += torch.stack([torch.tensordot(z, factor, 1) for z in shared])
        return weights

    def log_density(self, weights: Weights) -> Float[Tensor, " draw"]:
        """By A = diag(scale)^-1 F: the determinant |I + A'A| and the quadratic form d'd - (A'd)' (I + A'A)^-1 A'd."""
        apart, at_centre = self._standardised(weights)
        columns = [(self.factor[name].double() / self.scale[name].double()).flatten(1) for name in self.loc]
        ratio = torch.cat(columns, 1)  # A'
        gram = torch.eye(self.rank, dtype=torch.float64, device=ratio.device) + ratio @ ratio.T
        along = apart @ ratio.T
        shared = (along * torch.linalg.solve(gram, along.T).T).sum(1)
        return at_centre - 0.5 * (torch.linalg.slogdet(gram).logabsdet + apart.square().sum(1) - shared)


def _normal(size: int, generator: torch.Generator) -> Float[Tensor, " size"]:
    # Drawn on the CPU in float32 whatever the device and dtype: the same seed means the same draws everywhere.
    return torch.randn(size, generator=generator, dtype=torch.float32)
