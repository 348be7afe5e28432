"""Chains that stop between any two steps, are taken apart into tensors and numbers, and go on with the same bits."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from bayesrob.inference import HMC, NUTS
from bayesrob.inference.chains import ChainRun, pack, unpack

SHORT = {"num_samples": 3, "num_chains": 2}
SAMPLERS = {
    "HMC": HMC(**SHORT, warmup=3, num_steps=2),
    "HMC fixed": HMC(**SHORT, warmup=2, num_steps=2, step_size=0.02),
    "HMC mass": HMC(**SHORT, warmup=12, num_steps=2, adapt_mass=True),  # its window runs from transition 1 to 10
    "NUTS": NUTS(**SHORT, warmup=3, max_tree_depth=3),
    "NUTS mass": NUTS(**SHORT, warmup=12, max_tree_depth=2, adapt_mass=True, step_size=0.02),
}
PLACES = {
    "HMC": {"search"},
    "HMC fixed": set(),
    "HMC mass": {"search", "mass window", "draws"},
    "NUTS": {"search", "trajectory"},
    "NUTS mass": {"trajectory", "mass window", "draws"},
}
"""Where a run of each must have been stopped."""


def begin(sampler, model, dataset) -> ChainRun:
    return sampler._begin(model, dataset, seed=3)


def plain(value) -> bool:
    """Whether there is nothing but tensors and what JSON holds."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and plain(one) for name, one in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return isinstance(value, Tensor) or json.loads(json.dumps(value)) == value or value != value


def within(saved: dict) -> set[str]:
    """What the saved chains are in the middle of."""
    places = set()
    for state in saved["states"]:
        searches, done = state["search"], state["done"]
        places |= {"search" for search in searches if search is not None and search["momentum"] is not None}
        places |= {"trajectory" for one in state.get("trajectories", []) if one is not None and one["steps"]}
        if state["variance"] is not None:
            places |= {"mass window" for count in state["variance"]["count"] if count}
        places |= {"draws" for count in done if count > 12}
    return places


@pytest.mark.parametrize("chains", ["in_turn", "batched"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_that_is_stopped_anywhere_goes_on_with_the_same_bits(name, chains, classifier, moons):
    """In a run that began with another seed, through torch's own files, which hold nothing but tensors and plain values."""
    sampler = dataclasses.replace(SAMPLERS[name], chains=chains)
    whole = begin(sampler, classifier, moons)
    stops: list[dict] = []
    expected: set[str] = set()
    for number, _ in enumerate(whole.steps()):
        state = whole.state_dict()
        places = within(state)
        # Every place for the first time, and every few steps besides.
        if places - expected or number % 9 == 1:
            stops.append(state)
        expected |= places
    assert expected >= PLACES[name]
    columns = whole.columns()
    for state in stops:
        assert plain(state)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        other = sampler._begin(classifier, moons, seed=4)
        other.load_state_dict(torch.load(file, weights_only=True))
        for _ in other.steps():
            pass
        assert torch.equal(other.draws, whole.draws)
        assert columns.keys() == other.columns().keys()
        for statistic, values in other.columns().items():
            np.testing.assert_array_equal(values, columns[statistic])


def test_what_was_saved_stays_as_it_was(classifier, moons):
    run = begin(SAMPLERS["HMC"], classifier, moons)
    steps = run.steps()
    next(steps)
    saved = run.state_dict()
    before = saved["states"][0]["point"]["theta"].clone()
    for _ in steps:
        pass
    assert torch.equal(saved["states"][0]["point"]["theta"], before)
    assert not torch.equal(run.states[0].point.theta, before)


def test_a_generator_goes_on_where_it_was():
    generator = torch.Generator().manual_seed(5)
    torch.rand(3, generator=generator)
    copy = unpack(pack([generator]))[0]
    assert torch.equal(torch.rand(4, generator=copy), torch.rand(4, generator=generator))


def test_a_state_of_something_else_is_refused():
    with pytest.raises(TypeError, match="cannot hold a object"):
        pack([object()])
