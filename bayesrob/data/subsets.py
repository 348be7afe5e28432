"""Sizes and seeded subsets of data sets: a smaller subset is always the beginning of a larger one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bayesrob.arguments import whole
from bayesrob.errors import InputError

__all__ = ["alternating_labels", "check_balance", "checked_counts", "interleave", "shuffled"]


def checked_counts(
    n_train: object, n_test: object, most_train: int | None = None, most_test: int | None = None
) -> tuple[int, int]:
    """Return both sizes as integers.

    Args:
        n_train: number of training points.
        n_test: number of test points.
        most_train: how many training points there are; None where they are generated.
        most_test: how many test points there are; None where they are generated.

    Raises:
        InputError: a size that is no whole number of at least 1, or more than there are.
    """
    return (
        whole("n_train", n_train, "It counts training points.", most=most_train),
        whole("n_test", n_test, "It counts test points.", most=most_test),
    )


def alternating_labels(count: int, generator: torch.Generator) -> Tensor:
    """Return labels 0 and 1 in random order, int64 `[count]`: half of each, and one more 0 if `count` is odd."""
    return (torch.arange(count) % 2)[torch.randperm(count, generator=generator)]


def shuffled(count: int, generator: torch.Generator) -> Tensor:
    """Return the numbers 0 ... count - 1 in random order, int64 `[count]`."""
    return torch.randperm(count, generator=generator)


def interleave(order: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Rearrange `order` so that the classes follow each other cyclically, each in its own order.

    An exhausted class is skipped. The first n images then hold each class equally often, give or take one, until the
    rarest class is exhausted.

    Args:
        order: indices into `labels`, int64 `[n]`.
        labels: class of every image, int64 `[all]`.
        classes: the order of the classes within a cycle, a permutation, int64 `[num_classes]`.
    """
    position_in_cycle = torch.empty_like(classes)
    position_in_cycle[classes] = torch.arange(len(classes))
    ordered = labels[order]
    key = torch.empty_like(ordered)
    for cls, position in enumerate(position_in_cycle.tolist()):
        members = (ordered == cls).nonzero()[:, 0]
        key[members] = torch.arange(len(members)) * len(classes) + position
    return order[key.argsort()]


def check_balance(field: str, chosen: Tensor, available: Sequence[int]) -> None:
    """Raise `InputError` unless the classes of `chosen` are equally frequent, give or take one.

    Args:
        field: name of the size that was asked for, for the message.
        chosen: labels of the chosen images, int64 `[n]`.
        available: how many images each class could have contributed, for the message.
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
