"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels, ten classes.

Sources: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits"; H. Xiao, K. Rasul,
R. Vollgraf, "Fashion-MNIST", 2017, https://arxiv.org/abs/1708.07747.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import downloads, subsets
from bayesrob.data.dataset import Dataset
from bayesrob.errors import MissingDataError

__all__ = ["fashion_mnist", "mnist"]

_TRAIN, _TEST, _CLASSES = 60_000, 10_000, 10


def mnist(n_train: int = _TRAIN, n_test: int = _TEST, seed: int = 0, *, balanced: bool = False) -> Dataset:
    """Load handwritten digits, `[n, 1, 28, 28]` in [0, 1] (bytes / 255), ten classes.

    The training points are the first `n_train` of a permutation of MNIST's training set that depends only on `seed` and
    `balanced`, and the test points likewise of its test set. A smaller subset is therefore the beginning of a larger one,
    and the two never overlap.

    Args:
        n_train: number of training images, 1 to 60,000 (the default, all of them).
        n_test: number of test images, 1 to 10,000 (the default, all of them).
        seed: seed of both permutations.
        balanced: whether the counts of the classes may differ by at most one. This is possible for up to 54,210 training
            and 8,920 test images.

    Raises:
        InputError: a count out of range, or too large for a balanced subset.
        MissingDataError: files that are damaged, or missing and cannot be downloaded.

    Example:
        >>> br.data.load("mnist", n_train=1000, balanced=True)  # doctest: +SKIP
        Dataset('mnist': 1000 train, 10000 test, shape (1, 28, 28), 10 classes, bounds (0.0, 1.0))
    """
    from torchvision import datasets  # imported here because it takes a second

    return _load(datasets.MNIST, n_train, n_test, seed, balanced)


def fashion_mnist(n_train: int = _TRAIN, n_test: int = _TEST, seed: int = 0, *, balanced: bool = False) -> Dataset:
    """Load images of clothes, `[n, 1, 28, 28]` in [0, 1] (bytes / 255), ten classes.

    Subsets are chosen as by `mnist`. Each class has 6,000 training and 1,000 test images, so all of them are a balanced set.

    Args:
        n_train: number of training images, 1 to 60,000 (the default, all of them).
        n_test: number of test images, 1 to 10,000 (the default, all of them).
        seed: seed of the permutations of the training and the test set.
        balanced: whether the counts of the classes may differ by at most one.

    Raises:
        InputError: as for `mnist`.
        MissingDataError: as for `mnist`.

    Example:
        >>> br.data.load("fashion_mnist", n_train=1000)  # doctest: +SKIP
        Dataset('fashion_mnist': 1000 train, 10000 test, shape (1, 28, 28), 10 classes, bounds (0.0, 1.0))
    """
    from torchvision import datasets

    return _load(datasets.FashionMNIST, n_train, n_test, seed, balanced)


NAMES = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist"}
"""Name of the data set by torchvision's class."""


def _load(kind: Any, n_train: int, n_test: int, seed: int, balanced: bool) -> Dataset:
    n_train, n_test = subsets.checked_counts(n_train, n_test, _TRAIN, _TEST)
    downloads.ensure_files(kind, downloads.root(), _files(kind))
    x_train, y_train = _part(kind, "train", n_train, seed, balanced)
    x_test, y_test = _part(kind, "test", n_test, seed, balanced)
    return Dataset(NAMES[kind.__name__], x_train, y_train, x_test, y_test, bounds=(0.0, 1.0), num_classes=_CLASSES)


def _files(kind: Any) -> list[str]:
    return [f"{kind.__name__}/raw/{os.path.splitext(archive)[0]}" for archive, _ in kind.resources]


def _part(kind: Any, part: str, count: int, seed: int, balanced: bool) -> tuple[Tensor, Tensor]:
    images, labels = _read(kind, downloads.root(), part)
    name = NAMES[kind.__name__]
    order = subsets.shuffled(len(labels), rng.generator(seed, "data", name, part))
    if balanced:
        classes = subsets.shuffled(_CLASSES, rng.generator(seed, "data", name, part, "classes"))
        order = subsets.interleave(order, labels, classes)
    chosen = order[:count]
    if balanced:
        available = torch.bincount(labels, minlength=_CLASSES).tolist()
        subsets.check_balance(f"n_{part}", labels[chosen], available)
    return images[chosen].unsqueeze(1).float() / 255, labels[chosen]


def _read(kind: Any, folder: pathlib.Path, part: str) -> tuple[Tensor, Tensor]:
    expected = _TRAIN if part == "train" else _TEST
    try:
        with downloads.quiet():
            files = kind(str(folder), train=part == "train")
        images, labels = files.data, files.targets.long()
        problem = f"{len(images)} images and {len(labels)} labels instead of {expected}"
    except Exception as error:  # torchvision checks only that the files exist, so a damaged one can raise anything
        images = labels = torch.empty(0)
        problem = f"reading failed with {type(error).__name__}: {error}"
    if len(images) != expected or len(labels) != expected:
        raise MissingDataError(
            f"The {part} files of {kind.__name__} under {folder} are damaged: {problem}.",
            "An interrupted download leaves such files, and torchvision does not download again what exists.",
            f"Delete {folder / kind.__name__} and load again.",
        )
    return images, labels
