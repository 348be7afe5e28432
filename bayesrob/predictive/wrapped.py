"""Predictives that put a step in front of another predictive."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bayesrob.errors import InputError
from bayesrob.predictive.base import Predictive
from bayesrob.types import Bounds, Weights

__all__ = ["Wrapped"]


class Wrapped(Predictive):
    """The predictive `post` as it sees inputs that a step in front of it has changed.

    Args:
        post: the predictive behind the step; the copy made of it shares its draws.
        bounds: smallest and largest value of the step's inputs. None: those of `post`.
        input_shape: shape of one input of the step. None: unknown, and inputs are not checked.
        info: where the draws come from. None: what `post` says.

    Raises:
        InputError: `post` is no predictive.
    """

    def __init__(
        self,
        post: Predictive,
        *,
        bounds: Bounds | None = None,
        input_shape: tuple[int, ...] | None = None,
        info: dict[str, Any] | None = None,
    ):
        if not isinstance(post, Predictive):
            raise InputError(
                f"{type(self).__name__} got a {type(post).__name__}.",
                "It puts a step in front of a predictive.",
                "Wrap trained networks with predictive.from_modules([net], input_shape=...) first.",
            )
        super().__init__(
            nn.Identity(),
            likelihood=post.likelihood,
            bounds=post.bounds if bounds is None else bounds,
            input_shape=input_shape,
            out_features=post.out_features,
            info=post.info if info is None else info,
        )
        self.post = post[:]
        self.net = self.post.net

    def example_weights(self) -> Weights:
        return self.post.example_weights()

    def _outputs_of_one(self, x: Tensor) -> Tensor:
        return self.logits(x[:1], 1, 0)
