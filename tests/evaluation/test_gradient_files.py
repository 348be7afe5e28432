"""Averaged gradients on disk, their records, and bad input."""

from __future__ import annotations

import json

import pytest
import torch
import xarray as xr

from bayesrob import data, nets
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.evaluation import Results, evaluate_gradients
from bayesrob.predictive import GaussianDraws, HeldDraws, Predictive

# ---- files, records, bad input -------------------------------------------------------------------------------------------


def test_netcdf_and_back(case, moons, tmp_path):
    predictive, prefixes, _ = case
    tree = evaluate_gradients(predictive, moons, 6, prefixes, seed=4)
    Results(tmp_path, "s", "t", {}).tree("gradients", tree, "caption")
    with xr.open_datatree(tmp_path / "gradients.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), tree)


def test_attributes_say_what_was_done(chains, moons):
    tree = evaluate_gradients(chains, moons, 5, [2, 4], ["float64"], seed=8)
    settings = json.loads(tree.attrs["evaluation"])
    assert (settings["num_points"], settings["num_draws"], settings["seed"]) == (5, [2, 4], 8)
    assert settings["precisions"] == ["float64"]
    assert json.loads(tree.attrs["predictive"])["method"] == "HMC"
    assert tree["statistics"].attrs["draws"] == "3 chains, batch means"


@pytest.fixture
def no_work(monkeypatch):
    """Fails if a gradient is taken or a draw made."""

    def never(*_, **__):
        pytest.fail("work began before the arguments were checked")

    for kind in (Predictive, HeldDraws, GaussianDraws):
        monkeypatch.setattr(kind, "draw_gradients", never)
    for kind in (HeldDraws, GaussianDraws):
        monkeypatch.setattr(kind, "freeze", never)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_draws": []}, "num_draws"),
        ({"num_draws": [25]}, "25.*24 draws"),
        ({"num_draws": [10, 5]}, "num_draws"),
        ({"num_draws": [5, 5]}, "num_draws"),
        ({"num_draws": [0, 5]}, "num_draws"),
        ({"num_draws": [-1, 5]}, "num_draws"),
        ({"num_draws": [2.5, 5]}, "num_draws"),
        ({"num_images": -1}, "num_images is -1"),
        ({"num_points": 0}, "num_points is 0"),
        ({"num_points": -3}, "num_points is -3"),
        ({"num_points": 2.5}, "num_points is 2.5"),
        ({"precisions": []}, "precisions"),
        ({"seed": "0"}, "not an integer"),
    ],
)
def test_bad_settings_before_any_work(chains, moons, no_work, settings, message):
    with pytest.raises(InputError, match=message):
        evaluate_gradients(chains, moons, **{"num_points": 5, "num_draws": [2, 4], **settings})


def test_prefixes_that_nobody_asked_for_are_the_paper_s_that_can_be_had(chains, fresh, moons):
    held = evaluate_gradients(chains, moons, 2, precisions="float32")["statistics"]
    assert held["num_draws"].values.tolist() == [1, 10]
    assert held["precision"].values.tolist() == ["float32"]
    drawn = evaluate_gradients(fresh, moons, 2, precisions=["float32"])["statistics"]
    assert drawn["num_draws"].values.tolist() == [1, 10, 50, 100, 250, 500]


def test_unknown_precision_before_any_work(chains, moons, no_work):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'float64'"):
        evaluate_gradients(chains, moons, 5, [2], ["float46"])


def test_data_that_do_not_fit_before_any_work(chains, moons, no_work):
    wide = data.from_arrays(moons.x_train, moons.y_train, moons.x_test * 3, moons.y_test)
    with pytest.raises(InputError, match=r"bounds are \[0, 1\]"):
        evaluate_gradients(chains, wide, 90, [2])
    more = data.from_arrays(moons.x_train, moons.y_train, moons.x_test, moons.y_test + 1, bounds=(0, 1))
    with pytest.raises(InputError, match="2 classes"):
        evaluate_gradients(chains, more, 90, [2])
    images = torch.rand(4, 1, 5, 5)
    other = data.from_arrays(images, torch.tensor([0, 1, 0, 1]), images, torch.tensor([0, 1, 0, 1]), bounds=(0, 1))
    with pytest.raises(InputError, match="trained on"):
        evaluate_gradients(chains, other, 4, [2])


def test_not_a_predictive_not_a_dataset(chains, moons):
    with pytest.raises(InputError, match="Sequential"):
        evaluate_gradients(nets.mlp(2, (), 2), moons, 5, [2])
    with pytest.raises(InputError, match="tuple"):
        evaluate_gradients(chains, (moons.x_test, moons.y_test), 5, [2])
