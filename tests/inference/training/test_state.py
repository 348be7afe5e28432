"""A run that pauses, is saved, and goes on in a new loop ends with the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import nets
from bayesrob.attacks import FGSM, PGD
from bayesrob.inference import SDR, SGD, SVI, TRADES, AdvBNN, AdversarialTraining, DropConnect
from bayesrob.inference.training import Loop, Points
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.models import BayesianNetwork, Categorical
from tests.inference.defences import bits, digits, normalised

BRIEF = {"epochs": 3, "batch_size": 16}
SGDS = SGD(**BRIEF)
WAYS = {
    "SGD": SGDS,
    "SGD momentum": SGD(**BRIEF, optimizer="sgd", lr=0.05),
    "SVI local": SVI(**BRIEF, num_draws=4),
    "SVI shared": SVI(**BRIEF, num_draws=4, estimator="shared_draw"),
    "SVI low rank": SVI(**BRIEF, num_draws=4, guide="low_rank", rank=2),
    "SDR decay": SDR(**BRIEF, predict="draws"),
    "SDR learnable": SDR(**BRIEF, variance="learnable"),
    "DropConnect": DropConnect(**BRIEF),
    "AdversarialTraining": AdversarialTraining(PGD(eps=0.1, steps=2), SGDS),
    "AdversarialTraining combined": AdversarialTraining(FGSM(eps=0.1), SGDS, clean_weight=0.5),
    "TRADES": TRADES(steps=2, base=SGDS),
    "AdvBNN": AdvBNN(PGD(eps=0.1, steps=2), **BRIEF, initial_scale=0.05),
}
STEPS = 12  # of 60 points in minibatches of 15


def begun(method, model: nn.Module) -> Loop:
    dataset = digits()
    learner = method.learner(model, Categorical(), dataset, seed=4)
    points = Points.of(dataset, like=learner.parameters[0])
    return Loop(learner, method.schedule(len(points)), points, seed=4)


def through_plain_values(state):
    """A copy of `state` made of nothing but tensors, numbers, None, and containers of them."""
    if isinstance(state, dict):
        return {name: through_plain_values(value) for name, value in state.items()}
    if isinstance(state, list):
        return [through_plain_values(value) for value in state]
    if isinstance(state, torch.Tensor):
        return state.clone()
    assert state is None or type(state) in (int, float, bool)
    return state


def outcome(loop: Loop):
    trained = loop.trained()
    record = loop.learner.record()
    return bits(trained.predictive), trained.runs, {name: value for name, value in record.items() if name == "sigma"}


def check_same(first: Loop, second: Loop) -> None:
    (bits_1, *others_1), (bits_2, *others_2) = outcome(first), outcome(second)
    assert torch.equal(bits_1, bits_2)
    assert others_1 == others_2


@pytest.mark.parametrize("stop", [1, 4, 7], ids=["in an epoch", "at its end", "in the second"])
@pytest.mark.parametrize("name", WAYS)
def test_a_run_in_two_loops_has_the_bits_of_one(name, stop):
    model = BayesianNetwork(nets.mlp(64, (7,), 10), prior_scale=0.1)
    whole = begun(WAYS[name], model)
    whole.run()
    assert whole.done
    assert whole.step == STEPS
    first = begun(WAYS[name], model)
    first.run(until=stop)
    assert first.step == stop
    assert not first.done
    state = through_plain_values(first.state())
    first.run()  # the state is a copy
    second = begun(WAYS[name], model)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        second.restore(state)
        second.run()
    for loop in (first, second):
        check_same(whole, loop)


@pytest.mark.parametrize("method", [SGDS, SDR(**BRIEF), DropConnect(**BRIEF)], ids=["SGD", "SDR", "DropConnect"])
def test_running_statistics_and_dropout_go_on(method):
    whole, first, second = (begun(method, normalised()) for _ in range(3))
    whole.run()
    first.run(until=6)
    second.restore(through_plain_values(first.state()))
    second.run()
    check_same(whole, second)


def several(seeds: list[int], index: torch.Tensor | None, lr: float = 1e-3) -> Loop:
    dataset, net, method = digits(), nets.mlp(64, (7,), 10), SGD(**BRIEF, lr=lr, optimizer="sgd")
    generator = torch.Generator().manual_seed(0)
    starts = {
        name: torch.stack([one + 0.1 * torch.randn(one.shape, generator=generator) for _ in seeds]).detach()
        for name, one in net.named_parameters()
    }
    settings = {"example": dataset.x_train[:1], "num_data": 60, "common": {}, "starts": starts}
    learner = ClosedForm(net, net, Categorical(), **settings)
    return Loop(learner, method.schedule(60), Points.of(dataset, learner.theta, index), seed=seeds)


@pytest.mark.parametrize("stop", [2, 4, 9])
@pytest.mark.parametrize("lr", [1e-3, 1e25], ids=["good", "blows up"])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_networks_trained_in_one_batch_go_on(stop, lr, bootstrap):
    seeds = [3, 1, 4]
    index = torch.randint(60, (3, 60), generator=torch.Generator().manual_seed(1)) if bootstrap else None
    whole, first, second = (several(seeds, index, lr) for _ in range(3))
    whole.run()
    first.run(until=stop)
    second.restore(through_plain_values(first.state()))
    second.run()
    assert (None not in whole.failed_at) == (lr > 1)
    assert bits(whole.trained().predictive).isfinite().all()
    check_same(whole, second)


def test_a_watched_run_that_pauses_is_watched_once_an_epoch():
    epochs: list[int] = []
    loop = begun(SGDS, nets.mlp(64, (7,), 10))
    for stop in (3, 4, 8, None):
        loop.run(until=stop, watch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3]
    assert loop.done


def test_a_failed_run_stays_what_it_was():
    loop = begun(SGD(**BRIEF, lr=1e25, optimizer="sgd"), nets.mlp(64, (7,), 10))
    loop.run()
    again = begun(SGD(**BRIEF, lr=1e25, optimizer="sgd"), nets.mlp(64, (7,), 10))
    again.restore(through_plain_values(loop.state()))
    again.run()
    assert again.failed_at == loop.failed_at != [None]
    check_same(loop, again)
