from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesrob
from bayesrob import nets, weights
from bayesrob.errors import CheckpointError
from bayesrob.models import BayesianNetwork, Normal
from bayesrob.predictive import HeldDraws
from bayesrob.predictive.base import KINDS
from tests.predictive.helpers import data, gaussian, held, masked, network
from tests.predictive.test_fresh import low_rank

STATS = {"energy": np.arange(8.0).reshape(2, 4), "diverging": np.array([[False, True, False, False]] * 2)}
MAKERS = {
    "held": lambda name="mlp", **common: held(name, 8, num_chains=2, sample_stats=STATS, **common),
    "gaussian": lambda name="mlp", **common: gaussian(name, 8, seed=11, **common),
    "masked": lambda name="mlp", **common: masked(name, 8, seed=11, **common),
    "low_rank_gaussian": lambda name="mlp", **common: low_rank(name, 8, seed=11, **common),
}


def test_every_kind_is_tested():
    beside = {"random_resize_pad", "modules", "preprocessed"}  # of images alone, and what cannot be saved: tested elsewhere
    assert KINDS.keys() >= MAKERS.keys() | beside
    assert {kind for kind, known in KINDS.items() if known.__module__.startswith("bayesrob.")} == MAKERS.keys() | beside


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("kind", MAKERS)
def test_round_trip_is_bit_identical(tmp_path, kind, name, dtype):
    info = {"method": "HMC", "seed": 3, "settings": {"step_size": 0.01}}
    post = MAKERS[kind](name, dtype=dtype, bounds=(0, 1), info=info)
    x, _ = data(name, dtype=dtype)
    post.logits(x)  # the own generator moves on; the saved one starts where the fit left it
    post.save(tmp_path / "post")
    again = bayesrob.load(tmp_path / "post")
    assert type(again) is type(post)
    assert torch.equal(again.logits(x, seed=5), post.logits(x, seed=5))
    assert torch.equal(again.logits(x), MAKERS[kind](name, dtype=dtype).logits(x))
    assert (again.bounds, again.input_shape, again.out_features) == (post.bounds, post.input_shape, post.out_features)
    assert (again.info, again.likelihood, again.num_draws) == (info, post.likelihood, 8)


def test_chains_and_their_record_are_kept(tmp_path):
    MAKERS["held"]().save(tmp_path / "post")
    again = bayesrob.load(tmp_path / "post")
    assert again.num_chains == 2
    assert again.sample_stats.keys() == STATS.keys()
    for name, values in STATS.items():
        assert again.sample_stats[name].dtype == values.dtype
        np.testing.assert_array_equal(again.sample_stats[name], values)


def test_regression_is_kept(tmp_path):
    held(likelihood=Normal(0.7)).save(tmp_path / "post")
    assert bayesrob.load(tmp_path / "post").likelihood == Normal(0.7)


def test_one_flat_draw_is_saved(tmp_path):
    """Its parameters are views of one storage."""
    model = BayesianNetwork(network())
    theta = torch.randn(1, model.num_weights, generator=torch.Generator().manual_seed(0))
    post = HeldDraws(model.net, model.unflatten(theta))
    post.save(tmp_path / "post")
    x, _ = data(dtype=torch.float32)
    assert torch.equal(bayesrob.load(tmp_path / "post").logits(x), post.logits(x))


@pytest.mark.parametrize("index", [slice(None, None, 2), slice(3), 5, slice(None, None, -1)])
def test_a_part_is_saved(tmp_path, index):
    post = held()[index]
    post.save(tmp_path / "post")
    x, _ = data()
    assert torch.equal(bayesrob.load(tmp_path / "post").logits(x), post.logits(x))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_network_of_the_users_own_must_be_passed_again(tmp_path, kind):
    post = MAKERS[kind]("lstm")
    post.save(tmp_path / "post")
    with pytest.raises(CheckpointError, match=r"Recurrent.*load\(path, net=...\)"):
        bayesrob.load(tmp_path / "post")
    x, _ = data("lstm")
    given = network("lstm")
    before = [parameter.clone() for parameter in given.parameters()]
    assert torch.equal(bayesrob.load(tmp_path / "post", net=given).logits(x, seed=2), post.logits(x, seed=2))
    assert all(torch.equal(was, now) for was, now in zip(before, given.parameters(), strict=True))


class Shifted(nn.Module):
    """A network with a buffer that its outputs depend on."""

    def __init__(self, shift: torch.Tensor):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("shift", shift)

    def forward(self, x):
        return self.linear(x) + self.shift


def test_buffers_are_kept(tmp_path):
    net = Shifted(torch.arange(4.0))
    post = HeldDraws(net, {name: parameter[None] for name, parameter in net.named_parameters()})
    post.save(tmp_path / "post")
    x = torch.ones(2, 3)
    assert torch.equal(bayesrob.load(tmp_path / "post", net=Shifted(torch.zeros(4))).logits(x), post.logits(x))
    with pytest.raises(CheckpointError):
        bayesrob.load(tmp_path / "post", net=Shifted(torch.zeros(1)))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "wrong", [lambda: nets.mlp(6, (4,), 4), lambda: nets.mlp(6, (5, 5), 4), lambda: nets.cnn((1, 16, 16), 2, 4)]
)
def test_weights_that_do_not_fit_the_network(tmp_path, kind, wrong):
    MAKERS[kind]().save(tmp_path / "post")
    with pytest.raises(CheckpointError):
        bayesrob.load(tmp_path / "post", net=wrong())


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "modules"},
        {"kind": ["held"]},
        {"net": {"architecture": "resnet19"}},
        {"net": {"architecture": "mlp", "depth": 3}},
        {"net": 3},
        {"likelihood": {"name": "poisson"}},
        {"likelihood": "categorical"},
        {"likelihood": {"name": "normal", "noise_scale": -1.0}},
        {"bounds": 1},
        {"bounds": [1, 0]},
        {"input_shape": 4},
        {"values": {}},
        {"values": None},
        {"info": 3},
    ],
)
@pytest.mark.parametrize("kind", MAKERS)
def test_an_edited_description(tmp_path, kind, change):
    MAKERS[kind]().save(tmp_path / "post")
    file = tmp_path / "post" / "predictive.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError):
        bayesrob.load(tmp_path / "post")


@pytest.mark.parametrize("key", ["kind", "net", "likelihood", "bounds", "input_shape", "out_features", "info", "values"])
def test_a_description_with_something_missing(tmp_path, key):
    held().save(tmp_path / "post")
    file = tmp_path / "post" / "predictive.json"
    document = json.loads(file.read_text())
    del document[key]
    file.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="SHA-256"):
        bayesrob.load(tmp_path / "post")
    del document["description_sha256"]
    file.write_text(json.dumps({**document, "description_sha256": weights._signature(document)}))
    with pytest.raises(CheckpointError, match=key):  # also when it was written so
        bayesrob.load(tmp_path / "post")


def test_a_description_that_was_changed(tmp_path):
    """It would load as another function: the same weights, another activation."""
    held().save(tmp_path / "post")
    file = tmp_path / "post" / "predictive.json"
    file.write_text(file.read_text().replace('"tanh"', '"relu"'))
    assert '"relu"' in file.read_text()
    with pytest.raises(CheckpointError, match="SHA-256"):
        bayesrob.load(tmp_path / "post")


def test_tensors_of_an_unknown_group(tmp_path):
    post = held()
    post.save(tmp_path / "post")
    tensors, document = weights.read(tmp_path / "post")
    kept = {key: value for key, value in document.items() if key not in ("format", "sha256", "description_sha256")}
    weights.write(tmp_path / "post", tensors | {"surprise/a": torch.ones(1)}, kept)
    with pytest.raises(CheckpointError, match="surprise"):
        bayesrob.load(tmp_path / "post")


class Malicious:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("name", ["predictive.json", "weights.safetensors"])
def test_loading_never_unpickles(tmp_path, name):
    held().save(tmp_path / "post")
    victim = tmp_path / "executed"
    torch.save(Malicious(victim), tmp_path / "post" / name)
    with pytest.raises(CheckpointError):
        bayesrob.load(tmp_path / "post")
    (tmp_path / "post" / name).write_bytes(pickle.dumps(Malicious(victim)))
    with pytest.raises(CheckpointError):
        bayesrob.load(tmp_path / "post")
    assert not victim.exists()
    pickle.loads((tmp_path / "post" / name).read_bytes())
    assert victim.exists()  # the payload was live


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        bayesrob.load(tmp_path / "nothing")


def test_a_foreign_folder_is_not_overwritten(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="Choose another path"):
        held().save(tmp_path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"precious"]
