"""Seeded subsets: a smaller one is always the beginning of a larger one."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from bayesrob.errors import InputError

__all__ = ["check_balance", "check_count", "shuffled", "take_turns"]


def check_count(field: str, count: object, available: int | None = None) -> int:
    """Return `count` as an integer if it lies in 1 ... `available` (None: no upper end), else raise `InputError`."""
    try:
        number = operator.index(count)  # pyright: ignore[reportArgumentType]
    except TypeError:
        number = 0
    if isinstance(count, bool) or number < 1 or (available is not None and number > available):
        span = "at least 1" if available is None else f"1 to {available}"
        raise InputError(f"{field} is {count!r}.", f"It must be a whole number, {span}.", f"Pass {field} in that range.")
    return number


def shuffled(count: int, generator: torch.Generator) -> Tensor:
    """The numbers 0 ... count - 1 in random order, int64 `[count]`."""
    return torch.randperm(count, generator=generator)


def take_turns(order: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Rearrange `order` so that the classes take turns, each keeping its own order; an exhausted class is skipped.

    The first n then hold each class equally often, give or take one, until the rarest class is used up.

    Args:
        order: indices into `labels`, int64 `[n]`.
        labels: class of every image, int64 `[all]`.
        classes: in which order the classes take their turns, a permutation, int64 `[num_classes]`.
    """
    turn_within_round = torch.empty_like(classes)
    turn_within_round[classes] = torch.arange(len(classes))
    ordered = labels[order]
    key = torch.empty_like(ordered)
    for cls, turn in enumerate(turn_within_round.tolist()):
        members = (ordered == cls).nonzero()[:, 0]
        key[members] = torch.arange(len(members)) * len(classes) + turn
    return order[key.argsort()]


def check_balance(field: str, chosen: Tensor, available: Sequence[int]) -> None:
    """Raise `InputError` unless the classes of `chosen` (labels, `[n]`) are equally frequent, give or take one.

    `available` is how many images each class could have contributed; it sizes the message.
    """
    counts = torch.bincount(chosen, minlength=len(available)).tolist()
    if max(counts) - min(counts) <= 1:
        return
    rarest = min(range(len(available)), key=available.__getitem__)
    raise InputError(
        f"A balanced {field}={len(chosen)} needs {len(chosen) // len(available)} images of each class, and class "
        f"{rarest} has only {available[rarest]}.",
        "Balanced means equal class counts, give or take one.",
        f"Pass {field} of at most {available[rarest] * len(available)}, or balanced=False.",
    )
