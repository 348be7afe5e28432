"""The floor: the same matrix products written out by hand for one kind of network, with nothing around them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["HandHMC", "HandNetwork", "hand_pgd", "leaky_relu_backward", "plain_training"]

leaky_relu_backward = torch.ops.aten.leaky_relu_backward


class HandNetwork:
    """A leaky-ReLU network over one flat weight vector: forward and backward without autograd."""

    def __init__(self, sizes: Sequence[int]):
        self.shapes = [shape for a, b in itertools.pairwise(sizes) for shape in ((b, a), (b,))]
        self.sizes = [torch.Size(shape).numel() for shape in self.shapes]

    def pieces(self, theta: Tensor) -> list[Tensor]:
        """W_1, b_1, W_2, ... as views."""
        return [piece.view(shape) for piece, shape in zip(theta.split(self.sizes), self.shapes, strict=True)]

    def gradient(self, theta: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The log likelihood of all points and its gradient; `target` is one-hot."""
        p = self.pieces(theta)
        layers = len(p) // 2
        h, kept = x, [x]
        for i in range(layers):
            h = torch.addmm(p[2 * i + 1], h, p[2 * i].T)
            if i < layers - 1:
                h = torch.nn.functional.leaky_relu_(h)
                kept.append(h)
        log_p = h.log_softmax(1)
        value = (log_p * target).sum()
        d = target - log_p.exp_()
        gradient = torch.empty_like(theta)
        g = self.pieces(gradient)
        for i in reversed(range(layers)):
            torch.mm(d.T, kept[i], out=g[2 * i])
            torch.sum(d, 0, out=g[2 * i + 1])
            if i:
                d = leaky_relu_backward(d @ p[2 * i], kept[i], 0.01, True)
        return value, gradient


class HandHMC:
    """HMC of that network with normal priors of these scales: leapfrog on `HandNetwork`'s gradient."""

    def __init__(self, sizes: Sequence[int], x: Tensor, y: Tensor, prior_scales: Tensor):
        self.net, self.precision = HandNetwork(sizes), prior_scales.square().reciprocal()
        self.x, self.target = x, torch.nn.functional.one_hot(y, sizes[-1]).to(x)

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The log likelihood, and the gradient of the log joint."""
        value, gradient = self.net.gradient(theta, self.x, self.target)
        return value, gradient.addcmul_(theta, self.precision, value=-1)

    @torch.no_grad()
    def run(self, theta: Tensor, samples: int, num_steps: int, step: float) -> Tensor:
        """`[samples, weight]` draws."""
        draws = torch.empty(samples, len(theta))
        value, gradient = self.gradient(theta)
        value = value - 0.5 * theta @ (self.precision * theta)
        for s in range(samples):
            p = torch.randn_like(theta)
            energy = 0.5 * p @ p - value
            q, p = theta.clone(), torch.add(p, gradient, alpha=0.5 * step)
            new_value, new_gradient = value, gradient
            for i in range(num_steps):
                q.add_(p, alpha=step)
                new_value, new_gradient = self.gradient(q)
                p.add_(new_gradient, alpha=step if i < num_steps - 1 else 0.5 * step)
            new_value = new_value - 0.5 * q @ (self.precision * q)
            if torch.rand(()) < (energy - 0.5 * p @ p + new_value).exp():
                theta, value, gradient = q, new_value, new_gradient
            draws[s] = theta
        return draws


@torch.no_grad()
def hand_pgd(weights: Sequence[Tensor], x: Tensor, y: Tensor, eps: float, steps: int, chunk: int) -> Tensor:
    """Averaged l_inf PGD on draws of a leaky-ReLU network; `weights` are W_1 [draw, out, in], b_1 [draw, out], W_2 ..."""
    num_draws, layers = len(weights[0]), len(weights) // 2
    target = torch.nn.functional.one_hot(y, weights[-1].shape[-1]).to(x)
    z, step = x, 2.5 * eps / steps
    for _ in range(steps):
        total = torch.zeros_like(x)
        for start in range(0, num_draws, chunk):
            w = [tensor[start : start + chunk] for tensor in weights]
            h, kept = z.expand(len(w[0]), *z.shape), []
            for i in range(layers):
                h = torch.baddbmm(w[2 * i + 1].unsqueeze(1), h, w[2 * i].mT)
                if i < layers - 1:
                    h = torch.nn.functional.leaky_relu_(h)
                    kept.append(h)
            d = h.softmax(-1).sub_(target)
            for i in reversed(range(layers)):
                d = torch.bmm(d, w[2 * i])
                if i:
                    d = leaky_relu_backward(d, kept[i - 1], 0.01, True)
            total += d.sum(0)
        z = torch.clamp(z + step * total.sign(), x - eps, x + eps).clamp_(0, 1)
    return z


def plain_training(
    net: Callable[[int], nn.Module], x: Tensor, y: Tensor, epochs: int, models: int, fused: bool = True
) -> list[float]:
    """The loop that everybody writes, Adam at 0.001 and batches of 128, one network after the other; their last losses."""
    losses = []
    for model in range(models):
        module = net(model)
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=fused)
        generator, loss = torch.Generator().manual_seed(model), torch.zeros(())
        for _ in range(epochs):
            for index in torch.randperm(len(x), generator=generator).split(128):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(x[index]), y[index])
                loss.backward()
                optimizer.step()
        losses.append(float(loss.detach()))
    return losses
