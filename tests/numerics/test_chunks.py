from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bayesrob import nets
from bayesrob.numerics import chunk_size, outputs_per_example, slices

TOTALS = st.integers(1, 3000)
BYTES = st.integers(0, 10_000)


@settings(deadline=None)
@given(total=TOTALS, bytes_each=BYTES, budget=st.integers(0, 100_000))
def test_chunks_cover_the_total_within_the_budget(total, bytes_each, budget):
    size = chunk_size(total, bytes_each, budget)
    assert 1 <= size <= total
    assert size == 1 or size * bytes_each <= budget
    assert [i for part in slices(total, size) for i in range(total)[part]] == list(range(total))


@settings(deadline=None)
@given(total=TOTALS, bytes_each=st.integers(1, 10_000), budget=st.integers(0, 100_000))
def test_chunks_are_as_few_as_fit_and_as_even_as_can_be(total, bytes_each, budget):
    size = chunk_size(total, bytes_each, budget)
    most = max(1, min(total, budget // bytes_each))
    number = len(list(slices(total, size)))
    assert number == len(list(slices(total, most)))
    assert size == 1 or len(list(slices(total, size - 1))) > number


def test_chunk_size_by_hand():
    assert chunk_size(100, 10, 400) == 34  # 40 would fit; three chunks of 34, 34 and 32
    assert chunk_size(100, 10, 5) == 1
    assert chunk_size(7, 1, 1000) == 7


def test_outputs_per_example_of_known_networks():
    """Flattening makes a view, so it counts nothing."""
    assert outputs_per_example(nets.mlp(3, (4, 5), 2), torch.zeros(1, 3)) == 2 * 4 + 2 * 5 + 2
    convolutions = 32 * 24**2 + 2 * 32 * 12**2 + 6 * 8**2 + 2 * 6 * 7**2
    assert outputs_per_example(nets.cnn((1, 28, 28), 6, 10), torch.zeros(1, 1, 28, 28)) == convolutions + 10


def test_outputs_per_example_counts_tuples_and_removes_its_hooks():
    net = nn.LSTM(3, 8, batch_first=True)
    assert outputs_per_example(net, torch.zeros(1, 5, 3)) == 5 * 8
    assert not net._forward_hooks


def test_outputs_per_example_is_at_least_one():
    assert outputs_per_example(nn.Flatten(), torch.zeros(1, 0)) == 1
