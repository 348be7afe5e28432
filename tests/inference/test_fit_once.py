"""Fitted once and found again: by everything that the fit depends on, and by nothing else."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from bayesrob import data, nets
from bayesrob.errors import CheckpointError, ConvergenceWarning, InputError
from bayesrob.inference import HMC, SGD, SVI, Inference, fit_once
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws
from tests.nets.helpers import Recurrent

METHODS = {
    "HMC": HMC(num_samples=4, warmup=3, num_steps=2, num_chains=2, step_size=0.01),
    "SVI": SVI(epochs=2, num_draws=5),
    "SGD": SGD(epochs=2),
}


def network(seed: int = 0, hidden: tuple[int, ...] = (3,), activation: str = "tanh") -> nn.Module:
    return nets.mlp(2, hidden, 2, activation=activation, seed=seed)


def bayesian(**changes) -> BayesianNetwork:
    return BayesianNetwork(network(), **changes)


@pytest.fixture(scope="module")
def points():
    """Few, and everything but the training points is the same for all."""
    return data.load("half_moons", n_train=20, n_test=10, seed=0)


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """The methods that were run, as they are run."""
    found: list[str] = []
    for kind in (HMC, SVI, SGD):

        def spy(self, *arguments, run=kind._run):
            found.append(type(self).__name__)
            return run(self, *arguments)

        monkeypatch.setattr(kind, "_run", spy)
    return found


def tensors(post) -> dict[str, torch.Tensor]:
    return post.contents()[0]


@pytest.mark.parametrize("name", METHODS)
def test_the_second_call_loads_the_same_bits(name, points, tmp_path, monkeypatch):
    first = fit_once(METHODS[name], bayesian(), points, tmp_path, seed=3)

    def never(*_, **__):
        pytest.fail("trained again")

    monkeypatch.setattr(Inference, "fit", never)
    # Made anew, equal in every part.
    settings = dataclasses.replace(METHODS[name])
    again_points = data.load("half_moons", n_train=20, n_test=10, seed=0)
    second = fit_once(settings, bayesian(), again_points, str(tmp_path), seed=3)
    assert type(second) is type(first)
    ours, theirs = tensors(second), tensors(first)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    x, y = points.x_test, points.y_test
    assert torch.equal(second.logits(x, seed=1), first.logits(x, seed=1))
    assert torch.equal(second.input_gradient(x, y, seed=1), first.input_gradient(x, y, seed=1))
    assert (second.bounds, second.input_shape, second.out_features) == (first.bounds, first.input_shape, 2)
    assert second.num_draws == first.num_draws
    if isinstance(first, HeldDraws):
        assert second.num_chains == first.num_chains
        assert second.sample_stats.keys() == first.sample_stats.keys()
        for key, values in first.sample_stats.items():
            assert (second.sample_stats[key] == values).all()
            assert second.sample_stats[key].dtype == values.dtype


def test_weights_keep_their_order(points, tmp_path):
    """What takes some weights by their position takes the same from a fit and from a file."""
    made, found = (fit_once(METHODS["HMC"], bayesian(), points, tmp_path) for _ in range(2))
    assert list(found.weights) == list(made.weights) == [name for name, _ in made.net.named_parameters()]


@pytest.mark.parametrize("name", METHODS)
def test_it_is_the_method_s_own_fit(name, points, tmp_path):
    ours = fit_once(METHODS[name], bayesian(), points, tmp_path, seed=3)
    direct = METHODS[name].fit(bayesian(), points, seed=3)
    assert all(torch.equal(tensors(ours)[key], value) for key, value in tensors(direct).items())


def test_info_survives(points, tmp_path):
    method = METHODS["SVI"]
    first, second = (fit_once(method, bayesian(), points, tmp_path, seed=3) for _ in range(2))
    assert second.info == json.loads(json.dumps(first.info))
    assert second.info["method"] == "SVI"
    assert second.info["seed"] == 3
    assert second.info["settings"] == method.settings()
    assert second.info["seconds"] == first.info["seconds"]  # of the training, not of the loading
    assert second.info["losses"] == first.info["losses"]


def changed(points, part: str, index: int) -> data.Dataset:
    """The same data set but for one number."""
    values = getattr(points, part).clone()
    if values.dtype == torch.int64:
        values[index] = 1 - values[index]
    else:
        values[index, 0] = torch.nextafter(values[index, 0], torch.tensor(0.5))
    return dataclasses.replace(points, **{part: values})


OTHERS = {
    "seed": lambda p: (METHODS["SVI"], bayesian(), p, 1),
    "lr": lambda p: (dataclasses.replace(METHODS["SVI"], lr=0.0123), bayesian(), p, 0),
    "epochs": lambda p: (dataclasses.replace(METHODS["SVI"], epochs=3), bayesian(), p, 0),
    "draws": lambda p: (dataclasses.replace(METHODS["SVI"], num_draws=6), bayesian(), p, 0),
    "method": lambda p: (METHODS["SGD"], bayesian(), p, 0),
    "prior scale": lambda p: (METHODS["SVI"], bayesian(prior_scale=1.5), p, 0),
    "prior per fan in": lambda p: (METHODS["SVI"], bayesian(prior_scale="fan_in"), p, 0),
    "no prior": lambda p: (METHODS["SGD"], network(), p, 0),
    "width": lambda p: (METHODS["SVI"], BayesianNetwork(network(hidden=(4,))), p, 0),
    "depth": lambda p: (METHODS["SVI"], BayesianNetwork(network(hidden=(3, 3))), p, 0),
    "activation": lambda p: (METHODS["SVI"], BayesianNetwork(network(activation="relu")), p, 0),
    "initial weights": lambda p: (METHODS["SVI"], BayesianNetwork(network(seed=1)), p, 0),
    "a training point's last bit": lambda p: (METHODS["SVI"], bayesian(), changed(p, "x_train", 7), 0),
    "a training label": lambda p: (METHODS["SVI"], bayesian(), changed(p, "y_train", 7), 0),
    "fewer points": lambda p: (
        METHODS["SVI"],
        bayesian(),
        dataclasses.replace(p, x_train=p.x_train[:-1], y_train=p.y_train[:-1]),
        0,
    ),
    "points in another order": lambda p: (
        METHODS["SVI"],
        bayesian(),
        dataclasses.replace(p, x_train=p.x_train.flip(0), y_train=p.y_train.flip(0)),
        0,
    ),
    "bounds": lambda p: (METHODS["SVI"], bayesian(), dataclasses.replace(p, bounds=(-1.0, 2.0)), 0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_fit_is_trained_anew(name, points, tmp_path, runs):
    """And leaves the first where it was."""
    base = (METHODS["SVI"], bayesian(), points, tmp_path, 0)
    first = fit_once(*base)
    method, model, dataset, seed = OTHERS[name](points)
    assert runs == ["SVI"]
    other = fit_once(method, model, dataset, tmp_path, seed)
    assert runs == ["SVI", type(method).__name__]
    assert other.info["method"] == type(method).__name__
    assert other.info["settings"] == method.settings()
    assert len(list(tmp_path.iterdir())) == 2
    # Both are kept.
    again = fit_once(*base)
    fit_once(method, model, dataset, tmp_path, seed)
    assert len(runs) == 2
    assert all(torch.equal(tensors(again)[key], value) for key, value in tensors(first).items())


def regression():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 2, generator=generator), torch.randn(8, 1, generator=generator)
    return data.from_arrays(x, y, x, y)


def test_the_likelihood_counts(tmp_path, runs):
    net = nets.mlp(2, (), 1)
    for noise in (0.1, 0.2, 0.1):
        model = BayesianNetwork(net, likelihood="normal", noise_scale=noise)
        post = fit_once(METHODS["SVI"], model, regression(), tmp_path)
        assert post.likelihood.noise_scale == noise
    assert runs == ["SVI", "SVI"]


def test_test_points_do_not_count(points, tmp_path, runs):
    fit_once(METHODS["SVI"], bayesian(), points, tmp_path)
    other = dataclasses.replace(points, x_test=points.x_test[:3], y_test=points.y_test[:3])
    fit_once(METHODS["SVI"], bayesian(), other, tmp_path)
    assert runs == ["SVI"]


def sequences() -> data.Dataset:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(8, 4, 3, generator=generator), torch.arange(8) % 2
    return data.from_arrays(x, y, x, y)


def test_a_network_of_the_user_s_own_needs_a_key_and_is_found_by_it(tmp_path, runs):
    """What its code does is not in its weights: only the user can say that it is the same."""
    net, dataset = Recurrent(), sequences()
    with pytest.raises(InputError, match="Recurrent of your own"):
        fit_once(METHODS["SGD"], net, dataset, tmp_path)
    assert runs == []
    first, second = (fit_once(METHODS["SGD"], net, dataset, tmp_path, key="one") for _ in range(2))
    assert runs == ["SGD"]
    assert torch.equal(first.logits(dataset.x_test), second.logits(dataset.x_test))
    fit_once(METHODS["SGD"], net, dataset, tmp_path, key="two")
    assert runs == ["SGD", "SGD"]


def test_what_the_fit_warned_of_loading_warns_of_again(points, tmp_path, runs):
    """A step far too large: nearly every trajectory diverges, and whoever loads the draws must know it too."""
    method = HMC(num_samples=4, warmup=1, num_steps=5, num_chains=1, step_size=50.0)
    notes = []
    for _ in range(2):
        with pytest.warns(ConvergenceWarning) as caught:
            post = fit_once(method, bayesian(), points, tmp_path)
        notes.append([str(warning.message) for warning in caught])
        assert post.info["notes"] == notes[-1]
    assert notes[0] == notes[1] != []
    assert runs == ["HMC"]


def test_models_and_datasets_are_left_alone(points, tmp_path):
    model = bayesian()
    before = {name: parameter.clone() for name, parameter in model.net.named_parameters()}
    for _ in range(2):
        post = fit_once(METHODS["SGD"], model, points, tmp_path)
        post.double()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.net.named_parameters())
    assert next(model.net.parameters()).dtype == torch.float32


@pytest.mark.parametrize("file", ["weights.safetensors", "predictive.json"])
@pytest.mark.parametrize("damage", ["a byte", "cut", "gone"])
def test_a_damaged_file_is_not_used_nor_written_over(points, tmp_path, runs, file, damage):
    fit_once(METHODS["SGD"], bayesian(), points, tmp_path)
    (folder,) = tmp_path.iterdir()
    path = folder / file
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "gone":
        path.unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(flipped if damage == "a byte" else content[:middle])
    with pytest.raises(CheckpointError, match=file):
        fit_once(METHODS["SGD"], bayesian(), points, tmp_path)
    assert runs == ["SGD"]


def test_an_interrupted_fit_leaves_nothing_to_find(points, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:

        def interrupted(*_, **__):
            raise KeyboardInterrupt

        patched.setattr("bayesrob.weights.save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit_once(METHODS["SGD"], bayesian(), points, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fit_once(METHODS["SGD"], bayesian(), points, tmp_path).info["method"] == "SGD"


def test_the_folder_is_made_and_its_names_say_what_they_hold(points, tmp_path):
    fit_once(METHODS["SGD"], bayesian(), points, tmp_path / "a" / "b")
    (folder,) = (tmp_path / "a" / "b").iterdir()
    assert folder.name.startswith("SGD-half_moons-")


def test_what_fit_refuses_is_refused_and_not_kept(points, tmp_path):
    with pytest.raises(InputError, match="posterior needs a prior"):
        fit_once(METHODS["HMC"], network(), points, tmp_path)
    with pytest.raises(InputError):
        fit_once(METHODS["SGD"], bayesian(), points, tmp_path, seed="0")
    assert list(tmp_path.iterdir()) == []


def test_what_a_watcher_found_is_found_again(points, tmp_path):
    calls = []

    def watch(epoch, post):
        calls.append(epoch)
        return {"accuracy": float((post(points.x_test).argmax(1) == points.y_test).float().mean())}

    first = fit_once(SGD(epochs=3), network(), points, tmp_path, each_epoch=watch, key="accuracy")
    second = fit_once(SGD(epochs=3), network(), points, tmp_path, each_epoch=watch, key="accuracy")
    assert calls == [1, 2, 3]
    assert second.info["epochs"] == first.info["epochs"]
    last = float((second(points.x_test).argmax(1) == points.y_test).float().mean())
    assert second.info["epochs"][-1] == {"accuracy": last}
    fit_once(SGD(epochs=3), network(), points, tmp_path, each_epoch=watch, key="something else")
    assert calls == [1, 2, 3, 1, 2, 3]
