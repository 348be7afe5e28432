"""An evaluation against the same numbers computed by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data, evaluate, nets, rng
from bayesrob.analysis import binomial_interval, robustness
from bayesrob.attacks import FGSM, PGD, Random
from bayesrob.errors import InputError
from bayesrob.models import BayesianNetwork, Normal
from bayesrob.predictive import HeldDraws, from_modules

SCORE = rng.derive(3, "evaluate", "score")


def attack_seed(name, batch, seed=3):
    return rng.derive(seed, "evaluate", "attack", name, batch)


def test_every_number_by_hand(predictive, moons):
    attacks = {"fgsm": FGSM(eps=0.1), "pgd": PGD(eps=0.2, steps=4)}
    tree = evaluate(predictive, moons, attacks, num_points=40, seed=3, batch_size=15)
    index = torch.tensor(tree["points"]["point"].values)
    x, y = moons.x_test[index], moons.y_test[index]
    clean = predictive(x, seed=SCORE)
    found = tree["robustness"]
    assert float(found["accuracy"]) == float((clean.argmax(-1) == y).double().mean())
    np.testing.assert_array_equal(tree["points"]["label"], y)
    np.testing.assert_allclose(tree["points"]["log_probability"], clean, rtol=1e-5, atol=1e-6)
    for name, attack in attacks.items():
        starts = range(0, 40, 15)
        parts = [attack(predictive, x[i : i + 15], y[i : i + 15], attack_seed(name, n)) for n, i in enumerate(starts)]
        z = torch.cat(parts)
        scored = predictive(z, seed=SCORE)
        survived = int((scored.argmax(-1) == y).sum())
        one = found.to_dataset().sel(attack=name)
        assert float(one["adversarial_accuracy"]) == pytest.approx(survived / 40)
        assert one["adversarial_accuracy_interval"].values == pytest.approx(binomial_interval(survived, 40))
        kept = 1 - (clean.exp() - scored.exp()).abs().amax(-1).mean()
        assert float(one["softmax_robustness"]) == pytest.approx(float(kept), abs=1e-6)
        points = tree["points"].to_dataset().sel(attack=name)
        np.testing.assert_allclose(points["adversarial_log_probability"], scored, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(points["perturbation_l_inf"], (z - x).abs().amax(1), rtol=1e-6)
        np.testing.assert_allclose(points["perturbation_l_2"], (z - x).norm(dim=1), rtol=1e-6)
        np.testing.assert_allclose(points["perturbation_l_1"], (z - x).abs().sum(1), rtol=1e-6)
        np.testing.assert_allclose(points["perturbation_l_0"], (z != x).sum(1), rtol=1e-6)
        examples = tree["examples"].to_dataset()
        np.testing.assert_array_equal(examples["adversarial"].sel(attack=name), z[:10])
        np.testing.assert_array_equal(examples["clean"], x[:10])


def test_robustness_follows_from_the_points(chains, moons):
    tree = evaluate(chains, moons, num_points=None, level=0.8)
    points = tree["points"].to_dataset()
    again = robustness(points.log_probability, points.adversarial_log_probability, points.label, level=0.8)
    found = tree["robustness"].to_dataset()
    assert found.attrs == again.attrs
    for name in again.data_vars:
        xr.testing.assert_identical(found[name].drop_vars("seconds", errors="ignore"), again[name])
    assert points.attack.values.tolist() == ["random", "fgsm", "pgd", "pgd_margin"]
    assert points.sizes["point"] == 90


def test_fresh_draws_are_scored_on_draws_that_no_attack_saw(fresh, moons, monkeypatch):
    drawn = []
    resolve = type(fresh).resolve

    def spy(self, num_draws, seed):
        drawn.append(resolve(self, num_draws, seed)[1])
        return resolve(self, num_draws, seed)

    monkeypatch.setattr(type(fresh), "resolve", spy)
    attack = PGD(eps=0.1, steps=3)
    x, y = moons.x_test[:5], moons.y_test[:5]
    attack(fresh, x, y, seed=attack_seed("pgd", 0))
    attacked_with = set(drawn)
    drawn.clear()
    tree = evaluate(fresh, moons, {"pgd": attack}, num_points=5, seed=3)
    assert attacked_with <= set(drawn)  # these very draws were attacked ...
    assert SCORE in drawn
    assert SCORE not in attacked_with  # ... and others scored
    assert json.loads(tree.attrs["protocol"])["scored_on"] == "fresh draws that no attack has seen"


def test_held_draws_say_that_they_were_attacked(chains, moons):
    tree = evaluate(chains, moons, {}, num_points=2)
    assert json.loads(tree.attrs["protocol"])["scored_on"] == "the draws attacked"


def test_same_seed_same_tree_other_seed_another(predictive, moons):
    settings = {"attacks": {"pgd": PGD(eps=0.1, steps=2)}, "num_points": 20}
    torch.manual_seed(0)
    first = evaluate(predictive, moons, **settings, seed=1)
    state = torch.get_rng_state()
    predictive(moons.x_test[:2])  # the predictive's own generator does not matter
    again = evaluate(predictive, moons, **settings, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    for tree in (first, again):  # all but the clock
        tree["robustness"] = xr.DataTree(tree["robustness"].to_dataset().drop_vars("seconds"))
    xr.testing.assert_identical(first, again)
    other = evaluate(predictive, moons, **settings, seed=2)
    assert not np.array_equal(first["points"]["point"], other["points"]["point"])


def test_every_attack_and_batch_has_its_own_seed(chains, moons, recording):
    first, second = recording(), recording()
    evaluate(chains, moons, {"a": first, "b": second}, num_points=30, seed=3, batch_size=20)
    seeds = [seed for attack in (first, second) for _, _, seed in attack.calls]
    assert seeds == [attack_seed(name, batch) for name in "ab" for batch in (0, 1)]
    assert len(set(seeds)) == 4
    assert [len(x) for x, _, _ in first.calls] == [20, 10]


def test_adding_an_attack_changes_no_other(chains, moons):
    alone = evaluate(chains, moons, {"pgd": PGD(steps=2)}, num_points=20)
    both = evaluate(chains, moons, {"random": Random(), "pgd": PGD(steps=2)}, num_points=20)
    xr.testing.assert_identical(alone["points"].to_dataset(), both["points"].to_dataset().sel(attack=["pgd"]))


def test_fewer_draws(chains, fresh, moons):
    for post in (chains, fresh):
        tree = evaluate(post, moons, {}, num_points=10, num_draws=2, seed=3)
        index = tree["points"]["point"].values.copy()
        expected = post(moons.x_test[index], 2, SCORE)
        np.testing.assert_allclose(tree["points"]["log_probability"], expected, rtol=1e-5, atol=1e-6)
        assert json.loads(tree.attrs["protocol"])["num_draws"] == 2


# ---- points --------------------------------------------------------------------------------------------------------------


def test_points_of_a_sorted_set_cover_its_classes(chains, moons):
    order = moons.y_test.argsort(stable=True)
    dataset = data.from_arrays(
        moons.x_train, moons.y_train, moons.x_test[order], moons.y_test[order], bounds=(0, 1), name="sorted"
    )
    tree = evaluate(chains, dataset, {}, num_points=20)
    points = tree["points"]["point"].values.copy()
    assert len(set(points)) == 20
    assert (np.diff(points) > 0).all()  # in the order of the test set
    ones = int(tree["points"]["label"].sum())
    assert 3 <= ones <= 17
    np.testing.assert_array_equal(tree["points"]["label"], dataset.y_test[points])


@pytest.mark.parametrize("num_points", [None, 90, 500])
def test_all_points(chains, moons, num_points):
    tree = evaluate(chains, moons, {}, num_points=num_points)
    np.testing.assert_array_equal(tree["points"]["point"], np.arange(90))


def test_no_attacks(predictive, moons):
    tree = evaluate(predictive, moons, {}, num_points=10)
    assert tree["robustness"].sizes["attack"] == 0
    assert math.isfinite(float(tree["robustness"]["accuracy"]))
    assert "adversarial" not in tree["examples"]
    assert json.loads(tree.attrs["attacks"]) == {}


# ---- gradients, chains, attributes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_gradients_are_the_predictives_own(predictive, moons, objective):
    tree = evaluate(predictive, moons, {}, num_points=20, seed=3, batch_size=7)
    index = tree["points"]["point"].values.copy()
    x, y = moons.x_test[index], moons.y_test[index]
    seed = rng.derive(3, "evaluate", "gradients")
    gradient = predictive.input_gradient(x, y, objective, seed=seed)
    found = tree["gradients"].to_dataset().sel(objective=objective)
    np.testing.assert_allclose(found["norm"], gradient.norm(dim=1), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(found["zero_fraction"], np.zeros(20))
    _, error = predictive.input_gradient(x, y, objective, seed=seed, standard_error=True)
    np.testing.assert_allclose(found["standard_error"], error.norm(dim=1), rtol=1e-4, atol=1e-7)
    assert np.isnan(found["standard_error"]).all() == (predictive.num_draws == 1)


def test_a_dead_network_has_zero_gradients(moons):
    """ReLU units that no input wakes: every component of every gradient is exactly zero."""
    net = nets.mlp(2, (3,), 2)
    with torch.no_grad():
        net[1].bias.fill_(-100.0)
    tree = evaluate(from_modules([net.eval()], bounds=(0, 1)), moons, {"fgsm": FGSM()}, num_points=8)
    assert (tree["gradients"]["zero_fraction"] == 1).all()
    assert (tree["gradients"]["norm"] == 0).all()
    assert (tree["points"]["perturbation_l_inf"] == 0).all()


def test_chains_bring_their_record_and_diagnostics(chains, moons):
    tree = evaluate(chains, moons, {}, num_points=12)
    for name, values in chains.sample_stats.items():
        np.testing.assert_array_equal(tree["sample_stats"][name], values)
    np.testing.assert_array_equal(tree["diagnostics"]["divergences"], chains.sample_stats["diverging"].sum(1))
    np.testing.assert_allclose(tree["diagnostics"]["acceptance_rate"], chains.sample_stats["acceptance_rate"].mean(1))
    np.testing.assert_array_equal(tree["diagnostics"]["point"], tree["points"]["point"])
    assert tree["diagnostics"]["rhat"].shape == (12,)
    assert np.isfinite(tree["diagnostics"]["rhat"]).all()


def test_without_a_sampler_there_is_no_record(fresh, one_draw, moons):
    for post in (fresh, one_draw):
        expected = {"robustness", "points", "gradients", "examples", "checks"}
        assert set(evaluate(post, moons, {}, num_points=2).children) == expected


def test_attributes_say_what_was_done(chains, moons):
    tree = evaluate(chains, moons, {"pgd": PGD(eps=0.3, steps=2)}, num_points=5, seed=8)
    assert json.loads(tree.attrs["attacks"]) == {"pgd": PGD(eps=0.3, steps=2).settings()}
    protocol = json.loads(tree.attrs["protocol"])
    assert (protocol["dataset"], protocol["num_points"], protocol["num_draws"], protocol["seed"]) == ("half_moons", 5, 24, 8)
    recorded = json.loads(tree.attrs["predictive"])
    assert recorded["method"] == "HMC"
    assert recorded["num_draws"] == 24


@pytest.mark.parametrize("attacks", [{"fgsm": FGSM()}, {}], ids=["one", "none"])
def test_netcdf_and_back(predictive, moons, tmp_path, attacks):
    tree = evaluate(predictive, moons, attacks, num_points=6)
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), tree)


# ---- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_points": 0}, "num_points is 0"),
        ({"num_points": -3}, "num_points is -3"),
        ({"num_points": 2.5}, "num_points is 2.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": None}, "batch_size is None"),
        ({"num_draws": 0}, "num_draws is 0"),
        ({"num_draws": 25}, "Only 24 are held"),
        ({"level": 1.0}, "level is 1.0"),
        ({"level": 95}, "level is 95"),
        ({"seed": "0"}, "not an integer"),
    ],
)
def test_bad_settings_before_any_attack(chains, moons, never_run, settings, message):
    with pytest.raises(InputError, match=message):
        evaluate(chains, moons, {"never": never_run}, **settings)


def test_points_outside_the_bounds_before_any_attack(chains, moons, never_run):
    wide = data.from_arrays(moons.x_train, moons.y_train, moons.x_test * 3, moons.y_test)
    with pytest.raises(InputError, match=r"bounds are \[0, 1\]"):
        evaluate(chains, wide, {"never": never_run})


def test_labels_beyond_the_classes_before_any_attack(chains, moons, never_run):
    more = data.from_arrays(moons.x_train, moons.y_train, moons.x_test, moons.y_test + 1, bounds=(0, 1))
    with pytest.raises(InputError, match="2 classes"):
        evaluate(chains, more, {"never": never_run})


def test_inputs_of_another_shape_before_any_attack(chains, never_run):
    images = torch.rand(4, 1, 5, 5)
    other = data.from_arrays(images, torch.tensor([0, 1, 0, 1]), images, torch.tensor([0, 1, 0, 1]), bounds=(0, 1))
    with pytest.raises(InputError, match="trained on"):
        evaluate(chains, other, {"never": never_run})


def test_regression_has_no_accuracy(moons, never_run):
    model = BayesianNetwork(nets.mlp(2, (), 1), likelihood="normal")
    weights = {name: parameter[None] for name, parameter in model.net.named_parameters()}
    with pytest.raises(InputError, match="The predictive is a regression"):
        evaluate(HeldDraws(model.net, weights, likelihood=Normal()), moons, {"never": never_run})


def test_not_a_predictive_not_an_attack_not_a_dataset(chains, moons, never_run):
    with pytest.raises(InputError, match=r"evaluate got a Sequential.*from_modules"):
        evaluate(nets.mlp(2, (), 2), moons, {"never": never_run})
    with pytest.raises(InputError, match="The attack 'bad' is a function"):
        evaluate(chains, moons, {"never": never_run, "bad": lambda *_: None})
    with pytest.raises(InputError, match="The data set is a tuple"):
        evaluate(chains, (moons.x_test, moons.y_test), {"never": never_run})


def test_attacks_that_stop_have_accuracy_alone(chains, moons):
    """Points that leave once they are wrong are not pushed further: softmax robustness would be overstated."""
    attacks = {"stops": PGD(eps=0.3, stop_when_broken=True), "goes on": PGD(eps=0.3)}
    scores = evaluate(chains, moons, attacks=attacks, num_points=20)["robustness"]
    assert scores["softmax_robustness"].isnull().values.tolist() == [True, False]
    assert scores["softmax_robustness_interval"].sel(attack="stops").isnull().all()
    assert scores["adversarial_accuracy"].notnull().all()
