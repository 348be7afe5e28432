"""The handwritten digits that come with scikit-learn: nothing to download."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import subsets
from bayesrob.data.dataset import Dataset
from bayesrob.errors import InputError

__all__ = ["digits"]

_ALL, _CLASSES = 1797, 10


def digits(n_train: int = 1297, n_test: int = 500, seed: int = 0, balanced: bool = False) -> Dataset:
    """1,797 handwritten digits, `[n, 1, 8, 8]` in [0, 1] (sklearn's 0 ... 16 divided by 16), ten classes.

    Every subset is as balanced as the images allow (174 to 183 of each class). For a given `seed` each class has one
    random order; the test points are taken from its end, the classes taking turns, and the training points from the
    beginning of what is left. So the two never overlap, a smaller test set is the beginning of a larger one, and with
    the same `n_test` so is a smaller training set.

    Args:
        n_train: by default all that the test set leaves.
        n_test: by default 50 of each class: an accuracy of 95% is then known to within 2 points.
        seed: of the split.
        balanced: refuse subsets whose class counts differ by more than one. The default 1,297 are refused, because the
            test set leaves 124 to 133 of each class: at most 1,240 can be balanced beside it.

    Raises:
        InputError: a count out of range, more than 1,797 together, or too large for `balanced`.

    Source: sklearn.datasets.load_digits, the test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and
    C. Kaynak, UCI Machine Learning Repository, 1998.
    """
    n_train, n_test = _checked_counts(n_train, n_test)
    images, labels = _all()
    order = subsets.shuffled(_ALL, rng.generator(seed, "data", "digits", "order"))
    classes = subsets.shuffled(_CLASSES, rng.generator(seed, "data", "digits", "classes"))
    test = subsets.take_turns(order.flip(0), labels, classes)[:n_test]
    rest = order[~torch.isin(order, test)]
    train = subsets.take_turns(rest, labels, classes)[:n_train]
    if balanced:
        subsets.check_balance("n_test", labels[test], _counts(labels))
        subsets.check_balance("n_train", labels[train], _counts(labels[rest]))
    return Dataset("digits", images[train], labels[train], images[test], labels[test], (0.0, 1.0), _CLASSES)


def _checked_counts(n_train: object, n_test: object) -> tuple[int, int]:
    train = subsets.check_count("n_train", n_train, _ALL - 1)
    test = subsets.check_count("n_test", n_test, _ALL - 1)
    if train + test > _ALL:
        raise InputError(
            f"n_train={train} and n_test={test} ask for {train + test} digits.",
            f"There are {_ALL}, and a test point must not be a training point.",
            f"Pass n_train of at most {_ALL - test}, or a smaller n_test.",
        )
    return train, test


def _all() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # takes half a second to import: only who needs it should wait

    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images / 16).float().reshape(_ALL, 1, 8, 8), torch.from_numpy(labels).long()


def _counts(labels: Tensor) -> list[int]:
    return torch.bincount(labels, minlength=_CLASSES).tolist()
