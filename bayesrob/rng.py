"""Random numbers: one integer seed in, independent named generators out.

Every random choice in bayesrob comes from `generator(seed, *names)`. A name is a path ("hmc", chain), so a new random
choice somewhere never shifts the numbers that another place draws, and chain 3 is the same whether 4 or 40 chains run.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from bayesrob.arguments import is_whole
from bayesrob.errors import InputError

__all__ = ["derive", "generator", "global_seed"]


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and every one of `names` (SHA-256: nearby seeds give unrelated streams)."""
    if not is_whole(seed):
        raise InputError(
            f"The seed is {seed!r}, not an integer.",
            "Results are reproducible only from a known integer.",
            "Pass seed=0.",
        )
    path = "/".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh torch generator on `device` for the stream `names` of `seed`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))


@contextlib.contextmanager
def global_seed(seed: int, *names: str | int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block and restore it afterwards.

    For code that cannot be handed a generator (layers' own initialisation, Pyro).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *names))
        yield
