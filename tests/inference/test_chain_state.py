"""Chains that stop between any two steps, are taken apart into tensors and numbers, and go on with the same bits."""

from __future__ import annotations

import dataclasses
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


def begin(sampler, model, dataset) -> ChainRun:
    return sampler._begin(model, dataset, seed=3)


def plain(value) -> bool:
    """Whether there is nothing but tensors and what JSON holds."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and plain(one) for name, one in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return isinstance(value, Tensor) or json.loads(json.dumps(value)) == value or value != value


@pytest.mark.parametrize("chains", ["in_turn", "batched"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_that_is_stopped_anywhere_goes_on_with_the_same_bits(name, chains, classifier, moons):
    """At every step: in the search for a step size, in a trajectory of NUTS, within a mass window, between the draws."""
    sampler = dataclasses.replace(SAMPLERS[name], chains=chains)
    whole = begin(sampler, classifier, moons)
    saved = [whole.state_dict() for _ in whole.steps()]
    assert len(saved) >= 5
    for state in saved[:: max(1, len(saved) // 12)]:
        assert plain(state)
        other = begin(sampler, classifier, moons)
        other.load_state_dict(state)
        for _ in other.steps():
            pass
        assert torch.equal(other.draws, whole.draws)
        columns = whole.columns()
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
