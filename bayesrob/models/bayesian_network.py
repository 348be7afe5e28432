"""A network with a normal prior on every weight, as a Pyro model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Literal

import pyro
import torch
from jaxtyping import Float
from pyro import distributions
from torch import Tensor, nn

from bayesrob.arguments import number
from bayesrob.errors import InputError, check_name
from bayesrob.models.flat_network import FlatNetwork
from bayesrob.models.likelihoods import LIKELIHOODS, Categorical, Normal
from bayesrob.nets import forward
from bayesrob.types import Batch, Labels

__all__ = ["BayesianNetwork", "network_of"]


class BayesianNetwork(FlatNetwork):
    """p(w, y | x) = prod_i N(w_i; 0, prior_scale_i^2) prod_n p(y_n | net_w(x_n)).

    Calling it, `bnn(x, y)`, is a Pyro model: one sample site per parameter under the parameter's own name, and the site
    "obs" in the plate "data". Any Pyro kernel or guide takes it; for a mini-batch give `num_data`, and the plate scales
    the likelihood by num_data / batch.

    The same density is offered over one flat weight vector (`log_joint`), parameters in the order of
    `net.named_parameters()`: bayesrob's own samplers run on that, free of effect handlers.

    Args:
        net: any module without batch normalisation; it is copied, and its own weights serve only as starting points.
        prior_scale: standard deviation of every weight and bias (1.0 as in Carbone et al. 2020), or "fan_in":
            1/sqrt(fan in) for weights and 1 for biases (Neal 1996), under which wide layers do not saturate.
        likelihood: "categorical" (classification) or "normal" (regression).
        noise_scale: standard deviation of the observations, for likelihood="normal" only.

    Raises:
        InputError: a scale that is not positive, a noise_scale without "normal", a network with batch normalisation.
        UnknownNameError: an unknown likelihood or prior_scale.

    Example:
        >>> bnn = br.models.BayesianNetwork(net, prior_scale="fan_in")
        >>> theta = bnn.flatten(dict(net.named_parameters())).detach()
        >>> bool(bnn.log_joint(theta, x, y) < bnn.log_prior(theta))
        True
    """

    def __init__(
        self,
        net: nn.Module,
        prior_scale: float | Literal["fan_in"] = 1.0,
        likelihood: Literal["categorical", "normal"] = "categorical",
        noise_scale: float | None = None,
    ):
        if not isinstance(net, nn.Module):
            raise InputError(
                f"net is a {type(net).__name__}.", "A Bayesian network is built on a module.", "Pass nets.mlp(...)."
            )
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()):
            raise InputError(
                "The network has batch normalisation.",
                "It couples the data points, so their likelihood does not factorise.",
                "Use group or layer normalisation instead.",
            )
        if not any(True for _ in net.parameters()):
            raise InputError("The network has no parameters.", "There is nothing to infer.", "Check the architecture.")
        check_name("likelihood", likelihood, LIKELIHOODS)
        if likelihood != "normal" and noise_scale is not None:
            raise InputError(
                f"noise_scale={noise_scale} with likelihood={likelihood!r}.",
                "Only a normal likelihood has observation noise.",
                'Drop it, or set likelihood="normal".',
            )
        normal = Normal(1.0 if noise_scale is None else noise_scale)
        super().__init__(copy.deepcopy(net).eval(), Categorical() if likelihood == "categorical" else normal)
        self.prior_scale = prior_scale
        scales = {name: _scale(prior_scale, shape) for name, shape in self._shapes.items()}
        self._site_scales = scales
        self.register_buffer("prior_scales", self._flat_scales(next(net.parameters()).dtype))
        self.prior_scales: Tensor
        self._prior = self._flat_prior()

    # ---- Pyro -------------------------------------------------------------------------------------------------------

    def forward(self, x: Batch, y: Labels | None = None, num_data: int | None = None) -> Tensor:
        """Sample weights and observations, or condition on `y`; returns the observations.

        Args:
            x: inputs `[batch, *shape]`.
            y: classes `[batch]` or targets `[batch, out]`; None samples the observations.
            num_data: size of the whole data set when `x` is a mini-batch of it.
        """
        like = self.prior_scales
        weights = {}
        for name, shape in self._shapes.items():
            scale = like.new_tensor(self._site_scales[name])
            normal: Any = distributions.Normal(torch.zeros_like(scale), scale)
            prior = normal.expand(shape).to_event(len(shape))
            weights[name] = pyro.sample(name, prior)
        # Layer by layer where possible, for torch's tracer (JitTrace_ELBO).
        outputs = forward(self.net, self._steps, weights, x)
        if y is not None:
            self.likelihood.check_shapes(outputs, y)
        self._scaling(x, num_data)
        with pyro.plate("data", size=num_data or len(x), subsample=torch.arange(len(x), device=x.device)):
            return pyro.sample("obs", self.likelihood.distribution(outputs), obs=y)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BayesianNetwork:
        """Scales once more from their exact values: a float32 buffer turned to double would keep its rounding."""
        super()._apply(fn, recurse)
        self.prior_scales = self._flat_scales(self.prior_scales.dtype).to(self.prior_scales.device)
        self._prior = self._flat_prior()
        return self

    def _flat_prior(self) -> tuple[Tensor, float]:
        """Minus half the precision of every weight's prior, in float64, and the density's logarithm at zero."""
        scales = self.prior_scales.double()
        normaliser = scales.log().sum() + 0.5 * math.log(2 * math.pi) * self.num_weights
        return -0.5 * scales.square().reciprocal(), -float(normaliser)

    def _flat_scales(self, dtype: torch.dtype) -> Tensor:
        return self.flatten({n: torch.full(s, self._site_scales[n], dtype=dtype) for n, s in self._shapes.items()})

    # ---- the same density over one flat vector ----------------------------------------------------------------------

    def log_prior(self, theta: Float[Tensor, "*draws weight"]) -> Tensor:
        """log p(w) of each weight vector, float64 `[*draws]`."""
        factor, at_zero = self._prior
        return (theta.double().square() @ factor).add_(at_zero)

    def log_joint(self, theta: Float[Tensor, " weight"], x: Batch, y: Labels, num_data: int | None = None) -> Tensor:
        """log p(w) + (num_data / batch) log p(y | x, w), a float64 scalar: Pyro's trace log-probability."""
        outputs = self.outputs(theta, x)
        self.likelihood.check_shapes(outputs, y)
        return self.log_prior(theta) + self._scaling(x, num_data) * self.likelihood.total(outputs, y)

    def _scaling(self, x: Batch, num_data: int | None) -> float:
        """The factor num_data / batch that scales the likelihood of a mini-batch."""
        if num_data is not None and num_data < len(x):
            raise InputError(
                f"num_data is {num_data} for a batch of {len(x)}.",
                "It is the size of the whole data set.",
                "Pass len(x_train), or leave it out for all the data.",
            )
        return 1.0 if num_data is None else num_data / len(x)


def network_of(model: nn.Module) -> nn.Module:
    """Return the network of a `BayesianNetwork`; any other module is a network itself and is returned as it is."""
    return model.net if isinstance(model, BayesianNetwork) else model


def _scale(prior_scale: float | str, shape: torch.Size) -> float:
    if isinstance(prior_scale, str):
        check_name("prior_scale", prior_scale, ["fan_in"])
        return shape[1:].numel() ** -0.5 if len(shape) > 1 else 1.0
    return number("prior_scale", prior_scale, 'It is a standard deviation, or "fan_in".', above=0)
