"""Ensembles against their members, trained apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import bayesrob
from bayesrob import data, nets, rng
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import HMC, SGD, SVI, Ensemble, MCDropout
from bayesrob.inference.fit_once import _digest
from bayesrob.models import BayesianNetwork

BASE = SGD(epochs=4, batch_size=30)
ways = pytest.mark.parametrize("members", ["in_turn", "batched"])
bags = pytest.mark.parametrize("bootstrap", [False, True], ids=["all data", "bootstrap"])


def own_index(seed: int, member: int, n: int) -> torch.Tensor:
    return torch.randint(n, (n,), generator=rng.generator(seed, "ensemble", member, "bootstrap"))


def apart(model: nn.Module, dataset: data.Dataset, seed: int, member: int, *, bootstrap: bool, base: SGD = BASE):
    if bootstrap:
        index = own_index(seed, member, len(dataset.x_train))
        dataset = dataclasses.replace(dataset, x_train=dataset.x_train[index], y_train=dataset.y_train[index])
    return base.fit(model, dataset, seed=rng.derive(seed, "ensemble", member))


def same(first: torch.Tensor, second: torch.Tensor, members: str) -> bool:
    return torch.equal(first, second) if members == "in_turn" else torch.allclose(first, second, rtol=1e-4, atol=2e-6)


@ways
@bags
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "bayesian"])
@pytest.mark.parametrize(
    "base", [BASE, SGD(epochs=4, lr=0.01, optimizer="sgd", weight_decay=0.1, decay=False)], ids=["a", "b"]
)
def test_each_member_is_a_fit_of_its_own(moons, members, bootstrap, wrap, base):
    """In turn to the last bit, batched up to rounding."""
    net = nets.mlp(2, (8, 4), 2)
    model = BayesianNetwork(net) if wrap else net
    post = Ensemble(3, bootstrap, base, members).fit(model, moons, seed=7)
    assert post.info["trained"] == members
    for member in range(3):
        alone = apart(model, moons, 7, member, bootstrap=bootstrap, base=base)
        assert all(same(tensor[member], alone.weights[name][0], members) for name, tensor in post.weights.items())
        record = post.info["members"][member]
        assert record["steps"] == alone.info["steps"]
        torch.testing.assert_close(record["losses"], alone.info["losses"], rtol=1e-5, atol=1e-7)


@ways
@bags
def test_regression_members(linear_gaussian, members, bootstrap):
    """On all the data every member finds the one minimum; on a bootstrap that of its own points."""
    dataset = linear_gaussian(n=40, d=3).dataset
    post = Ensemble(3, bootstrap, SGD(epochs=600, lr=0.05), members).fit(nets.mlp(3, (), 1), dataset)
    for member in range(3):
        index = own_index(0, member, 40) if bootstrap else torch.arange(40)
        design = torch.cat([dataset.x_train, torch.ones(40, 1)], 1).double()[index]
        exact = torch.linalg.lstsq(design, dataset.y_train.double()[index]).solution.flatten()
        found = torch.cat([tensor[member].flatten() for tensor in post.weights.values()]).double()
        torch.testing.assert_close(found, exact, rtol=0, atol=5e-4)


def test_bootstrap_points_are_drawn_with_replacement():
    index = Ensemble.bootstrap_index(5, 2, 1000)
    assert torch.equal(index, own_index(5, 2, 1000))
    assert 0.6 < len(index.unique()) / 1000 < 0.66  # 1 - 1/e
    assert Ensemble.member_seed(5, 2) == rng.derive(5, "ensemble", 2)


@ways
def test_members_disagree_and_a_larger_ensemble_begins_with_them(moons, members):
    small, large = (Ensemble(size, base=BASE, members=members).fit(nets.mlp(2, (8,), 2), moons) for size in (2, 4))
    for name, tensor in small.weights.items():
        assert same(tensor, large.weights[name][:2], members)
        assert (large.weights[name][0] - large.weights[name][1]).abs().max() > 0.01
    votes = large.vote(moons.x_test)
    assert ((votes > 0) & (votes < 1)).any()


def test_small_stacks_are_batched_others_in_turn(moons):
    def trained(net, base=BASE):
        return Ensemble(2, base=base).fit(net, moons).info["trained"]

    class Own(SGD):
        pass

    assert trained(nets.mlp(2, (8,), 2)) == "batched"
    assert trained(nets.mlp(2, (180, 180), 2), SGD(epochs=1)) == "in_turn"
    assert trained(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 2))) == "in_turn"
    assert trained(nets.mlp(2, (8,), 2), Own(epochs=1)) == "in_turn"


def test_other_bases_of_one_draw(moons):
    base = HMC(num_samples=1, warmup=2, step_size=0.01, num_steps=2, num_chains=1)
    model = BayesianNetwork(nets.mlp(2, (4,), 2))
    post = Ensemble(2, base=base).fit(model, moons)
    expected = base.fit(model, moons, seed=Ensemble.member_seed(0, 1))
    assert all(torch.equal(tensor[1], expected.weights[name][0]) for name, tensor in post.weights.items())
    assert post.info["base"] == "HMC"


@pytest.mark.parametrize(
    "base", [SVI(epochs=1), MCDropout(epochs=1), HMC(num_samples=2, warmup=0, step_size=0.01, num_steps=1, num_chains=1)]
)
def test_bases_of_many_draws_are_refused(moons, base):
    with pytest.raises(InputError, match="A member is one trained network"):
        Ensemble(2, base=base).fit(BayesianNetwork(nets.mlp(2, (4,), 2)), moons)


# ---- batch statistics -----------------------------------------------------------------------------------------------------


def normalised() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def test_each_member_keeps_its_batch_statistics(moons, tmp_path):
    post = Ensemble(3, base=BASE).fit(normalised(), moons, seed=1)
    assert set(post.weights) - {name for name, _ in normalised().named_parameters()} == {"1.running_mean", "1.running_var"}
    for member in range(3):
        alone = apart(normalised(), moons, 1, member, bootstrap=False)
        assert torch.equal(post.logits(moons.x_test)[member], alone.logits(moons.x_test)[0])
    loaded = bayesrob.load(post.save(tmp_path / "post"), net=normalised())
    assert torch.equal(loaded.logits(moons.x_test), post.logits(moons.x_test))
    gradient = post.input_gradient(moons.x_test, moons.y_test)
    each = [post[i].input_gradient(moons.x_test, moons.y_test) for i in range(3)]
    torch.testing.assert_close(gradient, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


# ---- what goes wrong ------------------------------------------------------------------------------------------------------


def few() -> data.Dataset:
    """Six points of very different size: the curvature, and so the largest stable step, depends on the bootstrap."""
    x = torch.tensor([[0.1], [0.2], [0.1], [0.3], [0.2], [3.0]])
    return data.from_arrays(x, x[:, 0], x, x[:, 0])


def test_a_member_that_failed_is_reported_and_the_others_are_not_disturbed():
    """With momentum 0.9 steps of 2 are stable for curvatures below 2 (1 + 0.9) / 2 = 1.9: without the large point."""
    base = SGD(epochs=2000, lr=2.0, optimizer="sgd", decay=False)
    lost = [(own_index(0, member, 6) == 5).any() for member in range(6)]
    assert 0 < sum(lost) < 6
    posts = {}
    for members in ("in_turn", "batched"):
        with pytest.warns(ConvergenceWarning, match="became NaN or infinite at step") as warned:
            posts[members] = Ensemble(6, True, base, members).fit(nets.mlp(1, (), 1), few())
        assert [str(w.message) for w in warned] == posts[members].info["notes"]
    post = posts["batched"]
    assert [note[:15] for note in post.info["notes"]] == [f"Member {i + 1} of 6: " for i in range(6) if lost[i]]
    assert all(tensor.isfinite().all() for tensor in post.weights.values())
    for name, tensor in posts["in_turn"].weights.items():
        torch.testing.assert_close(tensor, post.weights[name], rtol=1e-3, atol=1e-5)  # of the lost the last trusted
    alone, together = ([len(m["losses"]) for m in posts[way].info["members"]] for way in ("in_turn", "batched"))
    assert alone == together


@ways
def test_all_members_fail(members):
    with pytest.warns(ConvergenceWarning):
        post = Ensemble(2, base=SGD(epochs=400, lr=1e6, optimizer="sgd"), members=members).fit(nets.mlp(1, (), 1), few())
    assert len(post.info["notes"]) == 2
    assert all(tensor.isfinite().all() for tensor in post.weights.values())


@ways
def test_one_bar_at_a_time(moons, members, monkeypatch, capsys):
    monkeypatch.delenv("BAYESROB_PROGRESS", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    Ensemble(2, base=BASE, members=members).fit(nets.mlp(2, (4,), 2), moons)
    shown = capsys.readouterr().err
    assert "Ensemble" in shown
    assert "SGD" not in shown
    BASE.fit(nets.mlp(2, (4,), 2), moons)
    assert "SGD" in capsys.readouterr().err


def test_ensembles_of_different_bases_are_different_fits(moons):
    @dataclasses.dataclass(frozen=True)
    class Other(SGD):
        pass

    net = nets.mlp(2, (4,), 2)
    first, second, third = (Ensemble(base=base) for base in (SGD(), Other(), SGD(lr=0.01)))
    digests = [_digest(method, net, moons, 0, None) for method in (first, second, third)]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_bad_sizes(size):
    with pytest.raises(InputError, match="It counts the networks"):
        Ensemble(size)


def test_other_bad_settings(moons):
    with pytest.raises(InputError, match="base is"):
        Ensemble(base=SGD)
    with pytest.raises(UnknownNameError, match="Known: batched, in_turn"):
        Ensemble(members="together")
    with pytest.raises(InputError, match="other networks than stacks"):
        Ensemble(2, base=BASE, members="batched").fit(normalised(), moons)
