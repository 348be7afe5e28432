"""Transfer among linear classifiers, where it is known in closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data, evaluate, nets, rng
from bayesrob.analysis import binomial_interval
from bayesrob.attacks import FGSM, PGD, DeepFool
from bayesrob.errors import InputError
from bayesrob.evaluation import transfer_matrix
from bayesrob.models import BayesianNetwork, Normal
from bayesrob.predictive import HeldDraws

EPS = 0.2
DISTANCES = torch.tensor([0.05, 0.1, 0.15, 0.25, 0.3])
"""To each boundary; three lie within eps."""


def linear(*direction: float, bounds=(-2, 2)) -> HeldDraws:
    """Class 1 where direction . x > 0."""
    w = torch.tensor(direction, dtype=torch.float32)
    weights = {"1.weight": torch.stack([-w, w])[None], "1.bias": torch.zeros(1, 2)}
    return HeldDraws(nets.mlp(2, (), 2), weights, bounds=bounds, input_shape=(2,))


@pytest.fixture
def dataset() -> data.Dataset:
    """Every pair of distances from the two axes, on the side of class 1 of both."""
    x = torch.cartesian_prod(DISTANCES, DISTANCES)
    y = torch.ones(len(x), dtype=torch.int64)
    return data.from_arrays(x, y, x, y, bounds=(-2, 2), num_classes=2)


@pytest.fixture
def predictives() -> dict[str, HeldDraws]:
    """Two alike but for their scale, one orthogonal, one that is the other way round (and wrong everywhere)."""
    return {"a": linear(1, 0), "steep": linear(3, 0), "orthogonal": linear(0, 1), "opposite": linear(-1, 0)}


@pytest.fixture
def matrix(predictives, dataset) -> xr.Dataset:
    return transfer_matrix(predictives, dataset, FGSM(eps=EPS), num_points=None)


def test_equal_directions_transfer_in_full_and_orthogonal_ones_not_at_all(matrix):
    found = matrix["adversarial_accuracy"]
    for source, target in (("a", "a"), ("a", "steep"), ("steep", "a"), ("orthogonal", "orthogonal")):
        assert float(found.sel(source=source, target=target)) == pytest.approx(2 / 5)
    for source, target in (("a", "orthogonal"), ("steep", "orthogonal"), ("orthogonal", "a"), ("orthogonal", "steep")):
        assert float(found.sel(source=source, target=target)) == 1.0


def test_what_lowers_one_s_margin_raises_the_opposite_s(matrix):
    found = matrix.sel(source="a", target="opposite")
    assert float(matrix["accuracy"].sel(target="opposite")) == 0.0
    assert float(found["adversarial_accuracy"]) == pytest.approx(3 / 5)  # put right by an attack on another
    assert int(found["both_right"]) == 0
    assert np.isnan(found["both_right_accuracy"])
    assert np.isnan(found["both_right_accuracy_interval"]).all()


def test_intervals_are_wilson_s(matrix):
    found = matrix.sel(source="a", target="steep")
    for name in ("adversarial_accuracy", "both_right_accuracy"):
        np.testing.assert_allclose(found[f"{name}_interval"], binomial_interval(10, 25))
    np.testing.assert_allclose(matrix["accuracy_interval"].sel(target="a"), binomial_interval(25, 25))
    assert matrix["bound"].values.tolist() == ["lower", "upper"]
    assert matrix["adversarial_accuracy"].dims == ("source", "target")


def test_only_points_that_both_had_right(dataset):
    """The source's boundary lies at x_1 = 0.12, so that two fifths are wrong before; the target stands on x_0 alone."""
    weights = {"1.weight": torch.tensor([[[0.0, -1.0], [0.0, 1.0]]]), "1.bias": torch.tensor([[0.12, -0.12]])}
    source = HeldDraws(nets.mlp(2, (), 2), weights, bounds=(-2, 2), input_shape=(2,))
    found = transfer_matrix({"source": source, "target": linear(1, 0)}, dataset, FGSM(eps=EPS), num_points=None)
    np.testing.assert_allclose(found["accuracy"], [3 / 5, 1])
    np.testing.assert_array_equal(found["both_right"], [[15, 15], [15, 25]])
    # On the target itself: x_0 above 0.2 for two fifths of all, whichever points are counted.
    np.testing.assert_allclose(found["both_right_accuracy"], [[0, 1], [1, 2 / 5]], atol=1e-12)
    np.testing.assert_allclose(found["adversarial_accuracy"], [[0, 1], [3 / 5, 2 / 5]], atol=1e-12)
    np.testing.assert_allclose(found["both_right_accuracy_interval"][1, 1], binomial_interval(10, 25))


def test_the_diagonal_is_the_attack_itself_batch_by_batch(chains, fresh, moons, monkeypatch):
    monkeypatch.setattr("bayesrob.evaluation.transfer.BATCH", 16)
    attack = PGD(eps=0.2, steps=3)
    found = transfer_matrix({"chains": chains, "fresh": fresh}, moons, attack, num_points=40, seed=3)
    whole = evaluate(chains, moons, {}, num_points=40, seed=3)
    index = torch.tensor(whole["points"]["point"].values)
    x, y = moons.x_test[index], moons.y_test[index]
    assert float(found["accuracy"].sel(target="chains")) == float(whole["robustness"]["accuracy"])
    score = rng.derive(3, "evaluate", "score")
    for name, source in (("chains", chains), ("fresh", fresh)):
        parts = [
            attack(source, x[i : i + 16], y[i : i + 16], rng.derive(3, "transfer", "attack", name, n))
            for n, i in enumerate(range(0, 40, 16))
        ]
        for other, target in (("chains", chains), ("fresh", fresh)):
            expected = (target(torch.cat(parts), seed=score).argmax(-1) == y).double().mean()
            at = found["adversarial_accuracy"].sel(source=name, target=other)
            assert float(at) == pytest.approx(float(expected))


def test_the_same_seed_gives_the_same_and_settings_are_written_down(chains, fresh, moons, tmp_path):
    settings = {"num_points": 20, "seed": 1, "num_draws": 3}
    first, again = (transfer_matrix({"c": chains, "f": fresh}, moons, PGD(steps=2), **settings) for _ in range(2))
    xr.testing.assert_identical(first, again)
    written = json.loads(first.attrs["transfer"])
    assert written["attack"] == PGD(steps=2).settings()
    assert (written["num_points"], written["num_draws"], written["seed"]) == (20, 3, 1)
    first.to_netcdf(tmp_path / "matrix.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "matrix.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), first)


def test_another_predictive_changes_no_other(predictives, dataset, matrix):
    few = transfer_matrix({name: predictives[name] for name in ("a", "orthogonal")}, dataset, FGSM(eps=EPS), num_points=None)
    xr.testing.assert_identical(few, matrix.sel(source=["a", "orthogonal"], target=["a", "orthogonal"]))


def test_smallest_perturbations_can_be_transferred_too(predictives, dataset):
    names = ("a", "steep", "orthogonal")
    found = transfer_matrix({name: predictives[name] for name in names}, dataset, DeepFool(), num_points=None)
    np.testing.assert_allclose(found["adversarial_accuracy"], [[0, 0, 1], [0, 0, 1], [1, 1, 0]])


# ---- bad input -----------------------------------------------------------------------------------------------------------


def test_bad_input_before_any_attack(chains, moons, never_run):
    good = {"chains": chains}
    for bad, message in (
        (({}, moons, never_run), "no predictives"),
        ((chains, moons, never_run), "no predictives"),
        (({"net": nets.mlp(2, (), 2)}, moons, never_run), r"transfer_matrix got a Sequential.*from_modules"),
        ((good, moons.x_test, never_run), "The data set is a Tensor"),
        ((good, moons, "pgd"), "The attack is a str"),
        (({**good, "unbounded": linear(1, 0, bounds=None)}, moons, never_run), "unbounded has the bounds None"),
    ):
        with pytest.raises(InputError, match=message):
            transfer_matrix(*bad)
    for settings, message in (
        ({"num_points": 0}, "num_points is 0"),
        ({"num_draws": 25}, "Only 24 are held"),
        ({"seed": "0"}, "not an integer"),
    ):
        with pytest.raises(InputError, match=message):
            transfer_matrix(good, moons, never_run, **settings)
    model = BayesianNetwork(nets.mlp(2, (), 1), likelihood="normal")
    weights = {name: parameter[None] for name, parameter in model.net.named_parameters()}
    with pytest.raises(InputError, match="post is a regression"):
        transfer_matrix({"post": HeldDraws(model.net, weights, likelihood=Normal(), bounds=(0, 1))}, moons, never_run)
