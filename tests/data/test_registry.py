from __future__ import annotations

import inspect

import pytest

from bayesrob.data import Dataset, load, names
from bayesrob.data.registry import LOADERS
from bayesrob.errors import InputError, UnknownNameError


def test_names_hold_the_downloaded_sets_and_the_embedded_ones():
    assert set(names()) >= {"half_moons", "digits", "mnist", "fashion_mnist", "cifar10", "cifar100"}
    assert list(names()) == sorted(names())


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_contract_of_every_loader(name):
    parameters = inspect.signature(LOADERS[name]).parameters
    assert {"n_train", "n_test", "seed"} <= set(parameters)
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters.values())
    assert parameters["seed"].default == 0
    assert (LOADERS[name].__doc__ or "").strip()


def test_load_passes_everything_on():
    data = load("half_moons", n_train=20, n_test=10, seed=5, noise=0.3)
    assert isinstance(data, Dataset)
    assert (len(data.x_train), len(data.x_test)) == (20, 10)
    assert len(load("digits", n_test=30).x_train) == 1297


@pytest.mark.parametrize("name", sorted(LOADERS))
@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_every_loader_refuses_counts_before_reading(name, count, empty_root):
    for field in ("n_train", "n_test"):
        with pytest.raises(InputError, match=f"{field} is {count!r}"):
            load(name, **{field: count})


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Unknown data set 'fashionmnist'. .*Did you mean 'fashion_mnist'"):
        load("fashionmnist")


def test_unknown_parameters_list_the_accepted_ones():
    with pytest.raises(InputError, match=r"'half_moons' has no parameter 'nois'.*accepts: n_train, n_test, seed, noise"):
        load("half_moons", nois=0.2)


def test_seed_must_be_an_integer():
    with pytest.raises(InputError, match=r"The seed is 0.5"):
        load("half_moons", seed=0.5)  # pyright: ignore[reportArgumentType]
