from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bayesrob.data import load
from bayesrob.errors import InputError


def rows(*parts):
    """Images with their label, as a sorted list: the same set of digits gives the same list."""
    return sorted((*x.flatten().tolist(), int(y)) for images, labels in parts for x, y in zip(images, labels, strict=True))


def test_whole_set_is_sklearns_divided_by_16():
    data = load("digits")
    images, labels = load_digits(return_X_y=True)
    assert (len(data.x_train), len(data.x_test), data.shape) == (1297, 500, (1, 8, 8))
    assert rows((data.x_train, data.y_train), (data.x_test, data.y_test)) == rows(
        (torch.from_numpy(images / 16).float(), labels)
    )
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert (data.bounds, data.num_classes) == ((0.0, 1.0), 10)


def test_seeds():
    first, again, other = load("digits", seed=3), load("digits", seed=3), load("digits", seed=4)
    assert torch.equal(first.x_train, again.x_train)
    assert torch.equal(first.y_test, again.y_test)
    assert not torch.equal(first.x_train, other.x_train)
    assert not torch.equal(first.x_test, other.x_test)


def test_smaller_is_the_beginning_of_larger():
    large, small = load("digits", n_train=1200, n_test=400), load("digits", n_train=37, n_test=400)
    assert torch.equal(small.x_train, large.x_train[:37])
    assert torch.equal(small.x_test, large.x_test)
    assert torch.equal(load("digits", n_test=11).x_test, large.x_test[:11])


@pytest.mark.parametrize(("n_train", "n_test"), [(100, 50), (103, 57), (1240, 500), (9, 9)])
def test_balanced(n_train, n_test):
    data = load("digits", n_train=n_train, n_test=n_test, balanced=True)
    for labels, count in ((data.y_train, n_train), (data.y_test, n_test)):
        counts = torch.bincount(labels, minlength=10)
        assert counts.sum() == count
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("n_train", "n_test"), [(1796, 1), (1, 1796), (900, 897)])
def test_every_digit_can_be_used_and_none_twice(n_train, n_test):
    data = load("digits", n_train=n_train, n_test=n_test)
    counts = np.bincount(load_digits().target)
    assert (torch.bincount(data.y_train, minlength=10) + torch.bincount(data.y_test, minlength=10)).tolist() == list(counts)


def test_refuses():
    with pytest.raises(InputError, match=r"n_train=1500 and n_test=500 ask for 2000 digits.*at most 1297"):
        load("digits", n_train=1500)
    with pytest.raises(InputError, match=r"n_test is 0.*>= 1 and <= 1796"):
        load("digits", n_test=0)
    with pytest.raises(InputError, match=r"A balanced n_train=1297 needs 129.*has only 124.*at most 1240"):
        load("digits", balanced=True)
