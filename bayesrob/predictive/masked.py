"""Weights multiplied by random masks, drawn anew: dropout and DropConnect as distributions over functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from bayesrob.arguments import number
from bayesrob.errors import InputError, check_name
from bayesrob.predictive.fresh import FreshDraws
from bayesrob.predictive.held import HeldDraws, grouped
from bayesrob.types import Real, Weights

__all__ = ["UNITS", "MaskedDraws", "Masks", "check_rate", "maskable"]

UNITS = ("weight", "input")
"""What one Bernoulli variable switches off: a single weight (DropConnect), or all weights of an input unit (dropout)."""


class MaskedDraws(FreshDraws):
    """w = loc * mask / (1 - p), masks Bernoulli(1 - p): mean loc, variance loc^2 p / (1 - p).

    unit="weight" is DropConnect (Wan et al. 2013): every masked weight on its own. unit="input" is dropout (Srivastava et
    al. 2014; Gal & Ghahramani 2016): one variable for each input unit of a layer, so that the layer sees its input with
    units dropped; dividing by 1 - p in training and prediction is torch's convention ("inverted dropout"). A draw is one
    function: the same mask for all points, all positions of an image and all time steps (for recurrent layers Gal &
    Ghahramani 2016b; their gates share it). Two layers that read the same activation drop units of it independently.

    Args:
        net: the architecture. Its own dropout layers stay off, its buffers (batch statistics) are as they are.
        loc: the weights without masks, by parameter name, `[*shape]`.
        p: probability that a weight or unit is dropped, in [0, 1).
        unit: "weight" or "input"; see `Masks` for the input units of each kind of layer.
        names: parameters that are masked, of `maskable(net)`; None: all of these. Others are constant.
        **draws: as in `FreshDraws`.

    Raises:
        InputError: p outside [0, 1), names that cannot be masked, weights that do not fit.
        UnknownNameError: a wrong unit.

    Example:
        >>> loc = {name: weight.detach() for name, weight in net.named_parameters()}
        >>> dropout = br.predictive.MaskedDraws(net, loc, p=0.5, num_draws=10)
        >>> dropout.logits(x).shape
        torch.Size([10, 5, 2])
    """

    kind = "masked"

    def __init__(
        self,
        net: nn.Module,
        loc: Weights,
        p: Real,
        unit: str = "input",
        names: Sequence[str] | None = None,
        **draws: Any,
    ):
        super().__init__(net, **draws)
        shapes = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
        given = {name: tuple(tensor.shape) for name, tensor in loc.items()}
        if given != shapes:
            raise InputError(
                f"loc of shapes {given}.", f"The network has parameters {shapes}.", "Give each of them, [*shape]."
            )
        self.loc: Weights = {name: loc[name].detach().contiguous() for name in shapes}  # in the network's own order
        self.masks = Masks.of(net, p, unit, names)

    def sample(self, num_draws: int, generator: torch.Generator) -> Weights:
        on = torch.stack([self.masks.draw(generator) for _ in range(num_draws)])
        draws = self.masks.apply(self.loc, on)
        return {name: draws[name].expand(num_draws, *tensor.shape).contiguous() for name, tensor in self.loc.items()}

    def means(self) -> HeldDraws:
        """Return the network without masks, one held draw: as dropout predicts at test time (Srivastava et al. 2014)."""
        return HeldDraws(self.net, {name: loc[None].clone() for name, loc in self.loc.items()}, **self._common())

    def example_weights(self) -> Weights:
        return self.loc

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"loc/{name}": tensor for name, tensor in self.loc.items()}
        tensors |= {f"buffers/{name}": tensor for name, tensor in self.net.named_buffers()}
        masks = {"p": self.masks.p, "unit": self.masks.unit, "names": list(self.masks.layouts)}
        return tensors, {**masks, "num_draws": self.num_draws, "seed": self.seed}

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> MaskedDraws:
        groups = grouped(tensors, "loc", "buffers")
        net.load_state_dict(groups["buffers"], strict=False)
        return cls(net, groups["loc"], **values, **common)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MaskedDraws:
        super()._apply(fn, recurse)
        self.loc = {name: fn(tensor) for name, tensor in self.loc.items()}
        return self


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one weight's mask is made of independent variables.

    Args:
        view: the shape that the variables are given, which broadcasts to the weight's.
        repeats: how often the first axis of the view is repeated.
    """

    view: tuple[int, ...]
    repeats: int = 1

    @property
    def size(self) -> int:
        """Number of independent variables."""
        return math.prod(self.view)

    def expand(self, variables: Tensor) -> Tensor:
        """Turn `[*draws, size]` into a mask that broadcasts to `[*draws, *shape]`."""
        mask = variables.unflatten(-1, self.view)
        return mask if self.repeats == 1 else mask.repeat_interleave(self.repeats, dim=-len(self.view))


@dataclasses.dataclass(frozen=True)
class Masks:
    """The masks of a network's weights, which training and prediction draw alike.

    With unit="input" a weight has one variable for each index of its input axis: a column of a linear or recurrent weight
    (`weight_ih`: features, `weight_hh`: hidden units), an input channel of a convolution, transposed or in groups alike, a
    row of an embedding (a word). Parameters of the users' own modules count as `[out, in, ...]`.

    Args:
        p: probability that a weight or unit is dropped.
        unit: "weight" or "input".
        layouts: by parameter name, how the mask is made.
    """

    p: Real
    unit: str
    layouts: dict[str, Layout]

    @classmethod
    def of(cls, net: nn.Module, p: Real, unit: str, names: Sequence[str] | None = None) -> Masks:
        """Return the masks of the parameters `names`.

        Args:
            net: the architecture.
            p: as in `MaskedDraws`.
            unit: as in `MaskedDraws`.
            names: as in `MaskedDraws`.

        Raises:
            InputError: as `MaskedDraws`.
        """
        p = check_rate(p)
        check_name("unit", unit, UNITS)
        known = maskable(net)
        names = list(known) if names is None else list(names)
        if not set(names) <= known.keys():
            raise InputError(
                f"Masks for {sorted(set(names) - known.keys())}.",
                "Weights of two axes and more are masked, biases and normalisation are not.",
                f"Choose of {list(known)}.",
            )
        return cls(p, unit, {name: known[name] if unit == "input" else _each(net, name) for name in known if name in names})

    @property
    def size(self) -> int:
        """Number of independent variables of one draw."""
        return sum(layout.size for layout in self.layouts.values())

    def draw(self, generator: torch.Generator) -> Bool[Tensor, " variable"]:
        """Draw the variables: True where a weight or unit stays on."""
        # Drawn on the CPU in float32 whatever the device and dtype: the same seed means the same draws everywhere.
        return torch.rand(self.size, generator=generator, dtype=torch.float32) >= self.p

    def apply(self, weights: Weights, on: Bool[Tensor, "*draws variable"]) -> dict[str, Tensor]:
        """Return `weights` `[*shape]` times their masks, `[*draws, *shape]`; those without a mask as they came.

        Args:
            weights: weights by parameter name.
            on: the variables, as `draw` gives them.
        """
        pieces = on.split([layout.size for layout in self.layouts.values()], dim=-1)
        masked = dict(weights)
        for (name, layout), piece in zip(self.layouts.items(), pieces, strict=True):
            masked[name] = weights[name] * layout.expand(piece.to(weights[name]) / (1 - self.p))
        return masked


def maskable(net: nn.Module) -> dict[str, Layout]:
    """Return the parameters that can be masked, those of two axes or more, in the network's order, with their input axis.

    Not the scales and shifts of layer normalisation, which may have several axes but are no connections of units.
    """
    layouts = {}
    for prefix, module in net.named_modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            continue
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if parameter.ndim >= 2:
                layouts[name] = _inputs(module, tuple(parameter.shape))
    return {name: layouts[name] for name, _ in net.named_parameters() if name in layouts}


def check_rate(p: object) -> float:
    """Return `p` as a `float` if it is a probability below one, else raise `InputError`."""
    return number("p", p, "It is the probability of being dropped, and something must be left.", least=0, below=1)


def _inputs(module: nn.Module, shape: tuple[int, ...]) -> Layout:
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    if transposed or isinstance(module, nn.Embedding | nn.EmbeddingBag):  # [in, ...]
        return Layout((shape[0], *(1 for _ in shape[1:])))
    groups = module.groups if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else 1
    # [out, in / groups, ...]: consecutive output channels of one group see the same inputs.
    return Layout((groups, shape[1], *(1 for _ in shape[2:])), 1 if groups == 1 else shape[0] // groups)


def _each(net: nn.Module, name: str) -> Layout:
    return Layout(tuple(net.get_parameter(name).shape))
