"""Models that are trained in several processes, and when that is the default."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from bayesrob import data, nets
from bayesrob.errors import InputError, WorkerError
from bayesrob.inference import SGD, Replicates, replicates
from bayesrob.models import BayesianNetwork, Categorical
from bayesrob.predictive import from_predictives
from tests.inference.moody import Moody, fits
from tests.inference.test_replicates import BASE, METHODS, Own, equal, network

ROOT = Path(__file__).parents[2]


def test_processes_give_the_same_bits_and_an_error_leaves_the_others(moons, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # where the other process finds this method
    moods, folder = tmp_path / "moods", tmp_path / "posteriors"
    moods.mkdir()
    way = Replicates(Moody(epochs=2, folder=str(moods)), 4, "disjoint_splits", "processes")
    seeds = [way.member_seed(1, i) for i in range(4)]
    (moods / str(seeds[0])).write_text("raises")
    (moods / str(seeds[3])).write_text("dies")
    with pytest.raises(WorkerError, match="2 of 4 models could not be trained") as caught:
        way.fit(network(), moons, seed=1, folder=folder, workers=1)
    assert caught.value.errors.keys() == {0, 3}
    assert "ArithmeticError: out of sorts" in caught.value.errors[0]
    assert "in _run" in caught.value.errors[0]
    assert "EXIT(7)" in caught.value.errors[3]
    assert os.getpid() not in {process for process, _ in fits(moods)}
    kept = caught.value.models
    assert [model is None for model in kept] == [True, False, False, True]
    for mood in (seeds[0], seeds[3]):
        (moods / str(mood)).unlink()
    models = Replicates(way.method, 4, "disjoint_splits", "in_turn").fit(network(), moons, seed=1, folder=folder)
    assert [seed for _, seed in fits(moods)] == [*seeds, seeds[0], seeds[3]]
    for i, found in enumerate(models):
        assert equal(found, way.method.fit(network(), way.part(moons, 1, i), seed=seeds[i]))
        assert found.info["numerics"]["threads"] == 1
        assert kept[i] is None or equal(found, kept[i])


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_death_ends_all_and_the_next_run_trains_what_is_missing(moons, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    moods, folder = tmp_path / "moods", tmp_path / "posteriors"
    moods.mkdir()
    way = Replicates(Moody(epochs=1, folder=str(moods)), 4)
    seeds = [way.member_seed(1, i) for i in range(4)]
    (moods / str(seeds[1])).write_text("sleeps")
    # By the process that has done the first; the other may take longer to start.
    (moods / str(seeds[2])).write_text(f"is killed {seeds[1]}")
    with pytest.raises(WorkerError, match="Fit again with the same folder") as caught:
        way.fit(network(), moons, seed=1, folder=folder, workers=2)
    assert [model is None for model in caught.value.models] == [False, True, True, True]
    assert caught.value.errors.keys() == {1, 2, 3}
    assert all("SIGKILL" in error for error in caught.value.errors.values())
    assert sorted(seed for _, seed in fits(moods)) == sorted(seeds[:3])
    for process, _ in fits(moods):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    for mood in seeds[1:3]:
        (moods / str(mood)).unlink()
    models = way.fit(network(), moons, seed=1, folder=folder, workers=2)
    assert sorted(seed for _, seed in fits(moods)[3:]) == sorted(seeds[1:])
    assert equal(models[0], caught.value.models[0])


SCRIPT = """
import signal
from pathlib import Path
from torch import nn
from bayesrob import data
from bayesrob.inference import Replicates
from tests.inference.moody import Moody

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored


class Own(nn.Sequential):
    pass

moons = data.load("half_moons", n_train=20, n_test=10, seed=0)
way = Replicates(Moody(epochs=1, folder={moods!r}), 3)
for member in (1, 2):
    (Path({moods!r}) / str(way.member_seed(0, member))).write_text("sleeps")
way.fit(Own(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), moons, folder={folder!r}, workers=2, key="own")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["ctrl-c", pytest.param("killed", marks=pytest.mark.slow)])
def test_an_end_of_the_script_ends_the_processes_and_keeps_what_is_done(tmp_path, how):
    """A script with its own network and no `if __name__ == "__main__":`. Ctrl-C reaches all, as from a terminal."""
    moods, folder = tmp_path / "moods", tmp_path / "posteriors"
    moods.mkdir()
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(moods=str(moods), folder=str(folder)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    script = subprocess.Popen([sys.executable, str(path)], start_new_session=True, env=environment, **pipes)
    try:
        end = time.monotonic() + 120
        while len(fits(moods)) < 3 and time.monotonic() < end and script.poll() is None:
            time.sleep(0.1)
        os.killpg(script.pid, signal.SIGINT) if how == "ctrl-c" else script.kill()
        error = script.communicate(timeout=240)[1]  # returns once nobody is left to write
    finally:
        script.kill()
    assert ("KeyboardInterrupt" in error) == (how == "ctrl-c")
    assert "Error" not in error
    assert len(fits(moods)) == 3
    assert len(list(folder.iterdir())) == 1  # the first, and nothing half written


def way_of(
    method, net, dataset, monkeypatch, *, cores: int = 2, long: float = 0.0, workers: int | None = None, **more
) -> str:
    """How it would be trained; no process is started."""
    monkeypatch.setattr(replicates, "LONG", long)
    monkeypatch.setattr("loky.cpu_count", lambda: cores)
    return Replicates(method, **more)._way(net, Categorical(), dataset, 0, workers)[0]


def test_the_network_is_left_alone(moons, monkeypatch):
    """Also by the look at how long it takes: in training mode its statistics would move, or one point be refused."""
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert way_of(BASE, net, moons, monkeypatch) == "processes"
    models = Replicates(BASE, 2, members="in_turn").fit(net, moons)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    post = from_predictives(models)
    assert all(torch.equal(post.logits(moons.x_test)[i], models[i].logits(moons.x_test)[0]) for i in range(2))


def test_processes_by_default_for_what_takes_long(moons, monkeypatch):
    """`Stack.of` a network of 2 x 6 x 2 keeps 6 + 2 values of each of 100 points."""
    bnn, method = BayesianNetwork(network()), METHODS["SVI"]
    assert way_of(method, bnn, moons, monkeypatch, long=100 * 8) == "processes"
    assert way_of(method, bnn, moons, monkeypatch, long=100 * 8 + 1) == "in_turn"
    assert way_of(method, bnn, moons, monkeypatch, cores=1) == "in_turn"
    assert way_of(method, bnn, moons, monkeypatch, workers=1) == "in_turn"
    assert way_of(method, bnn, moons, monkeypatch, members="in_turn", workers=2) == "in_turn"
    assert way_of(method, bnn, moons, monkeypatch, cores=1, long=1e9, workers=2) == "processes"
    assert way_of(BASE, network(), moons, monkeypatch) == "batched"
    assert way_of(BASE, nets.mlp(2, (200, 200), 2), moons, monkeypatch) == "processes"


def test_what_cannot_be_pickled_is_not_sent(moons, monkeypatch):
    net = Own(nn.Linear(2, 2))
    net.hook = lambda: None  # cloudpickle takes it
    assert way_of(BASE, net, moons, monkeypatch) == "processes"
    net = Own(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))  # pickle's own refusal
    assert way_of(BASE, net, moons, monkeypatch) == "in_turn"
    for asked in ({"members": "processes"}, {"workers": 2}):
        with pytest.raises(InputError, match="cannot be sent"):
            way_of(BASE, net, moons, monkeypatch, **asked)


def test_a_part_of_the_images_does_not_bring_them_all():
    pixels = torch.zeros(2000, 100)
    few = data.from_arrays(pixels[:10], torch.arange(10) % 2, pixels[:10], torch.arange(10) % 2)
    assert len(Replicates(BASE, members="processes")._way(nets.mlp(100, (), 2), Categorical(), few, 0, None)[1]) < 40_000


@pytest.mark.parametrize(("threads", "way"), [(1, "in_turn"), (2, "batched")])
def test_threads_share_batches_of_networks_that_are_larger(moons, monkeypatch, threads, way):
    """41,202 weights: more than 2^15, less than 2^17."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    net = nets.mlp(2, (200, 200), 2)
    assert sum(parameter.numel() for parameter in net.parameters()) == 41_202
    assert way_of(SGD(), net, moons, monkeypatch, long=float("inf")) == way
