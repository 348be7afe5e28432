"""The floor of SVI: a step of mean-field variational inference written out for a leaky-ReLU network with N(0, 1) priors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from by_hand import HandNetwork, leaky_relu_backward
from torch import Tensor

__all__ = ["HandSVI"]


class HandSVI:
    """-ELBO / N of a mini-batch and its gradient, by one draw of the weights or by local reparameterisation, and Adam.

    Args:
        sizes: of the network. x, y: all the data. start: the means' start. scale: the standard deviations'.
        local: draw activations, not weights. manual: the gradient written out, not autograd's.
    """

    def __init__(self, sizes: Sequence[int], x: Tensor, y: Tensor, start: Tensor, scale: float, local: bool, manual: bool):
        self.net, self.x, self.num = HandNetwork(sizes), x, len(x)
        self.target = torch.nn.functional.one_hot(y, sizes[-1]).to(x)
        self.start, self.scale, self.sizes = start, scale, sizes
        self.value = (self.local if local else self.shared) if not manual else None
        self.manual = self.local_manual if local else self.shared_manual
        self.is_local = local

    def run(self, steps: int, batch: int) -> Tensor:
        """The losses of the steps, `[step]`."""
        loc, log_scale = self.start.clone(), torch.full_like(self.start, self.scale).log()
        autograd = self.value is not None
        for leaf in (loc, log_scale):
            leaf.requires_grad_(autograd)
        optimizer = torch.optim.Adam([loc, log_scale], lr=0.01, betas=(0.9, 0.99), fused=True)
        losses = torch.empty(steps)
        order, position = torch.randperm(self.num), 0
        for step in range(steps):
            if position + batch > self.num:
                order, position = torch.randperm(self.num), 0
            which = order[position : position + batch]
            position += batch
            x, target = self.x[which], self.target[which]
            loss, loc.grad, log_scale.grad = self.gradient(loc, log_scale, x, target, self.noise(len(x)))
            losses[step] = loss
            optimizer.step()
        return losses

    def noise(self, batch: int) -> list[Tensor]:
        if not self.is_local:
            return [torch.randn(len(self.start))]
        return [torch.randn(batch, size) for size in self.sizes[1:]]

    def gradient(self, loc: Tensor, log_scale: Tensor, x: Tensor, target: Tensor, noise: list[Tensor]) -> tuple[Tensor, ...]:
        """-ELBO / N and its derivatives by `loc` and `log_scale`."""
        if self.value is None:
            with torch.no_grad():
                return self.manual(loc, log_scale, x, target, noise)
        kl = 0.5 * ((2 * log_scale).exp() + loc.square() - 1).sum() - log_scale.sum()
        loss = self.value(loc, log_scale, x, target, noise) + kl / self.num
        return loss.detach(), *torch.autograd.grad(loss, (loc, log_scale))

    # ---- autograd: the negative log likelihood per point --------------------------------------------------------------

    def shared(self, loc: Tensor, log_scale: Tensor, x: Tensor, target: Tensor, noise: list[Tensor]) -> Tensor:
        p = self.net.pieces(torch.addcmul(loc, log_scale.exp(), noise[0]))
        for i in range(0, len(p), 2):
            x = torch.nn.functional.linear(x if i == 0 else torch.nn.functional.leaky_relu_(x), p[i], p[i + 1])
        return torch.nn.functional.cross_entropy(x, target)

    def local(self, loc: Tensor, log_scale: Tensor, x: Tensor, target: Tensor, noise: list[Tensor]) -> Tensor:
        p, v = self.net.pieces(loc), self.net.pieces((2 * log_scale).exp())
        for i, z in enumerate(noise):
            x = x if i == 0 else torch.nn.functional.leaky_relu_(x)
            mean = torch.nn.functional.linear(x, p[2 * i], p[2 * i + 1])
            variance = torch.nn.functional.linear(x.square(), v[2 * i], v[2 * i + 1])
            x = torch.addcmul(mean, variance.sqrt(), z)
        return torch.nn.functional.cross_entropy(x, target)

    # ---- the same written out ------------------------------------------------------------------------------------------

    def shared_manual(
        self, loc: Tensor, log_scale: Tensor, x: Tensor, target: Tensor, noise: list[Tensor]
    ) -> tuple[Tensor, ...]:
        scale = log_scale.exp()
        value, gradient = self.net.gradient(torch.addcmul(loc, scale, noise[0]), x, target)
        d_loc = gradient.mul_(-1 / len(x))
        d_scale = (d_loc * noise[0]).mul_(scale)
        return self.add_kl(-value / len(x), d_loc, d_scale, loc, log_scale, scale.square_())

    def local_manual(
        self, loc: Tensor, log_scale: Tensor, x: Tensor, target: Tensor, noise: list[Tensor]
    ) -> tuple[Tensor, ...]:
        variances = (2 * log_scale).exp()
        p, v = self.net.pieces(loc), self.net.pieces(variances)
        d_loc, d_variance = torch.empty_like(loc), torch.empty_like(loc)
        g, gv = self.net.pieces(d_loc), self.net.pieces(d_variance)
        h, kept = x, []
        for i, z in enumerate(noise):
            square = h.square()
            deviation = torch.addmm(v[2 * i + 1], square, v[2 * i].T).sqrt_()
            kept.append((h, square, z / deviation))
            h = torch.addmm(p[2 * i + 1], h, p[2 * i].T).addcmul_(deviation, z)
            if i < len(noise) - 1:
                h = torch.nn.functional.leaky_relu_(h)
        log_p = h.log_softmax(1)
        loss = -(log_p * target).sum() / len(x)
        d = (log_p.exp_() - target).div_(len(x))
        for i in reversed(range(len(noise))):
            h, square, slope = kept[i]
            dv = slope.mul_(d)  # twice the derivative by the variance: the half falls against 2 below
            torch.mm(d.T, h, out=g[2 * i])
            torch.sum(d, 0, out=g[2 * i + 1])
            torch.mm(dv.T, square, out=gv[2 * i])
            torch.sum(dv, 0, out=gv[2 * i + 1])
            if i:
                d = (d @ p[2 * i]).addcmul_(dv @ v[2 * i], h)
                d = leaky_relu_backward(d, h, 0.01, True)
        return self.add_kl(loss, d_loc, d_variance.mul_(variances), loc, log_scale, variances)

    def add_kl(
        self, loss: Tensor, d_loc: Tensor, d_scale: Tensor, loc: Tensor, log_scale: Tensor, variances: Tensor
    ) -> tuple[Tensor, ...]:
        kl = 0.5 * (variances.sum() + loc.dot(loc) - len(loc)) - log_scale.sum()
        d_loc.add_(loc, alpha=1 / self.num)
        d_scale.add_(variances, alpha=1 / self.num).sub_(1 / self.num)
        return loss + kl / self.num, d_loc, d_scale
