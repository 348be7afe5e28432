"""The one interface: a distribution over functions, whatever made its draws."""

from __future__ import annotations

import abc
import math
import os
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesrob import weights
from bayesrob.arguments import require
from bayesrob.nets import spec_of
from bayesrob.numerics import products
from bayesrob.predictive.draws import Draws
from bayesrob.predictive.gradients import LogPredictive, draw_gradients, gradient
from bayesrob.predictive.objectives import Objective
from bayesrob.predictive.objectives import objective as objective_called
from bayesrob.predictive.standard_error import gradient_with_error
from bayesrob.predictive.votes import check_votes, shares
from bayesrob.types import Batch, DrawLogits, Outputs, Weights

__all__ = ["KINDS", "Predictive"]

KINDS: dict[str, type[Predictive]] = {}
"""Kinds of predictives by their name in saved files; every subclass that has a `kind` of its own is registered here."""


class Predictive(Draws):
    """A distribution over functions: draws of a network's weights, whatever made them.

    Inference methods return one, `predictive.from_modules` makes one of trained networks. Every method that takes
    `num_draws` and `seed` understands them alike: `num_draws` is how many draws are averaged (of held draws the first so
    many, of fresh ones so many new ones; None: `self.num_draws`), and `seed` says where fresh draws are drawn from (None:
    the predictive's own generator goes on). The constructor's arguments are those of `predictive.draws.Draws`.

    Example:
        >>> post.logits(x).shape  # [draw, batch, class]
        torch.Size([3, 5, 2])
        >>> bool(post(x).exp().sum(-1).allclose(post(x).new_ones(5)))
        True
        >>> post.input_gradient(x, y).shape == x.shape
        True
    """

    kind: str
    """Name of the class in saved files."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            KINDS[cls.kind] = cls

    # ---- what a kind of predictive must say ---------------------------------------------------------------------------

    @abc.abstractmethod
    def freeze(self, num_draws: int | None = None, seed: int = 0) -> Predictive:
        """Return held draws: `num_draws` drawn once from `seed`; of draws already held, the first `num_draws`."""

    @abc.abstractmethod
    def __getitem__(self, index: int | slice) -> Predictive: ...

    @abc.abstractmethod
    def example_weights(self) -> Weights:
        """The weights of one network by parameter name, `[*shape]`: every draw has their shapes and their dtype."""

    @abc.abstractmethod
    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that a file must keep."""

    @classmethod
    @abc.abstractmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> Predictive:
        """The inverse of `contents`.

        Args:
            net: the architecture; its buffers may be overwritten.
            tensors: the first part of `contents()`.
            values: the second part of `contents()`.
            **common: likelihood, bounds, input_shape, out_features and info.
        """

    # ---- predictions --------------------------------------------------------------------------------------------------

    def logits(self, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> DrawLogits:
        """The network's outputs under every draw, `[draw, batch, class]`, differentiable in `x`.

        A backward pass of the caller's own runs outside: its products are in torch's setting, not of `numerics.route`.

        Args:
            x: inputs `[batch, *shape]`.
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.

        Raises:
            InputError: inputs of another shape or type, or a number of draws that cannot be had.
        """
        x = self._checked(x)
        num_draws, seed = self.resolve(num_draws, seed)
        with products(self.net):
            return torch.cat([f(x) for f in self.functions(self.chunk(x), num_draws, seed)])

    def forward(self, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> Outputs:
        """Log posterior predictive probabilities `[batch, class]` (for regression the posterior mean `[batch, out]`).

        Differentiable in `x`; rows of the exponential sum to one, so softmax of it changes nothing.

        Args:
            x: inputs `[batch, *shape]`.
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.
        """
        return self.likelihood.predictive(self.logits(x, num_draws, seed))

    def vote(self, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> Outputs:
        """Share of the draws that vote for each class, `[batch, class]`; a draw votes for its largest logit.

        Its argmax is the majority, the first class where votes are equal; `predictive.majority` can break ties otherwise.
        Memory does not grow with the number of draws. Piecewise constant in `x`: no gradient.

        Args:
            x: inputs `[batch, *shape]`.
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.

        Raises:
            InputError: inputs that do not fit, or regression.
        """
        check_votes(self.likelihood)
        x = self._checked(x)
        with self._stream(x, num_draws, seed) as (_, stream):
            return shares(stream(), x)

    # ---- gradients ----------------------------------------------------------------------------------------------------

    @overload
    def input_gradient(
        self, x: Tensor, y: Tensor, objective: str | Objective = ..., num_draws: int | None = ..., seed: int | None = ...,
        *, standard_error: Literal[False] = ..., precision: str = ..., scaled: bool = ...,
    ) -> Batch: ...  # fmt: skip

    @overload
    def input_gradient(
        self, x: Tensor, y: Tensor, objective: str | Objective = ..., num_draws: int | None = ..., seed: int | None = ...,
        *, standard_error: Literal[True], precision: str = ..., scaled: Literal[False] = ...,
    ) -> tuple[Batch, Batch]: ...  # fmt: skip

    def input_gradient(
        self, x: Tensor, y: Tensor, objective: str | Objective = "expected_loss", num_draws: int | None = None,
        seed: int | None = None, *, standard_error: bool = False, precision: str = "full", scaled: bool = False,
    ) -> Batch | tuple[Batch, Batch]:  # fmt: skip
        """Gradient of an averaged loss with respect to each input, `[batch, *shape]`: each point's own, no 1/batch.

        Args:
            x: inputs `[batch, *shape]`.
            y: true labels, one for each input.
            objective: "expected_loss" (mean over draws of the loss gradient, the default because it is equation 2 of
                Carbone et al. 2020) or another of `predictive.objectives`, by name or as an object.
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.
            standard_error: also return the Monte Carlo standard error of every component, `[batch, *shape]`: is the
                gradient vanishing, or lost in noise? A gradient within two of them of zero is not known to differ from
                it. Four Markov chains or more count as that many batches; draws of fewer as independent, which is too
                small if they are correlated.
            precision: "full", the weights' own; "bf16" or (on NVIDIA cards) "tf32" round the factors of products, for the
                steps of attacks whose result is scored in full. Held draws then keep a rounded copy of themselves.
            scaled: True: a point's gradient may have a positive factor of its own. It has one where the gradient is so small
                (a confident network's are 1e-60) that float32 would lose its direction, which is then right. For steps that
                normalise gradients or take signs. With a standard error it must be False.

        Raises:
            InputError: shapes or labels that do not fit.
            UnknownNameError: an unknown objective or precision.
        """
        x, objective = self._ready(x, y, objective)
        # For an error every draw has its own copy of the input, so fewer fit the cache.
        extra = 4 * math.prod(x.shape[1:]) if standard_error else 0
        with self._stream(x, num_draws, seed, precision=precision, extra=extra) as (n, stream):
            if standard_error:
                require(not scaled, "scaled=True with standard_error=True.", "An error is of the value.", "Leave one out.")
                return gradient_with_error(stream, x, y, objective, self.likelihood, num_chains=self._batches(n))
            return gradient(stream, x, y, objective, self.likelihood, num_draws=n, scaled=scaled)

    def gradient_and_prediction(
        self, x: Tensor, y: Tensor, objective: str | Objective = "expected_loss", num_draws: int | None = None,
        seed: int | None = None, *, precision: str = "full", scaled: bool = False,
    ) -> tuple[Batch, Outputs, Float[Tensor, " batch"]]:  # fmt: skip
        """`input_gradient` with the log predictive and the objective `[batch]` of the same forward pass; for classifiers.

        Args:
            x: inputs `[batch, *shape]`.
            y: true labels, one for each input.
            objective: as in `input_gradient`.
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.
            precision: as in `input_gradient`.
            scaled: as in `input_gradient`.
        """
        x, objective = self._ready(x, y, objective)
        prediction = LogPredictive()
        with self._stream(x, num_draws, seed, precision=precision) as (n, stream):
            slope = gradient(stream, x, y, objective, self.likelihood, num_draws=n, prediction=prediction, scaled=scaled)
        return slope, prediction.value, prediction.loss

    def draw_gradients(
        self, x: Tensor, y: Tensor, objective: str = "expected_loss", num_draws: int | None = None, seed: int | None = None
    ) -> tuple[Float[Tensor, "draw batch"], Tensor]:
        """Each draw's own loss `[draw, batch]` and its input gradients `[draw, batch, *shape]`: what averages are made of.

        Memory grows with draws times points, so give few points at a time. With the default, "expected_loss", the losses
        are -log p_d(y | x).

        Args:
            x: inputs `[batch, *shape]`.
            y: true labels, one for each input.
            objective: a mean over draws: "expected_loss", or for audits "double_softmax_per_draw".
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.

        Raises:
            InputError: shapes or labels that do not fit, or an objective that is not a mean over draws.
        """
        x, mean = self._ready(x, y, objective)
        with self._stream(x, num_draws, seed, extra=math.prod(x.shape[1:])) as (_, stream):
            parts = draw_gradients(stream(), x, y, mean, self.likelihood)
            losses, gradients = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(gradients)

    def objective_value(
        self, x: Tensor, y: Tensor, objective: str = "expected_loss", num_draws: int | None = None, seed: int | None = None
    ) -> Tensor:
        """The averaged loss of each point, `[batch]`, whose gradient `input_gradient` is.

        Args:
            x: inputs `[batch, *shape]`.
            y: true labels, one for each input.
            objective: as in `input_gradient`.
            num_draws: number of draws; see the class.
            seed: seed of fresh draws; see the class.
        """
        x = self._checked(x)
        self.check_labels(x, y)
        return objective_called(objective, self.likelihood).value(self.logits(x, num_draws, seed), y, self.likelihood)

    # ---- records and files --------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What a record keeps of a predictive that is itself a setting (a surrogate, a start): the SHA-256 of its weights.

        The network, the likelihood and what else changes the draws are part of the digest, `info` (which holds times) is
        not. What the code of a user's own module or function computes cannot be seen: its name and weights stand for it.

        Example:
            >>> post.settings() == post[:].settings(), post.settings() == post[:2].settings()
            (True, False)
        """
        tensors, values = self.contents()
        described = [spec_of(self.net) or repr(self.net), self.likelihood.spec(), values]
        return self._settings(weights.digest(described, sorted(tensors.items())))

    def _settings(self, sha256: str) -> dict[str, Any]:
        return {"kind": self.kind, "num_draws": self.num_draws, "sha256": sha256}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the draws to the folder `path` (safetensors and JSON); `bayesrob.load(path)` reads them back.

        A network of the user's own has no description that a file could hold: pass it to `load(path, net=...)` again.

        Args:
            path: the folder; a predictive saved there before is replaced.

        Raises:
            CheckpointError: `path` holds something else, or the predictive consists of a user's own code.
        """
        tensors, values = self.contents()
        net = {"net": spec_of(self.net), "net_class": type(self.net).__name__}
        common = {**self._common(), "likelihood": self.likelihood.spec()}
        return weights.write(path, tensors, {"kind": self.kind, **net, **common, "values": values})
