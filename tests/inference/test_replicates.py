"""Several models of one method against its own fits, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import data, nets, rng
from bayesrob.attacks import FGSM
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import HMC, SDR, SGD, SVI, AdversarialTraining, Replicates, fit_once
from bayesrob.inference.fit_once import place_of
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import Predictive, from_predictives
from tests.inference.moody import Moody, fits

BASE = SGD(epochs=4, batch_size=30)
METHODS = {
    "SGD": BASE,
    "AdversarialTraining": AdversarialTraining(FGSM(eps=0.05), SGD(epochs=2, batch_size=30)),
    "SVI": SVI(epochs=2, num_draws=5),
    "HMC": HMC(num_samples=3, warmup=2, num_steps=2, num_chains=2, step_size=0.01),
    "SDR": SDR(epochs=2, batch_size=30),
}
both = pytest.mark.parametrize("over", ["seeds", "disjoint_splits"])


def network() -> nn.Module:
    return nets.mlp(2, (6,), 2, activation="tanh")


class Own(nn.Sequential):
    """As if a user had defined it."""


def own_part(dataset: data.Dataset, over: str, seed: int, member: int, num_models: int) -> data.Dataset:
    """Written down once more."""
    if over == "seeds":
        return dataset
    size = len(dataset.x_train) // num_models
    order = torch.randperm(len(dataset.x_train), generator=rng.generator(seed, "replicates", "splits"))
    index = order[member * size : (member + 1) * size]
    x, y = dataset.x_train[index], dataset.y_train[index]
    return data.Dataset(dataset.name, x, y, dataset.x_test, dataset.y_test, dataset.bounds, dataset.num_classes)


def equal(first: Predictive, second: Predictive) -> bool:
    ours, theirs = first.contents()[0], second.contents()[0]
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@both
@pytest.mark.parametrize("name", METHODS)
def test_each_model_is_a_fit_of_its_own(moons, name, over):
    """To the last bit, in turn."""
    method, model = METHODS[name], BayesianNetwork(network())
    models = Replicates(method, 3, over, members="in_turn").fit(model, moons, seed=7)
    assert len(models) == 3
    for i, found in enumerate(models):
        part = own_part(moons, over, 7, i, 3)
        alone = method.fit(model, part, seed=rng.derive(7, "replicates", i))
        assert equal(found, alone)
        assert found.info["seed"] == alone.info["seed"]
        assert found.info["dataset"]["n_train"] == (100 if over == "seeds" else 33)
        assert torch.equal(found.logits(moons.x_test, seed=1), alone.logits(moons.x_test, seed=1))
    assert not equal(models[0], models[1])


@both
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "bayesian"])
def test_batched_up_to_rounding(moons, over, wrap):
    model = BayesianNetwork(network()) if wrap else network()
    way = Replicates(BASE, 3, over)
    for i, found in enumerate(way.fit(model, moons, seed=7)):
        assert found.info["trained"] == "batched"
        alone = BASE.fit(model, way.part(moons, 7, i), seed=way.member_seed(7, i))
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(found.weights[name], tensor, rtol=1e-4, atol=2e-6)
        torch.testing.assert_close(found.info["losses"], alone.info["losses"], rtol=1e-5, atol=1e-7)
        assert found.info.keys() - alone.info.keys() == {"trained"}
        for key in ("method", "settings", "seed", "dataset", "steps", "notes", "prior_scale"):
            assert found.info[key] == alone.info[key]


@pytest.mark.parametrize("members", ["in_turn", "batched"])
def test_each_split_s_least_squares(linear_gaussian, members):
    """A linear model's minimum on each part is known, and is another on each."""
    dataset = linear_gaussian(n=62, d=3).dataset
    way = Replicates(SGD(epochs=600, lr=0.05), 3, "disjoint_splits", members)
    for i, found in enumerate(way.fit(nets.mlp(3, (), 1), dataset)):
        part = own_part(dataset, "disjoint_splits", 0, i, 3)
        design = torch.cat([part.x_train, torch.ones(20, 1)], 1).double()
        exact = torch.linalg.lstsq(design, part.y_train.double()).solution.flatten()
        weights = torch.cat([tensor.flatten() for tensor in found.weights.values()]).double()
        torch.testing.assert_close(weights, exact, rtol=0, atol=5e-4)


# ---- the data of each -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_data", "num_models"), [(100, 5), (103, 5), (7, 7), (9, 2)])
def test_splits_are_disjoint_of_one_size_and_cover_all_but_the_remainder(num_data, num_models):
    way = Replicates(BASE, num_models, "disjoint_splits")
    parts = [way.split_index(4, i, num_data) for i in range(num_models)]
    assert {len(part) for part in parts} == {num_data // num_models}
    together = torch.cat(parts)
    assert len(together.unique()) == len(together) == num_models * (num_data // num_models)
    assert torch.equal(way.split_index(4, 1, num_data), parts[1])
    assert num_data < 50 or not torch.equal(way.split_index(5, 1, num_data), parts[1])


def test_fewer_splits_are_made_of_more():
    half, quarter = (Replicates(BASE, count, "disjoint_splits") for count in (2, 4))
    first = torch.cat([quarter.split_index(0, i, 100) for i in range(2)])
    assert torch.equal(half.split_index(0, 0, 100), first)


def test_of_more_seeds_the_first_are_those_of_fewer(moons):
    few, many = (Replicates(BASE, count, members="in_turn").fit(network(), moons) for count in (2, 3))
    assert all(equal(a, b) for a, b in zip(few, many, strict=False))


# ---- interrupted and taken up again ---------------------------------------------------------------------------------------


def test_an_interrupted_run_trains_only_what_is_missing(moons, tmp_path):
    moods, folder = tmp_path / "moods", tmp_path / "posteriors"
    moods.mkdir()
    way = Replicates(Moody(epochs=2, folder=str(moods)), 4)
    seeds = [way.member_seed(1, i) for i in range(4)]
    (moods / str(seeds[2])).write_text("interrupted")
    with pytest.raises(KeyboardInterrupt):
        way.fit(network(), moons, seed=1, folder=folder)
    (moods / str(seeds[2])).unlink()
    models = way.fit(network(), moons, seed=1, folder=folder)
    assert [seed for _, seed in fits(moods)] == [*seeds[:3], *seeds[2:]]
    again = way.fit(network(), moons, seed=1, folder=str(folder))
    assert len(fits(moods)) == 5
    assert all(equal(a, b) for a, b in zip(models, again, strict=True))
    assert len(list(folder.iterdir())) == 4
    fit_once(way.method, network(), moons, folder, seed=seeds[3])  # the very same fits
    assert len(fits(moods)) == 5
    Replicates(way.method, 5).fit(network(), moons, seed=1, folder=folder)  # and those of a larger set
    assert len(fits(moods)) == 6


def test_batched_models_are_found_again(moons, tmp_path):
    few, more = Replicates(BASE, 2), Replicates(BASE, 4)
    first, again = (few.fit(network(), moons, folder=tmp_path) for _ in range(2))
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    larger = more.fit(network(), moons, folder=tmp_path)
    assert all(equal(a, b) for a, b in zip(first, larger, strict=False))
    alone = BASE.fit(network(), moons, seed=more.member_seed(0, 3))
    for name, tensor in alone.weights.items():
        torch.testing.assert_close(larger[3].weights[name], tensor, rtol=1e-4, atol=2e-6)


# ---- what goes wrong ------------------------------------------------------------------------------------------------------


def test_what_a_fit_warned_of_is_said_with_its_model(tmp_path):
    x = torch.linspace(-1, 1, 6)[:, None]
    line, method = data.from_arrays(x, x[:, 0], x, x[:, 0]), SGD(epochs=400, lr=1e6, optimizer="sgd")
    for members in ("in_turn", "batched"):
        for _ in range(2):  # and when it is found again
            with pytest.warns(ConvergenceWarning) as caught:
                models = Replicates(method, 2, members=members).fit(nets.mlp(1, (), 1), line, folder=tmp_path / members)
            notes = [f"Model {i + 1} of 2: {model.info['notes'][0]}" for i, model in enumerate(models)]
            assert [str(warning.message) for warning in caught] == notes


@pytest.mark.parametrize("num_models", [1, 0, -2, 2.0, True, "5"])
def test_a_variance_needs_two_models(num_models):
    with pytest.raises(InputError, match="A variance needs two models"):
        Replicates(BASE, num_models)


def test_other_bad_input(moons, tmp_path):
    with pytest.raises(InputError, match="method is"):
        Replicates(SGD)
    with pytest.raises(UnknownNameError, match="disjoint_splits"):
        Replicates(BASE, over="splits")
    with pytest.raises(UnknownNameError, match="processes"):
        Replicates(BASE, members="process")
    with pytest.raises(InputError, match="100 training points for 101 disjoint splits"):
        Replicates(BASE, 101, "disjoint_splits").fit(network(), moons)
    with pytest.raises(InputError, match="other networks than stacks"):
        Replicates(METHODS["SVI"], members="batched").fit(BayesianNetwork(network()), moons)
    with pytest.raises(InputError, match="workers is 0"):
        Replicates(BASE).fit(network(), moons, workers=0)
    with pytest.raises(InputError, match="posterior needs a prior"):
        Replicates(METHODS["SVI"]).fit(network(), moons)
    with pytest.raises(InputError, match="network puts out"):
        Replicates(BASE).fit(nets.mlp(2, (), 3), moons)
    with pytest.raises(InputError, match="seed"):
        Replicates(BASE).fit(network(), moons, seed=0.5)
    with pytest.raises(InputError, match="Own of your own"):
        Replicates(BASE).fit(Own(nn.Linear(2, 2)), moons, folder=tmp_path)


def test_networks_of_your_own_are_kept_under_a_key(moons, tmp_path):
    net = Own(nn.Linear(2, 2))
    models = Replicates(BASE, 2).fit(net, moons, folder=tmp_path, key="one")
    places = [place_of(BASE, net, moons, tmp_path, Replicates.member_seed(0, i), key="one") for i in range(2)]
    assert all(place.exists() for place in places)
    post = from_predictives(models)
    assert torch.equal(post.logits(moons.x_test)[1], models[1].logits(moons.x_test)[0])
