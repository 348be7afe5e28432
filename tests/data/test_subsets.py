from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesrob.data import subsets
from bayesrob.errors import InputError


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.permutations(range(5)))
def test_interleave_is_a_permutation_and_balanced_up_to_the_rarest_class(labels, classes):
    labels, order = torch.tensor(labels), torch.arange(len(labels)).flip(0)
    interleaved = subsets.interleave(order, labels, torch.tensor(classes))
    assert sorted(interleaved.tolist()) == list(range(len(labels)))
    for cls in range(5):  # each class keeps its order
        members = interleaved[labels[interleaved] == cls]
        assert members.tolist() == sorted(members.tolist(), reverse=True)
    rarest = int(torch.bincount(labels, minlength=5).min())
    for count in range(1, 5 * rarest + 1):
        counts = torch.bincount(labels[interleaved[:count]], minlength=5)
        assert counts.max() - counts.min() <= 1
        subsets.check_balance("n_train", labels[interleaved[:count]], [60] * 5)


def test_interleave_by_hand():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    interleaved = subsets.interleave(torch.arange(6), labels, torch.tensor([2, 0, 1]))
    assert interleaved.tolist() == [5, 0, 3, 1, 4, 2]


def test_check_balance_says_how_far_it_can_go():
    message = "A balanced n_train=7 needs 2 images of each class, and class 2 has only 1.*at most 3"
    with pytest.raises(InputError, match=message):
        subsets.check_balance("n_train", torch.tensor([0, 0, 0, 1, 1, 1, 2]), [3, 5, 1])


@pytest.mark.parametrize("count", [1, 10, np.int64(3)])
def test_sizes_are_accepted(count):
    assert subsets.checked_counts(count, 5, 10, 10) == (count, 5)


@pytest.mark.parametrize("count", [0, -3, 11, 2.0, "5", True])
def test_sizes_are_refused(count):
    with pytest.raises(InputError, match=f"n_test is {count!r}.*>= 1 and <= 10"):
        subsets.checked_counts(5, count, 10, 10)
