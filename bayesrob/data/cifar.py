"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.

The files are Python pickles, and unpickling runs whatever code a file names. So each is compared with torchvision's MD5
sum first, and one that differs is refused unread. Only the files that a subset needs are touched.
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


def cifar10(n_train: int = _TRAIN, n_test: int = _TEST, seed: int = 0, balanced: bool = False) -> Dataset:
    """Animals and vehicles, `[n, 3, 32, 32]` in [0, 1] (bytes / 255; channels red, green, blue), ten classes.

    The training set comes in five files of 10,000. Each has its own permutation, which depends only on `seed`, and the
    training points are the first `n_train` of the first file's, then the second's, ...: a smaller subset is the
    beginning of a larger one, and it needs only the first ceil(n_train / 10,000) files. The test points are the first
    `n_test` of a permutation of the test set, so the two never overlap.

    Args:
        n_train: 1 to 50,000; by default all.
        n_test: 1 to 10,000; by default all.
        seed: of the permutations.
        balanced: let the classes take turns, so that their counts differ by at most one. A file does not hold its ten
            classes equally often (the first one from 937 to 1,032 times), so a balanced subset can need one file more.

    Raises:
        InputError: a count out of range.
        MissingDataError: a file that is needed is neither there nor downloadable, or differs from the published one.
    """
    from torchvision import datasets  # takes a second to import: only who needs it should wait

    return _load(datasets.CIFAR10, "cifar10", 10, n_train, n_test, seed, balanced)


def cifar100(n_train: int = _TRAIN, n_test: int = _TEST, seed: int = 0, balanced: bool = False) -> Dataset:
    """A hundred fine classes, `[n, 3, 32, 32]` in [0, 1] (bytes / 255; channels red, green, blue).

    Arguments and errors are those of `cifar10`; training and test set are one file each.
    """
    from torchvision import datasets

    return _load(datasets.CIFAR100, "cifar100", 100, n_train, n_test, seed, balanced)


def _load(kind: Any, name: str, num_classes: int, n_train: int, n_test: int, seed: int, balanced: bool) -> Dataset:
    n_train = subsets.check_count("n_train", n_train, _TRAIN)
    n_test = subsets.check_count("n_test", n_test, _TEST)
    x_train, y_train = _part(kind, name, "train", n_train, seed, num_classes if balanced else None)
    x_test, y_test = _part(kind, name, "test", n_test, seed, num_classes if balanced else None)
    return Dataset(name, x_train, y_train, x_test, y_test, bounds=(0.0, 1.0), num_classes=num_classes)


def _part(kind: Any, name: str, part: str, count: int, seed: int, balance: int | None) -> tuple[Tensor, Tensor]:
    """The first `count` images and labels of one part; `balance` is over how many classes they are balanced, if so."""
    images, labels = _read_enough(kind, part, count, balance)
    ends = np.cumsum([0, *map(len, labels)])
    orders = [
        int(start) + subsets.shuffled(len(batch), rng.generator(seed, "data", name, part, position))
        for position, (start, batch) in enumerate(zip(ends, labels, strict=False))
    ]
    order, pixels, classes = torch.cat(orders), torch.cat(images), torch.cat(labels)
    if balance is not None:
        turns = subsets.shuffled(balance, rng.generator(seed, "data", name, part, "classes"))
        order = subsets.take_turns(order, classes, turns)
    chosen = order[:count]
    if balance is not None:
        subsets.check_balance(f"n_{part}", classes[chosen], torch.bincount(classes, minlength=balance).tolist())
    return pixels[chosen].float() / 255, classes[chosen]


def _read_enough(kind: Any, part: str, count: int, balance: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """Read the files in their order until they hold `count` images, if need be as many of each class."""
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
    """Have `files` on disk. Where that fails, the error says how far the training files that are there reach."""
    folder = downloads.root()
    present = [(folder / kind.base_folder / file_name).is_file() for file_name, _ in kind.train_list]
    held = _TRAIN // len(present) * [*present, False].index(False)
    otherwise = f"The files that are there do for n_train of up to {held}. " if held and part == "train" else ""
    downloads.ensure_files(kind, folder, [f"{kind.base_folder}/{file_name}" for file_name, _ in files], otherwise)


def _is_enough(labels: list[Tensor], count: int, balance: int | None) -> bool:
    if sum(map(len, labels)) < count:
        return False
    if balance is None:
        return True
    per_class = torch.bincount(torch.cat(labels), minlength=balance)
    return int(per_class.min()) >= -(-count // balance)


def _read(kind: Any, file_name: str, md5: str) -> tuple[Tensor, Tensor]:
    """One file: bytes `[n, 3, 32, 32]` and labels `[n]`."""
    content = _verified(kind, downloads.root() / kind.base_folder / file_name, md5)
    with downloads.quiet():  # the arrays inside were pickled by a numpy of 2009
        entry = pickle.loads(content, encoding="latin1")
    labels = entry["labels"] if "labels" in entry else entry["fine_labels"]
    return torch.from_numpy(np.array(entry["data"]).reshape(-1, 3, 32, 32)), torch.tensor(labels)


def _verified(kind: Any, path: pathlib.Path, md5: str) -> bytes:
    """The bytes of `path`, read once, so that what was verified is what is unpickled."""
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise MissingDataError(
            f"{path} is not the published file: {len(content)} bytes with MD5 sum {found} instead of {md5}.",
            "It is a pickle, which can run any code when read, so only the published file is read.",
            f"Delete it and run torchvision.datasets.{kind.__name__}({str(path.parents[1])!r}, download=True).",
        )
    return content
