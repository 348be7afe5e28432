"""Which route is taken, who may ask for one, how it is set and restored, and what results record."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import bayesrob as br
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import BayesianNetwork, Categorical
from bayesrob.numerics import asked, choose, products, route, routes
from bayesrob.numerics.probe import Outcome
from bayesrob.numerics.routes import LARGE, MATMUL, ROUTES, Products
from tests.numerics.routes.watching import FASTER, ROUNDS, WIDTH, large, settings

pytestmark = pytest.mark.skipif(MATMUL is None, reason="torch before 2.9 has one route")


COMPILE = f"""
import torch
import bayesrob as br
post = br.predictive.from_modules([br.nets.mlp(100, ({WIDTH + 1},), 3).eval()])
x = torch.rand(5, 100)
expected = post(x)
torch.testing.assert_close(torch.compile(post, backend="eager", fullgraph=True)(x), expected)
"""


class TestChoice:
    def test_small_networks_neither_probe_nor_leave_torchs_default(self, probe, dataset):
        post = br.inference.SGD(epochs=1).fit(br.nets.mlp(100, (WIDTH - 1,), 3), dataset)
        assert post.info["numerics"] == {"route": "plain", "asked": "auto", "threads": torch.get_num_threads()}
        assert probe.calls == 0

    def test_large_ones_probe_once_whatever_runs_before(self, probe, monkeypatch):
        assert [choose(large()).name for _ in range(3)] == ["onednn"] * 3
        probe.outcome = Outcome("plain", FASTER.errors, {"onednn": 1.0})
        monkeypatch.setattr(routes, "_outcomes", {})  # another process
        assert choose(large()).name == "onednn"
        assert probe.calls == 1

    def test_each_number_of_threads_has_its_own(self, probe):
        threads = torch.get_num_threads()
        choose(large())
        try:
            torch.set_num_threads(threads + 1)
            choose(large())
        finally:
            torch.set_num_threads(threads)
        assert probe.calls == 2

    def test_only_float32_on_a_cpu(self, probe):
        assert choose(large().double()).name == "plain"
        assert choose(large().to(torch.bfloat16)).name == "plain"
        assert choose(large().to("meta")).name == "plain"
        assert choose(nn.Flatten()).name == "plain"
        assert probe.calls == 0
        net = large()
        assert choose(net).name == "onednn"
        assert choose(net.double()).name == "plain"
        assert choose(net.float()).name == "onednn"

    def test_a_layer_counts_not_their_sum(self):
        assert choose(br.nets.mlp(100, (100,) * 9, 3)).name == "plain"
        assert choose(nn.Linear(LARGE, 1)).name == "onednn"

    def test_a_probe_that_finds_nothing(self, probe, dataset):
        probe.outcome = ROUNDS
        info = br.inference.SGD(epochs=1).fit(large(), dataset).info["numerics"]
        assert (info["route"], info["errors"]) == ("plain", ROUNDS.errors)

    def test_probes_for_real(self, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(routes, "_outcomes", {})
        chosen = choose(large())
        found = chosen.record()
        assert found["errors"][chosen.name] <= 1e-6
        assert found["errors"].keys() == ROUTES.keys()


class TestAsking:
    def test_block(self, probe):
        with route("plain"):
            assert (asked(), choose(large()).name) == ("plain", "plain")
            with route("onednn"):
                assert choose(large()).name == "onednn"
                assert choose(br.nets.mlp(2, (3,), 2)).name == "onednn"  # who names a route gets it
                with route("auto"):
                    assert choose(br.nets.mlp(2, (3,), 2)).name == "plain"
            assert asked() == "plain"
        assert asked() == "auto"

    def test_block_ends_with_an_exception(self):
        with pytest.raises(ZeroDivisionError), route("plain"):
            _ = 1 / 0
        assert asked() == "auto"

    def test_environment(self, monkeypatch, dataset):
        monkeypatch.setenv("BAYESROB_NUMERICS", "plain")
        assert br.inference.SGD(epochs=1).fit(large(), dataset).info["numerics"]["asked"] == "plain"
        with route("onednn"):  # the nearer one
            assert choose(large()).name == "onednn"
        for empty in ("auto", ""):
            monkeypatch.setenv("BAYESROB_NUMERICS", empty)
            assert choose(large()).name == "onednn"

    def test_unknown_names(self, monkeypatch, dataset):
        with pytest.raises(UnknownNameError, match="Did you mean 'plain'"), route("plian"):
            pass
        monkeypatch.setenv("BAYESROB_NUMERICS", "one_dnn")
        with pytest.raises(UnknownNameError, match="Did you mean 'onednn'"):
            br.inference.SGD(epochs=1).fit(large(), dataset)

    def test_a_route_that_rounds_is_refused_by_name_too(self, probe, dataset):
        probe.outcome = ROUNDS
        with pytest.raises(InputError, match=r"relative error of 2\.0e-03"), route("onednn"):
            br.inference.SGD(epochs=1).fit(large(), dataset)

    def test_without_the_switch_there_is_plain(self, monkeypatch, probe):
        monkeypatch.setattr(routes, "MATMUL", None)
        monkeypatch.setattr(routes, "ROUTES", {"plain": "ieee"})
        with pytest.raises(UnknownNameError), route("onednn"):
            pass
        with route("plain"), products(large()):
            pass
        monkeypatch.setattr(routes, "probe", lambda routes: Outcome("plain", dict.fromkeys(routes, 0.0), {}))
        with products(large()) as chosen:
            assert chosen.name == "plain"


class TestSetting:
    def test_nested(self):
        with Products("onednn"):
            with Products("plain"):
                assert MATMUL.fp32_precision == "ieee"
                with Products("onednn"):
                    assert MATMUL.fp32_precision == "bf16"
                assert MATMUL.fp32_precision == "ieee"
            with Products("onednn"):
                assert MATMUL.fp32_precision == "bf16"
            assert MATMUL.fp32_precision == "bf16"

    def test_a_setting_of_the_users_own_comes_back(self):
        for setting in ("ieee", "bf16", "tf32"):
            for name in ROUTES:
                MATMUL.fp32_precision = setting
                try:
                    with Products(name):
                        assert MATMUL.fp32_precision == ROUTES[name]
                    assert settings() == ["none", "none", setting, "none"]
                finally:
                    MATMUL.fp32_precision = "none"

    def test_an_inherited_setting_is_inherited_again(self):
        torch.backends.fp32_precision = "tf32"
        try:
            with Products("plain"):
                assert settings() == ["tf32", "tf32", "ieee", "tf32"]
            torch.backends.fp32_precision = "ieee"
            assert settings() == ["ieee"] * 4
        finally:
            torch.backends.fp32_precision = "none"

    def test_plain_is_torchs_default_bit_for_bit(self):
        a, b = torch.rand(70, 300), torch.rand(300, 50)
        untouched = a @ b
        for setting in ("none", "bf16"):
            MATMUL.fp32_precision = setting
            try:
                with Products("plain"):
                    assert torch.equal(a @ b, untouched)
            finally:
                MATMUL.fp32_precision = "none"

    @pytest.mark.parametrize("name", ROUTES)
    def test_a_fit_equals_one_with_the_setting_made_by_hand(self, name, dataset):
        model, method = BayesianNetwork(large()), br.inference.SVI(epochs=2, num_draws=3)
        with route(name):
            post = method.fit(model, dataset, seed=3)
        MATMUL.fp32_precision = ROUTES[name]
        try:
            by_hand = method._run(model, Categorical(), dataset, 3)[0]
        finally:
            MATMUL.fp32_precision = "none"
        ours, theirs = post.contents()[0], by_hand.contents()[0]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert post.info["numerics"]["route"] == name

    def test_float64_knows_no_routes(self, dataset):
        torch.manual_seed(0)
        net = large()
        post = br.predictive.from_modules([net.eval(), large().eval()]).double()
        found = []
        for name in (*ROUTES, "auto"):
            with route(name), Products("plain" if name == "auto" else name):
                found.append(post.logits(dataset.x_test.double()))
        assert all(torch.equal(one, found[0]) for one in found)

    def test_a_predictive_compiles_in_one_piece(self, monkeypatch):
        """In a process of its own: torch.compile cannot trace functions whose shapes are checked."""
        monkeypatch.setenv("BAYESROB_NUMERICS", "plain")  # saves the probe
        done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr


class TestRecords:
    def test_trees_say_what_gave_their_numbers(self, dataset):
        with route("plain"):
            post = br.inference.SGD(epochs=1).fit(large(), dataset)
        trees = {
            "evaluate": br.evaluate(post, dataset, {}),
            "gradients": br.evaluation.evaluate_gradients(post, dataset, num_points=5),
            "arviz": br.to_datatree(post, dataset),
        }
        for tree in trees.values():
            assert json.loads(tree.attrs["predictive"])["numerics"]["route"] == "plain"  # the fit
            record = json.loads(tree.attrs["numerics"])  # these numbers
            assert (record["route"], record["asked"], record["errors"]) == ("onednn", "auto", FASTER.errors)

    def test_results_say_what_was_asked_for(self, tmp_path):
        with route("plain"):
            results = br.evaluation.Results(tmp_path / "study", "name", "title", {})
        assert results.manifest["machine"]["numerics"] == "plain"
