"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.

The files are Python pickles, and unpickling runs whatever code a file names. Each file is therefore compared with
torchvision's MD5 sum first, and one that differs is refused unread. Only the files that a subset needs are read.
"""

from __future__ import annotations

import hashlib
import pathlib
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import downloads, subsets
from bayesrob.data.dataset import Dataset
from bayesrob.errors import MissingDataError

__all__ = ["cifar10", "cifar100"]

_TRAIN, _TEST = 50_000, 10_000


def cifar10(n_train: int = _TRAIN, n_test: int = _TEST, seed: int = 0, *, balanced: bool = False) -> Dataset:
    """Load images of animals and vehicles, `[n, 3, 32, 32]` in [0, 1] (bytes / 255; red, green, blue), ten classes.

    The training set has five files of 10,000 images. Each file has its own permutation, which depends only on `seed`, and
    the training points are the first `n_train` of the first file's, then the second's, ... A smaller subset is therefore
    the beginning of a larger one, and needs only the first ceil(n_train / 10,000) files. The test points are the first
    `n_test` of a permutation of the test set, so that the two never overlap.

    Args:
        n_train: number of training images, 1 to 50,000 (the default, all of them).
        n_test: number of test images, 1 to 10,000 (the default, all of them).
        seed: seed of the permutations.
        balanced: whether the counts of the classes may differ by at most one. A file does not hold its ten classes
            equally often (the first one from 937 to 1,032 times), so that a balanced subset can need one file more.

    Raises:
        InputError: a count out of range.
        MissingDataError: a file that is missing and cannot be downloaded, or that differs from the published one.

    Example:
        >>> br.data.load("cifar10", n_train=1000)  # doctest: +SKIP
        Dataset('cifar10': 1000 train, 10000 test, shape (3, 32, 32), 10 classes, bounds (0.0, 1.0))
    """
    from torchvision import datasets  # imported here because it takes a second

    return _load(datasets.CIFAR10, 10, n_train, n_test, seed=seed, balanced=balanced)


def cifar100(n_train: int = _TRAIN, n_test: int = _TEST, seed: int = 0, *, balanced: bool = False) -> Dataset:
    """Load images of a hundred fine classes, `[n, 3, 32, 32]` in [0, 1] (bytes / 255; red, green, blue).

    Subsets are chosen as by `cifar10`, but training and test set are one file each.

    Args:
        n_train: number of training images, 1 to 50,000 (the default, all of them).
        n_test: number of test images, 1 to 10,000 (the default, all of them).
        seed: seed of the permutations.
        balanced: whether the counts of the classes may differ by at most one.

    Raises:
        InputError: as for `cifar10`.
        MissingDataError: as for `cifar10`.

    Example:
        >>> br.data.load("cifar100", n_train=1000)  # doctest: +SKIP
        Dataset('cifar100': 1000 train, 10000 test, shape (3, 32, 32), 100 classes, bounds (0.0, 1.0))
    """
    from torchvision import datasets

    return _load(datasets.CIFAR100, 100, n_train, n_test, seed=seed, balanced=balanced)


def _load(kind: Any, num_classes: int, n_train: int, n_test: int, *, seed: int, balanced: bool) -> Dataset:
    n_train, n_test = subsets.checked_counts(n_train, n_test, _TRAIN, _TEST)
    balance = num_classes if balanced else None
    x_train, y_train = _part(kind, "train", n_train, seed, balance)
    x_test, y_test = _part(kind, "test", n_test, seed, balance)
    return Dataset(_name(kind), x_train, y_train, x_test, y_test, bounds=(0.0, 1.0), num_classes=num_classes)


def _name(kind: Any) -> str:
    return kind.__name__.lower()


def _part(kind: Any, part: str, count: int, seed: int, balance: int | None) -> tuple[Tensor, Tensor]:
    """Return the first `count` images and labels of one part, balanced over `balance` classes unless that is None."""
    images, labels = _read_enough(kind, part, count, balance)
    name = _name(kind)
    ends = np.cumsum([0, *map(len, labels)])
    orders = [
        int(start) + subsets.shuffled(len(batch), rng.generator(seed, "data", name, part, position))
        for position, (start, batch) in enumerate(zip(ends, labels, strict=False))
    ]
    order, pixels, classes = torch.cat(orders), torch.cat(images), torch.cat(labels)
    if balance is not None:
        cycle = subsets.shuffled(balance, rng.generator(seed, "data", name, part, "classes"))
        order = subsets.interleave(order, classes, cycle)
    chosen = order[:count]
    if balance is not None:
        subsets.check_balance(f"n_{part}", classes[chosen], torch.bincount(classes, minlength=balance).tolist())
    return pixels[chosen].float() / 255, classes[chosen]


def _read_enough(kind: Any, part: str, count: int, balance: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """Read the files in their order until they hold `count` images, and enough of each class if `balance` is given."""
    files = kind.train_list if part == "train" else kind.test_list
    surely_needed = -(-count * len(files) // (_TRAIN if part == "train" else _TEST))
    _ensure(kind, part, files[:surely_needed])
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for file_name, md5 in files:
        if _is_enough(labels, count, balance):
            break
        _ensure(kind, part, [(file_name, md5)])
        pixels, classes = _read(kind, file_name, md5)
        images.append(pixels)
        labels.append(classes)
    return images, labels


def _ensure(kind: Any, part: str, files: Sequence[tuple[str, str]]) -> None:
    """Download `files` if they are missing. If that fails, the error says for which n_train the present files suffice."""
    folder = downloads.root()
    present = [(folder / kind.base_folder / file_name).is_file() for file_name, _ in kind.train_list]
    readable = _TRAIN // len(present) * [*present, False].index(False)
    suffice = f"The files that are present suffice for n_train of up to {readable}. "
    otherwise = suffice if readable and part == "train" else ""
    downloads.ensure_files(kind, folder, [f"{kind.base_folder}/{file_name}" for file_name, _ in files], otherwise)


def _is_enough(labels: list[Tensor], count: int, balance: int | None) -> bool:
    if sum(map(len, labels)) < count:
        return False
    if balance is None:
        return True
    per_class = torch.bincount(torch.cat(labels), minlength=balance)
    return int(per_class.min()) >= -(-count // balance)


def _read(kind: Any, file_name: str, md5: str) -> tuple[Tensor, Tensor]:
    """Return the content of one file: bytes `[n, 3, 32, 32]` and labels `[n]`."""
    content = _verified(kind, downloads.root() / kind.base_folder / file_name, md5)
    with downloads.quiet():  # the arrays inside were pickled by a numpy of 2009
        entry = pickle.loads(content, encoding="latin1")
    labels = entry["labels"] if "labels" in entry else entry["fine_labels"]
    return torch.from_numpy(np.array(entry["data"]).reshape(-1, 3, 32, 32)), torch.tensor(labels)


def _verified(kind: Any, path: pathlib.Path, md5: str) -> bytes:
    """Return the bytes of `path`. They are read once, so that what was verified is what is unpickled."""
    content = path.read_bytes()
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != md5:
        raise MissingDataError(
            f"{path} is not the published file: {len(content)} bytes with MD5 sum {actual} instead of {md5}.",
            "It is a pickle, which can run any code when read, so only the published file is read.",
            f"Delete it and run torchvision.datasets.{kind.__name__}({str(path.parents[1])!r}, download=True).",
        )
    return content
