"""The handwritten digits that are part of scikit-learn, so that nothing needs to be downloaded."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import subsets
from bayesrob.data.dataset import Dataset
from bayesrob.errors import InputError

__all__ = ["digits"]

_ALL, _CLASSES = 1797, 10


def digits(n_train: int = 1297, n_test: int = 500, seed: int = 0, *, balanced: bool = False) -> Dataset:
    """Load up to 1,797 handwritten digits, `[n, 1, 8, 8]` in [0, 1] (sklearn's 0 ... 16 divided by 16), ten classes.

    Every subset is as balanced as the images allow (174 to 183 of each class). For a given `seed` each class has one
    random order. The test points are taken from its end, class by class in a cycle, and the training points from the
    beginning of what remains. The two therefore never overlap, a smaller test set is the beginning of a larger one, and
    with the same `n_test` so is a smaller training set.

    Args:
        n_train: number of training images (1,297, all that the default test set leaves).
        n_test: number of test images (500, about 50 of each class: an accuracy of 95% then has a standard error of one
            percentage point).
        seed: seed of the split.
        balanced: whether to refuse subsets whose class counts differ by more than one. The default 1,297 are refused,
            because the test set leaves 124 to 133 of each class, so that at most 1,240 can be balanced.

    Raises:
        InputError: a count out of range, more than 1,797 in all, or too many for `balanced`.

    Source: sklearn.datasets.load_digits, the test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and
    C. Kaynak, UCI Machine Learning Repository, 1998.

    Example:
        >>> br.data.load("digits", n_train=100, n_test=50)
        Dataset('digits': 100 train, 50 test, shape (1, 8, 8), 10 classes, bounds (0.0, 1.0))
    """
    n_train, n_test = subsets.checked_counts(n_train, n_test, _ALL - 1, _ALL - 1)
    if n_train + n_test > _ALL:
        raise InputError(
            f"n_train={n_train} and n_test={n_test} ask for {n_train + n_test} digits.",
            f"There are {_ALL}, and a test point must not be a training point.",
            f"Pass n_train of at most {_ALL - n_test}, or a smaller n_test.",
        )
    images, labels = _all()
    order = subsets.shuffled(_ALL, rng.generator(seed, "data", "digits", "order"))
    classes = subsets.shuffled(_CLASSES, rng.generator(seed, "data", "digits", "classes"))
    test = subsets.interleave(order.flip(0), labels, classes)[:n_test]
    rest = order[~torch.isin(order, test)]
    train = subsets.interleave(rest, labels, classes)[:n_train]
    if balanced:
        subsets.check_balance("n_test", labels[test], _counts(labels))
        subsets.check_balance("n_train", labels[train], _counts(labels[rest]))
    return Dataset("digits", images[train], labels[train], images[test], labels[test], (0.0, 1.0), _CLASSES)


def _all() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # imported here because it takes half a second

    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images / 16).float().reshape(_ALL, 1, 8, 8), torch.from_numpy(labels).long()


def _counts(labels: Tensor) -> list[int]:
    return torch.bincount(labels, minlength=_CLASSES).tolist()
