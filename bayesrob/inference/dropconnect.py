"""DropConnect: single weights dropped at random, in training and in prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from bayesrob.arguments import require
from bayesrob.inference.training.masked import MaskedTraining
from bayesrob.predictive import maskable

__all__ = ["DropConnect"]


@dataclasses.dataclass(frozen=True)
class DropConnect(MaskedTraining):
    """Train and predict with every weight dropped independently (Wan, Zeiler, Zhang, LeCun & Fergus 2013, equation 2).

    w = loc * mask / (1 - p), masks Bernoulli(1 - p). All weights of two axes and more have masks, the first layer's among
    them; biases and normalisation have none. Wan et al. draw masks for every point, do not rescale the weights and
    approximate the prediction by normal activations; here a mask is for a minibatch, weights are divided by 1 - p so that
    their means stay, and prediction averages `num_draws` networks. On a linear model the expected squared loss is ridge
    regression with penalty p / (1 - p) diag(X'X), as under dropout (Wager, Wang & Liang 2013).

    What is minimised, and how: see `MaskedTraining`.

    Args:
        p: probability of being dropped, in [0, 1). 0.2 as in Liu & Sha; Wan et al. take 0.5, in one layer only.
        epochs: passes over the data. None: as many as give 4,000 steps, at least 20, as `SVI`: twice those of `SGD`, because
            the masks add noise.
        lr: learning rate of Adam; 0.001 as in Kingma & Ba 2015.
        batch_size: largest number of points in a minibatch; 128 as `SGD`.
        decay: let the learning rate fall to zero over the run (half a cosine), so that the masks' noise does not stay in
            the weights.
        num_draws: draws that the Predictive makes when no number is given.

    Raises:
        InputError: p outside [0, 1), settings under which no step could be taken; when fitting, a network without weights
            of two axes.

    Example:
        >>> post = br.inference.DropConnect(epochs=2).fit(net, ds, seed=0)
        >>> post.logits(x, num_draws=3).shape
        torch.Size([3, 5, 2])
    """

    p: float = 0.2
    unit: ClassVar[str] = "weight"

    def masked(self, net: nn.Module) -> Sequence[str]:
        names = list(maskable(net))
        require(bool(names), "No parameter has two axes.", "DropConnect drops weights, not biases.", "Check the network.")
        return names
