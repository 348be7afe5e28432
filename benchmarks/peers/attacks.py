"""foolbox, ART, torchattacks on the usual module that loops over draws, and the loop over images and draws of robustBNNs."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["LoopedDraws", "art", "foolbox", "robustbnns", "torchattacks"]


class LoopedDraws(nn.Module):
    """The usual ensemble: a network for each draw, one after the other; log of the mean probability, `[batch, class]`.

    Its parameters are views of the posterior's weights and, as modules come, require gradients unless `frozen`.
    """

    def __init__(self, post, frozen=False, num_draws=None):
        super().__init__()
        self.nets = nn.ModuleList()
        for i in range(num_draws or post.num_draws):
            net = copy.deepcopy(post.net)
            for name, tensor in post.weights.items():
                owner, _, last = name.rpartition(".")
                setattr(net.get_submodule(owner), last, nn.Parameter(tensor[i], requires_grad=not frozen))
            self.nets.append(net)
        self.eval()

    def forward(self, x):
        return torch.stack([net(x).softmax(-1) for net in self.nets]).mean(0).log()


def foolbox(post, x, y, eps, steps, frozen=False, num_draws=None):
    import foolbox as fb

    model = fb.PyTorchModel(LoopedDraws(post, frozen, num_draws), bounds=post.bounds, device=x.device)
    attack = fb.attacks.LinfPGD(abs_stepsize=2.5 * eps / steps, steps=steps, random_start=False)
    return lambda: attack(model, x, fb.criteria.Misclassification(y), epsilons=eps)[1]


def art(post, x, y, eps, steps, frozen=False, num_draws=None):
    from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        LoopedDraws(post, frozen, num_draws),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=post.out_features,
        clip_values=post.bounds,
        device_type="cpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier, eps=eps, eps_step=2.5 * eps / steps, max_iter=steps, batch_size=len(x), verbose=False
    )
    images, labels = x.numpy(), y.numpy()
    return lambda: torch.from_numpy(attack.generate(images, labels))


def torchattacks(post, x, y, eps, steps, frozen=False, num_draws=None):
    import torchattacks as ta

    attack = ta.PGD(LoopedDraws(post, frozen, num_draws), eps=eps, alpha=2.5 * eps / steps, steps=steps, random_start=False)
    return lambda: attack(x, y)


def robustbnns(post, x, y, eps, steps, num_images):
    """One image and one draw at a time, as the code of Carbone et al. does it, on the first `num_images`."""
    nets, step = LoopedDraws(post, frozen=True).nets, 2.5 * eps / steps

    def way():
        attacked = []
        for image, label in zip(x[:num_images].unsqueeze(1), y[:num_images].unsqueeze(1), strict=True):
            z = image
            for _ in range(steps):
                total = torch.zeros_like(z)
                for net in nets:
                    leaf = z.clone().requires_grad_()
                    loss = nn.functional.cross_entropy(net(leaf), label)
                    total += torch.autograd.grad(loss, leaf)[0]
                z = torch.clamp(z + step * total.sign(), image - eps, image + eps).clamp(*post.bounds)
            attacked.append(z)
        return torch.cat(attacked)

    return way
