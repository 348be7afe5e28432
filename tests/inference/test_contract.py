"""What every inference method must do: one row in `QUICK` for a new one."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import warnings

import pytest
import torch
from torch import nn

import bayesrob
from bayesrob import data, nets
from bayesrob.attacks import FGSM, PGD
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference import METHODS, SGD, SVI, AdversarialTraining, Ensemble
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import FreshDraws

QUICK = {
    "AdvBNN": {"attack": PGD(eps=0.05, steps=2), "epochs": 3, "batch_size": 30, "num_draws": 5, "initial_scale": 0.05},
    "AdversarialTraining": {"attack": FGSM(eps=0.05), "base": SGD(epochs=3, batch_size=30), "clean_weight": 0.5},
    "DefensiveDistillation": {"base": SGD(epochs=3, batch_size=30)},
    "DropConnect": {"epochs": 3, "batch_size": 30, "num_draws": 5},
    "Ensemble": {"size": 3, "base": SGD(epochs=3, batch_size=30)},
    "HMC": {"num_samples": 3, "warmup": 3, "step_size": 0.01, "num_steps": 2, "num_chains": 2},
    "MCDropout": {"inputs": True, "epochs": 3, "batch_size": 30, "num_draws": 5},
    "NUTS": {"num_samples": 3, "warmup": 3, "step_size": 0.01, "max_tree_depth": 2, "num_chains": 2},
    "SDR": {"epochs": 3, "batch_size": 30},
    "SGD": {"epochs": 3, "batch_size": 30},
    "SVI": {"epochs": 3, "batch_size": 30, "num_draws": 5},
    "TRADES": {"eps": 0.05, "steps": 2, "base": SGD(epochs=3, batch_size=30)},
}
NUM_DRAWS = {
    "AdvBNN": 5,
    "AdversarialTraining": 1,
    "DefensiveDistillation": 1,
    "DropConnect": 5,
    "Ensemble": 3,
    "HMC": 6,
    "MCDropout": 5,
    "NUTS": 6,
    "SDR": 1,
    "SGD": 1,
    "SVI": 5,
    "TRADES": 1,
}
GOOD = {
    "AdvBNN": {"attack": FGSM(eps=0.02), "epochs": 100, "initial_scale": 0.05},
    "AdversarialTraining": {"attack": FGSM(eps=0.02), "base": SGD(epochs=60, lr=0.03)},
    "DefensiveDistillation": {"temperature": 2, "base": SGD(epochs=100, lr=0.03)},
    "DropConnect": {"lr": 0.01},
    "Ensemble": {"size": 2},
    "HMC": {"num_samples": 40, "warmup": 60, "num_steps": 10, "num_chains": 1, "step_jitter": 0.3},
    "MCDropout": {"lr": 0.01},
    "NUTS": {"num_samples": 40, "warmup": 60, "num_chains": 1, "max_tree_depth": 6},
    "SDR": {"epochs": 200},
    "SGD": {},
    "SVI": {},
    "TRADES": {"beta": 1, "eps": 0.02, "steps": 2, "base": SGD(epochs=60, lr=0.03)},
}
CLASSES_ONLY = {"DefensiveDistillation"}

each_method = pytest.mark.parametrize("method", sorted(METHODS))


def quick(method):
    return METHODS[method](**QUICK[method])


def plain(settings):
    return {key: value.settings() if hasattr(value, "settings") else value for key, value in settings.items()}


def outputs(post, dataset):
    """Bits that any difference of the draws would change."""
    return post.freeze(seed=0).logits(dataset.x_test)


def test_every_method_has_its_row():
    assert set(QUICK) == set(NUM_DRAWS) == set(GOOD) == set(METHODS)


@each_method
def test_same_seed_same_bits_other_seed_others(method, classifier, moons):
    first, again, other = (quick(method).fit(classifier, moons, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(outputs(first, moons), outputs(again, moons))
    assert not torch.equal(outputs(first, moons), outputs(other, moons))
    if isinstance(first, FreshDraws):  # also the predictive's own generator
        assert torch.equal(first(moons.x_test), again(moons.x_test))


@each_method
def test_global_generator_does_not_matter_and_is_left_alone(method, classifier, moons):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = quick(method).fit(classifier, moons)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(outputs(quick(method).fit(classifier, moons), moons), outputs(first, moons))


@each_method
def test_torch_settings_are_left_alone(method, classifier, moons):
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    quick(method).fit(classifier, moons)
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()) == before


@each_method
def test_callers_grad_mode_does_not_matter(method, classifier, moons):
    expected = outputs(quick(method).fit(classifier, moons), moons)
    with torch.no_grad():
        post = quick(method).fit(classifier, moons)
        assert not torch.is_grad_enabled()
    assert torch.equal(outputs(post, moons), expected)


@each_method
def test_callers_default_dtype_does_not_matter(method, classifier, moons):
    """Noise is drawn in float32 whatever the default is."""
    expected = quick(method).fit(classifier, moons)
    torch.set_default_dtype(torch.float64)
    try:
        post = quick(method).fit(classifier, moons)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(outputs(post, moons), outputs(expected, moons))


@each_method
@pytest.mark.parametrize("training", [True, False])
def test_model_and_data_are_not_modified(method, moons, training):
    net = nets.mlp(2, (4,), 2)
    model = BayesianNetwork(net).train(training)
    arrays = (moons.x_train, moons.y_train, moons.x_test, moons.y_test)
    before = [tensor.clone() for tensor in (*model.state_dict().values(), *arrays)]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    quick(method).fit(model, moons)
    assert all(map(torch.equal, before, (*model.state_dict().values(), *arrays)))
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_settings_are_the_fields():
    svi = SVI(epochs=3, khat_draws=0)
    assert svi.settings() == dataclasses.asdict(svi)
    ensemble = Ensemble(base=SGD(epochs=2))
    assert ensemble.settings() == dataclasses.asdict(ensemble)
    attack = FGSM(eps=0.07)
    expected = {"attack": attack.settings(), "base": dataclasses.asdict(svi), "clean_weight": 0.25}
    assert AdversarialTraining(attack, svi, 0.25).settings() == expected


@each_method
def test_info_records_how(method, classifier, moons):
    info = quick(method).fit(classifier, moons, seed=9).info
    assert info["method"] == method
    assert info["settings"] == quick(method).settings()
    assert info["settings"] == {**info["settings"], **plain(QUICK[method])}
    assert info["seed"] == 9
    assert info["dataset"] == {"name": "half_moons", "n_train": 100}
    assert info["prior_scale"] == 1.0
    assert info["versions"] == {"bayesrob": bayesrob.__version__, "torch": torch.__version__}
    assert info["notes"] == []
    assert info["seconds"] > 0
    assert json.loads(json.dumps(info)) == info


@each_method
def test_predictive_knows_its_data(method, classifier, moons):
    post = quick(method).fit(classifier, moons)
    assert post.num_draws == NUM_DRAWS[method]
    assert post.logits(moons.x_test[:3]).shape == (NUM_DRAWS[method], 3, 2)
    assert post.bounds == (0.0, 1.0)
    assert post.input_shape == (2,)
    assert post.out_features == 2
    assert post.likelihood.name == "categorical"


@each_method
def test_regression(method, linear_gaussian):
    exact = linear_gaussian()
    if method in CLASSES_ONLY:
        refused(method, exact.model, exact.dataset, f"{method} in regression")
        return
    post = quick(method).fit(exact.model, exact.dataset)
    assert post.likelihood.spec() == {"name": "normal", "noise_scale": 0.5}
    torch.testing.assert_close(post.freeze(seed=0)(exact.dataset.x_test), outputs(post, exact.dataset).mean(0))


@each_method
def test_fitted_draws_survive_the_disk(method, classifier, moons, tmp_path: pathlib.Path):
    post = quick(method).fit(classifier, moons)
    loaded = bayesrob.load(post.save(tmp_path / "post"))
    assert loaded.info == json.loads(json.dumps(post.info))
    assert loaded.num_draws == post.num_draws
    assert torch.equal(outputs(loaded, moons), outputs(post, moons))
    fresh = quick(method).fit(classifier, moons)  # whose own generator has not moved yet
    assert torch.equal(loaded(moons.x_test), fresh(moons.x_test))


@each_method
def test_progress_bar_changes_nothing(method, classifier, moons, monkeypatch, capsys):
    monkeypatch.setenv("BAYESROB_PROGRESS", "0")
    silent = quick(method).fit(classifier, moons)
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("BAYESROB_PROGRESS")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = quick(method).fit(classifier, moons)
    assert method in capsys.readouterr().err
    assert torch.equal(outputs(shown, moons), outputs(silent, moons))


@each_method
def test_half_moons_are_learnt(method):
    moons = data.load("half_moons", n_train=1000, n_test=300, seed=0)
    model = BayesianNetwork(nets.mlp(2, (32, 32), 2, activation="leaky_relu"))
    with warnings.catch_warnings():
        # One of so few trajectories may diverge, on some processors: it is told, and what is asked here is what is learnt.
        warnings.simplefilter("ignore", ConvergenceWarning)
        post = METHODS[method](**GOOD[method]).fit(model, moons, seed=0)
    accuracy = (post(moons.x_test).argmax(-1) == moons.y_test).float().mean()
    assert accuracy > 0.9


# ---- bad input ------------------------------------------------------------------------------------------------------------


def refused(method, model, dataset, message):
    with pytest.raises(InputError, match=message):
        quick(method).fit(model, dataset)


@each_method
def test_wrong_output_width(method, moons):
    refused(method, BayesianNetwork(nets.mlp(2, (4,), 3)), moons, r"puts out \(3,\) values, 'half_moons' needs \(2,\)")


@each_method
def test_wrong_input_size(method, moons):
    refused(method, BayesianNetwork(nets.mlp(5, (4,), 2)), moons, r"fails on an input of shape \(2,\)")


@each_method
def test_regression_data_with_a_categorical_model(method, linear_gaussian):
    model = BayesianNetwork(nets.mlp(2, (4,), 1))
    refused(method, model, linear_gaussian().dataset, "likelihood is categorical, the data set 'mine' has real-valued")


@each_method
def test_classes_with_a_normal_model(method, moons):
    model = BayesianNetwork(nets.mlp(2, (4,), 2), likelihood="normal")
    refused(method, model, moons, "likelihood is normal, the data set 'half_moons' has 2 classes")


@each_method
def test_not_a_dataset(method, classifier, moons):
    refused(method, classifier, (moons.x_train, moons.y_train), "The data set is a tuple")


@each_method
def test_not_a_network(method, moons):
    refused(method, "mlp", moons, "The model is a str")


@each_method
def test_a_network_that_raises_any_error_is_explained(method, moons):
    """Batch statistics of the wrong rank are a ValueError in torch, a wrong index an IndexError."""

    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            raise ValueError("expected 4D input (got 2D input)")

    refused(method, BayesianNetwork(Picky()), moons, "expected 4D input")


@each_method
@pytest.mark.parametrize("seed", ["0", 1.0, True, None])
def test_seed_is_an_integer(method, classifier, moons, seed):
    with pytest.raises(InputError, match="not an integer"):
        quick(method).fit(classifier, moons, seed=seed)
