from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from bayesrob import rng
from bayesrob.errors import InputError


def draw(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(1000, generator=generator)


def test_derive_is_the_first_63_bits_of_sha256():
    digest = hashlib.sha256(b"7/hmc/3").digest()
    assert rng.derive(7, "hmc", 3) == int.from_bytes(digest[:8], "big") // 2
    assert 0 <= rng.derive(-5) < 2**63


def test_same_path_same_numbers():
    assert torch.equal(draw(rng.generator(0, "hmc", 1)), draw(rng.generator(0, "hmc", 1)))


def test_every_part_of_the_path_matters():
    paths = [(0,), (1,), (0, "hmc"), (0, "svi"), (0, "hmc", 0), (0, "hmc", 1), (10, "hmc"), (1, "0")]
    assert len({rng.derive(*path) for path in paths}) == len(paths)


def test_nearby_seeds_are_unrelated():
    streams = torch.stack([draw(rng.generator(seed)) for seed in range(20)])
    correlation = np.corrcoef(streams.numpy())
    assert np.abs(correlation - np.eye(20)).max() < 5 / 1000**0.5


@pytest.mark.parametrize("seed", [None, 0.0, "0", True, np.float64(1)])
def test_seed_must_be_an_integer(seed):
    with pytest.raises(InputError, match="not an integer"):
        rng.derive(seed)


def test_generator_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    draw(rng.generator(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_seed_fixes_and_restores_the_global_generator():
    before = torch.get_rng_state()
    with rng.global_seed(3, "layers"):
        first = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(11)
    with rng.global_seed(3, "layers"):
        again = torch.rand(5)
    assert torch.equal(first, again)


def test_global_seed_restores_after_an_exception():
    before = torch.get_rng_state()

    def fail():
        with rng.global_seed(3):
            torch.rand(5)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert torch.equal(torch.get_rng_state(), before)
