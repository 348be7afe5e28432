"""A recurrent classifier that reads an image as a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.errors import InputError, check_name
from bayesrob.nets.forward import looped
from bayesrob.nets.spec import describe, positive
from bayesrob.types import Weights

__all__ = ["LSTM", "lstm"]


def lstm(
    in_shape: Sequence[int],
    hidden: int,
    out_features: int,
    reads: Literal["pixels", "rows"] = "pixels",
    seed: int = 0,
) -> LSTM:
    """One layer of long short-term memory over an image's pixels or rows, and a linear layer on its last hidden state.

    Sequential MNIST (Le, Jaitly & Hinton 2015): 784 steps of one pixel, ten classes.

    Args:
        in_shape: `(channel, height, width)` of one image.
        hidden: units of the hidden state (130 on sequential MNIST in Liu & Sha's report).
        out_features: number of classes.
        reads: "pixels", height * width steps of `channel` features, row by row (the published task), or "rows", height
            steps of channel * width features: 28 times fewer steps on MNIST.
        seed: draws the initial weights (torch's default for `nn.LSTM` and `nn.Linear`).

    Returns:
        `LSTM`: `[batch, channel, height, width] -> [batch, out_features]`.

    Raises:
        InputError: a shape that is not (channel, height, width), a size below one.
        UnknownNameError: an unknown `reads`.

    Example:
        >>> br.nets.lstm((1, 8, 8), 16, 10, reads="rows")(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if len(in_shape) != 3:
        raise InputError(f"in_shape is {tuple(in_shape)}.", "The network reads images.", "Give (channel, height, width).")
    channels, _, width = (positive("in_shape", size) for size in in_shape)
    check_name("reads", reads, ["pixels", "rows"])
    features = channels if reads == "pixels" else channels * width
    with rng.global_seed(seed, "nets", "lstm"):
        net = LSTM(features, positive("hidden", hidden), positive("out_features", out_features), reads)
    describe(net, "lstm", in_shape=list(in_shape), hidden=hidden, out_features=out_features, reads=reads)
    return net


class LSTM(nn.Module):
    """The network that `lstm` builds: one layer of long short-term memory and a linear layer.

    Args:
        features: input components of one step.
        hidden: units of the hidden state.
        out_features: number of classes.
        reads: "pixels" or "rows": what a step is.
    """

    def __init__(self, features: int, hidden: int, out_features: int, reads: str):
        super().__init__()
        self.reads = reads
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, out_features)

    def forward(self, x: Tensor) -> Tensor:
        if self._lacks_backward(x):
            return self.batched({name: parameter[None] for name, parameter in self.named_parameters()}, x)[0]
        return self.head(self.lstm(self.sequences(x))[0][:, -1])

    def _lacks_backward(self, x: Tensor) -> bool:
        """Whether torch's own LSTM could not be differentiated here: cuDNN's has no backward pass in evaluation mode."""
        return x.is_cuda and not self.training

    def sequences(self, x: Tensor) -> Tensor:
        """Images `[*batch, channel, height, width]` as sequences `[*batch, time, feature]`.

        Raises:
            InputError: no images, or such as make steps of another number of features.
        """
        features = self.lstm.input_size
        made = 0 if x.ndim < 4 else x.shape[-3] * (1 if self.reads == "pixels" else x.shape[-1])
        if made != features:
            raise InputError(
                f"The LSTM got inputs of shape {tuple(x.shape)}.",
                f"It reads {self.reads} of images [batch, channel, height, width], {features} values a step.",
                "Pass images of the size that it was built for.",
            )
        return x.flatten(-2).mT if self.reads == "pixels" else x.movedim(-3, -2).flatten(-2)

    def draws_forward(self, weights: Weights, x: Tensor, per_draw: bool = False) -> Tensor:
        """Outputs `[draw, batch, out]`, as `nets.draws_forward` documents: `batched`, or on most CPU sizes `looped`.

        On a CPU torch's LSTM is one oneDNN call that reads the weights of one draw again and again from cache, which the
        batched recursion streams from memory at every step, with ten small operations a step beside it. It wins only where
        the call itself, some 200 microseconds a draw, is what takes the time. Milliseconds on one AMD core in float32,
        batched and looped, of a forward pass and of a forward pass with input gradient:

        | reads  | hidden | draws | batch |  forward    | with gradient |
        |--------|--------|-------|-------|-------------|---------------|
        | rows   |      8 |    50 |     1 |   1.0   9.4 |   3.2    20.8 |
        | rows   |     32 |    50 |     1 |   2.0   9.8 |   4.9    22.2 |
        | rows   |     32 |   500 |     1 |  15.8   105 |  31.9     256 |
        | rows   |     32 |    50 |    10 |   8.8  13.7 |  19.6    35.5 |
        | rows   |     32 |    10 |   100 |  16.3   9.0 |  33.0    46.5 |
        | rows   |    130 |    10 |     1 |   3.4   3.7 |   8.2     8.7 |
        | rows   |    130 |    50 |     1 |  40.6  18.6 |  67.9    41.1 |
        | rows   |    130 |    50 |   100 |   744   333 |  1406    1080 |
        | pixels |     32 |    50 |     1 |  55.9  28.5 |   160     106 |
        | pixels |    130 |    10 |     1 |   100  40.5 |   257    95.3 |
        | pixels |    130 |    50 |     1 |   193   177 |   469     479 |
        | pixels |    130 |     1 |   100 |   237   140 |   540     671 |
        """
        num_draws = len(weights["head.bias"])
        num_points, num_steps = self.sequences(x).shape[-3:-1]
        small = self.lstm.hidden_size <= 96 and num_points * self.lstm.hidden_size <= 400
        if x.device.type == "cpu" and not (small and num_steps <= 4 * num_draws):
            return looped(self, weights, x, per_draw)
        return self.batched(weights, x, per_draw)

    def batched(self, weights: Weights, x: Tensor, per_draw: bool = False) -> Tensor:
        """Outputs `[draw, batch, out]`, all draws in one product for each step.

        The inputs' part of all steps is one product ahead of the recursion. Gates are in torch's order: input, forget, cell,
        output.
        """
        w_in, w_hidden = weights["lstm.weight_ih_l0"], weights["lstm.weight_hh_l0"]
        bias = (weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]).unsqueeze(1)
        num_draws, size = len(w_in), self.lstm.hidden_size
        steps = self.sequences(x).transpose(-2, -3)  # [*draw, time, batch, feature]: a step's points side by side
        num_steps, num_points = steps.shape[-3:-1]
        inputs = steps.flatten(-3, -2)
        inputs = inputs if per_draw else inputs.expand(num_draws, *inputs.shape)
        driven = torch.baddbmm(bias, inputs, w_in.mT).view(num_draws, num_steps, num_points, 4 * size)
        h = c = driven.new_zeros(num_draws, num_points, size)
        for gates in driven.unbind(1):
            i, f, g, o = torch.baddbmm(gates, h, w_hidden.mT).split(size, -1)
            c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
            h = o.sigmoid() * c.tanh()
        return torch.baddbmm(weights["head.bias"].unsqueeze(1), h, weights["head.weight"].mT)

    def values_kept(self, x: Tensor) -> int:
        """Values kept of one point and draw: of each step four gates, the cell, its tanh and the hidden state."""
        return self.sequences(x).shape[-2] * 7 * self.lstm.hidden_size + self.head.out_features
