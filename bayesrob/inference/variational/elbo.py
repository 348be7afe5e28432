"""Estimators of E_q log p(y | w) under independent normal weights q, by one draw and with gradients in closed form."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models import Data, FlatNetwork, LikelihoodGradient
from bayesrob.nets import Stack, Workspace, activate, feature_major, through_activation
from bayesrob.types import Batch, Labels

__all__ = ["Estimator", "LocalReparameterisation", "Noise", "SharedDraw", "WithGradient"]

Noise = Callable[[torch.Size], Tensor]
"""Draws standard normals of a shape."""


class Estimator(abc.ABC):
    """A way to estimate the likelihood's part of the evidence lower bound."""

    @abc.abstractmethod
    def data(self, x: Batch, y: Labels) -> Any:
        """Points in the form that `value_and_gradients` takes; valid until other points are prepared."""

    @abc.abstractmethod
    def split(self, x: Batch, y: Labels, sizes: list[int]) -> Iterator[Any]:
        """Yields the `data` of minibatches of these sizes, which are prepared in one go."""

    @abc.abstractmethod
    def value_and_gradients(
        self, loc: Float[Tensor, " weight"], scale: Float[Tensor, " weight"], data: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-log p(y | w) / batch, a float64 scalar, and its derivatives by means and *log* standard deviations.

        The memory of the derivatives is reused by the next call.
        """


class WithGradient(torch.autograd.Function):
    """A loss whose derivatives were computed along with it, as one operation of autograd's graph.

    `WithGradient.apply(compute, *tensors)`, where `compute(*tensors)` returns the loss and its derivative by each tensor.
    """

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> Tensor:
        value, *ctx.gradients = compute(*tensors)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        outer = gradients[0]
        if not (outer.is_cpu and float(outer) == 1.0):  # as it is for `loss.backward()`, where a pass can be saved
            for gradient in ctx.gradients:
                gradient.mul_(outer.to(gradient))
        return (None, *ctx.gradients)


class SharedDraw(Estimator):
    """One draw w = loc + scale * noise for the whole batch (Graves 2011, Blundell et al. 2015); any network.

    Args:
        model: the network and its likelihood.
        example: points, of which the shape counts.
        normal: draws the noise.
    """

    def __init__(self, model: FlatNetwork, example: Batch, normal: Noise):
        self._likelihood, self.normal = LikelihoodGradient(model, (model.num_weights,), example), normal

    def data(self, x: Batch, y: Labels) -> Data:
        return self._likelihood.data(x, y)

    def split(self, x: Batch, y: Labels, sizes: list[int]) -> Iterator[Data]:
        return self._likelihood.split(x, y, sizes)

    def value_and_gradients(self, loc: Tensor, scale: Tensor, data: Data) -> tuple[Tensor, Tensor, Tensor]:
        likelihood, count = self._likelihood, len(data.y)
        deviation = scale * self.normal(loc.shape)
        likelihood.load(loc + deviation)
        total = likelihood(data)
        assert total is not None
        by_loc = likelihood.gradient().mul_(-1 / count)
        return total / -count, by_loc, deviation.mul_(by_loc)


class Squared(NamedTuple):
    """Points `[feature, point]` with their squares, which do not depend on the draw."""

    x: Tensor
    squares: Tensor
    y: Labels
    code: Tensor


class LocalReparameterisation(Estimator):
    """Every point's pre-activations are drawn directly (Kingma, Salimans & Welling 2015, equation 6): less noise a step.

    With inputs h, those of a linear layer are N(h loc' + b_loc, h^2 scale^2' + b_scale^2), independent over units and
    points.

    Args:
        model: a network whose layers `nets.Stack` knows, and its likelihood.
        stack: these layers.
        normal: draws the noise.
        loc: the means, if they are always the same tensor: then they are not copied.
    """

    def __init__(self, model: FlatNetwork, stack: Stack, normal: Noise, loc: Tensor | None = None):
        self._likelihood, self._stack, self._normal = model.likelihood, stack, normal
        self._means = model.empty() if loc is None else loc.detach()
        self._mean_gradient, self._variances, self._variance_gradient = (model.empty() for _ in range(3))
        flats = (self._means, self._variances, self._mean_gradient, self._variance_gradient)
        self._bound = [stack.bind(model.unflatten(flat)) for flat in flats]
        self._first = next(i for i, mean in enumerate(self._bound[0]) if mean is not None)
        self._workspace = Workspace()

    def data(self, x: Batch, y: Labels) -> Squared:
        points = feature_major(x)
        rows = points.mT
        squares = torch.mul(rows, rows, out=self._workspace.take("squares", rows.shape, rows)).mT
        return Squared(points, squares, y, self._likelihood.encode(y, self._stack.out_features, self._means))

    def split(self, x: Batch, y: Labels, sizes: list[int]) -> Iterator[Squared]:
        whole = self.data(x, y)
        parts = (whole.x.split(sizes, -1), whole.squares.split(sizes, -1), y.split(sizes), whole.code.split(sizes))
        yield from (Squared(*part) for part in zip(*parts, strict=True))

    def value_and_gradients(self, loc: Tensor, scale: Tensor, data: Squared) -> tuple[Tensor, Tensor, Tensor]:
        outputs, saved = self.outputs(loc, scale, data)
        total, score = self._likelihood.total_and_score(outputs, data.y, data.code)
        count = len(data.y)
        self._backward(saved, score.mT.mul_(-1 / count))
        # By the variance times 2 variance; the 2 is in the former.
        return total / -count, self._mean_gradient, self._variance_gradient.mul_(self._variances)

    def outputs(self, loc: Float[Tensor, " weight"], scale: Float[Tensor, " weight"], data: Squared) -> tuple[Tensor, list]:
        """Outputs `[batch, out]`, where each point has a draw of its own, and what the gradients need."""
        if loc.data_ptr() != self._means.data_ptr():
            self._means.copy_(loc)
        torch.mul(scale, scale, out=self._variances)
        saved: list[Any] = []
        h, fresh = data.x, False
        for i, (_, layer) in enumerate(self._stack.layers):
            mean, spread = self._bound[0][i], self._bound[1][i]
            if mean is None or spread is None:
                h, keep = activate(layer, h, fresh)
                saved.append(keep)
                fresh = False
                continue
            squares = data.squares if i == 0 else torch.mul(h, h, out=self._workspace.take((i, "squares"), h.shape, h))
            shape = mean.shape(h)
            # Inputs of zeros without a bias have no variance, where the square root has no derivative.
            deviation = spread(squares, self._workspace.take((i, "spread"), shape, h)).clamp_(min=1e-30).sqrt_()
            noise = self._normal(torch.Size(shape))
            saved.append((h, squares, noise, deviation))
            h = mean(h, self._workspace.take((i, "h"), shape, h)).addcmul_(noise, deviation)
            fresh = True
        return h.mT, saved

    def _backward(self, saved: list[Any], d: Tensor) -> None:
        """Write the derivatives by the means, and twice those by the variances, into their flat gradients.

        Args:
            saved: what `outputs` returned for the gradients.
            d: derivative by the outputs.
        """
        means, spreads, into_means, into_spreads = self._bound
        for i in reversed(range(len(saved))):
            mean, spread = means[i], spreads[i]
            if mean is None or spread is None:
                d = through_activation(self._stack.layers[i][1], saved[i], d)
                continue
            h, squares, noise, deviation = saved[i]
            by_variance = noise.mul_(d).div_(deviation)
            mean.gradients(d, h, into_means[i], accumulate=False)
            spread.gradients(by_variance, squares, into_spreads[i], accumulate=False)
            if i == self._first:
                return
            by_squares = spread.transposed(by_variance, 2, self._workspace.take((i, "by squares"), h.shape, h), beta=0)
            d = mean.transposed(d, 2, self._workspace.take((i, "d"), h.shape, h), beta=0)
            d.addcmul_(h, by_squares)
