"""One network as a function of its weights and its inputs, chunk by chunk of draws, with input gradients in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from bayesrob.nets import Affine, Stack, Workspace, draws_forward, feature_major, sequence
from bayesrob.predictive.gradients import Pullback, autograd_vjp
from bayesrob.types import Weights

__all__ = ["Part", "WeightChunk", "WeightFunction"]


class WeightFunction:
    """One network as a function of weights and inputs: what its chunks of draws share.

    Args:
        net: the architecture.
    """

    def __init__(self, net: nn.Module):
        self.net, self.steps, self.stack = net, sequence(net), Stack.of(net)

    def chunks(self, parts: Iterable[Part], dtype: torch.dtype | None = None) -> Iterator[WeightChunk]:
        """Yield each of `parts` as a function. All use one workspace: a chunk is done before the next one is asked for.

        Args:
            parts: the weights of each chunk.
            dtype: precision of their `vjp`. None: the weights' own.
        """
        workspace = Workspace()
        for part in parts:
            yield WeightChunk(self, part, workspace, dtype)


class Part:
    """The weights of one chunk of draws, with the views of them that a stack's products take, made once.

    Args:
        weights: `[chunk, *shape]` by parameter name.
    """

    __slots__ = ("_bound", "num_draws", "weights")

    def __init__(self, weights: Weights):
        self.weights, self.num_draws = weights, len(next(iter(weights.values())))
        self._bound: tuple[torch.dtype | None, list[Affine | None]] | None = None

    def bound(self, stack: Stack, dtype: torch.dtype | None) -> list[Affine | None]:
        """Return the weights in `dtype` (None: their own); a single draw then has no axis, which is faster."""
        if self._bound is None or self._bound[0] != dtype:
            weights = self.weights if self.num_draws > 1 else {name: tensor[0] for name, tensor in self.weights.items()}
            if dtype is not None:
                weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
            self._bound = dtype, stack.bind(weights)
        return self._bound[1]


@dataclasses.dataclass(frozen=True)
class WeightChunk:
    """A chunk of draws of one network's weights as a function of the input.

    Args:
        function: the network.
        part: the weights.
        workspace: memory for the activations.
        dtype: precision of `vjp`. None: the weights' own.
    """

    function: WeightFunction
    part: Part
    workspace: Workspace
    dtype: torch.dtype | None = None

    @property
    def num_draws(self) -> int:
        """Number of draws in the chunk."""
        return self.part.num_draws

    @property
    def weights(self) -> Weights:
        """The weights of the chunk, `[chunk, *shape]` by parameter name."""
        return self.part.weights

    def __call__(self, x: Tensor, per_draw: bool = False) -> Tensor:
        return draws_forward(self.function.net, self.function.steps, self.weights, x, per_draw)

    def vjp(self, x: Tensor, per_draw: bool = False) -> tuple[Tensor, Pullback]:
        """See `DrawsFunction`: in closed form for stacks of linear layers, else by autograd."""
        stack = self.function.stack
        if stack is None or not stack.takes(x[0] if per_draw else x):
            return autograd_vjp(self, x, per_draw, self.dtype)
        single = self.num_draws == 1
        axis = int(per_draw and not single)  # of the points
        inputs = feature_major(x[0] if per_draw and single else x, axis)
        if self.dtype is not None:
            inputs = inputs.to(self.dtype)
        bound = self.part.bound(stack, self.dtype)
        outputs, activations = stack.forward(bound, inputs, self.workspace)

        def pullback(slope: Tensor, into: Tensor) -> None:
            major = (into[0] if per_draw and single else into).movedim(axis, -1)
            total = major.view(inputs.shape) if _viewable(major, axis) and inputs.dtype == into.dtype else None
            target = torch.zeros_like(inputs) if total is None else total
            down = (slope[0] if single else slope).to(inputs.dtype).mT
            stack.backward(bound, activations, down, self.workspace, inputs=target)
            if total is None:
                major.add_(target.view(major.shape))

        outputs = outputs.mT.to(x.dtype)
        return outputs[None] if single else outputs, pullback


def _viewable(major: Tensor, axis: int) -> bool:
    """Whether the axes between `axis` and the last are one in memory, so that sums can go there directly."""
    sizes, strides = major.shape[axis:-1], major.stride()[axis:-1]
    return all(strides[i] == sizes[i + 1] * strides[i + 1] for i in range(len(sizes) - 1))
