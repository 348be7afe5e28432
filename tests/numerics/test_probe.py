"""The probe refuses what rounds, prefers torch's default unless another is clearly faster, and is kept once per machine."""

from __future__ import annotations

import json
import math
import pathlib

import pytest
import torch

from bayesrob.numerics import probe as module
from bayesrob.numerics.probe import BOUND, CLEARLY, Outcome, probe, recall, store
from bayesrob.numerics.routes import ROUTES

EXACT = 3e-7
"""Other bits than torch's, within float32's precision."""


class Simulated:
    """Routes whose time and error are made up."""

    def __init__(self, **routes: tuple[float, float]):
        self.now = 0.0
        self.calls = dict.fromkeys(routes, 0)
        self.routes = {name: self.make(name, *values) for name, values in routes.items()}

    def make(self, name, seconds, error):
        def multiply(a, b):
            self.calls[name] += 1
            self.now += seconds if not callable(seconds) else seconds(self.calls[name])
            return (a @ b) * (1 + error)

        return multiply

    def probe(self) -> Outcome:
        return probe(self.routes, clock=lambda: self.now)


@pytest.fixture
def one_case(monkeypatch):
    g = torch.Generator().manual_seed(0)
    case = (torch.randn(20, 30, generator=g), torch.randn(30, 10, generator=g))
    monkeypatch.setattr(module, "_cases", lambda: [case])


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("BAYESROB_CACHE", str(tmp_path))
    return tmp_path / "numerics"


@pytest.mark.usefixtures("one_case")
class TestSimulated:
    @pytest.mark.parametrize("error", [2e-3, 3e-4, 2e-6, math.nan, math.inf])
    def test_a_route_that_rounds_is_refused_however_fast(self, error):
        simulated = Simulated(plain=(1.0, 0.0), fast=(0.01, error))
        outcome = simulated.probe()
        assert outcome.route == "plain"
        assert not outcome.errors["fast"] <= BOUND
        assert outcome.errors["plain"] <= BOUND
        assert simulated.calls["fast"] == 1  # nor is it timed

    def test_the_fastest_of_those_that_do_not(self):
        outcome = Simulated(plain=(1.0, 0.0), fast=(0.5, EXACT), faster=(0.25, EXACT), rounds=(0.1, 1e-3)).probe()
        assert outcome.route == "faster"
        assert outcome.speedups == {"fast": 2.0, "faster": 4.0}
        assert outcome.errors["faster"] == pytest.approx(EXACT, rel=0.5)

    @pytest.mark.parametrize(("gain", "route"), [(0.5, "plain"), (1.0, "plain"), (0.99, "plain"), (1.01, "fast")])
    def test_plain_unless_clearly_faster(self, gain, route):
        assert Simulated(plain=(CLEARLY * gain, 0.0), fast=(1.0, EXACT)).probe().route == route

    def test_one_slow_repeat_decides_nothing(self):
        slow_once = Simulated(plain=(lambda call: 30.0 if call == 3 else 1.0, 0.0), fast=(1.0, EXACT))
        assert slow_once.probe().route == "plain"

    def test_what_slows_the_machine_for_a_while_slows_all_routes_alike(self):
        def seconds(own):
            return lambda call: own * (4.0 if call > 4 else 1.0)

        simulated = Simulated(plain=(seconds(1.0), 0.0), fast=(seconds(0.8), EXACT))
        assert simulated.probe().speedups["fast"] == pytest.approx(1.25)

    def test_the_same_bits_are_not_timed(self):
        simulated = Simulated(plain=(1.0, 0.0), same=(0.1, 0.0))
        assert simulated.probe().route == "plain"
        assert simulated.calls == {"plain": 1, "same": 1}

    @pytest.mark.parametrize(("seconds", "repeats"), [(1e-3, 7), (0.05, 5), (10.0, 3)])
    def test_slow_machines_repeat_less(self, seconds, repeats):
        simulated = Simulated(plain=(seconds, 0.0), other=(seconds, EXACT))
        simulated.probe()
        assert simulated.calls["plain"] == 1 + repeats

    def test_autocast_and_gradients_of_the_caller_do_not_matter(self):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
            assert Simulated(plain=(1.0, 0.0)).probe().errors["plain"] <= BOUND


def test_real_products_are_within_the_bound():
    state = torch.random.get_rng_state()
    outcome = probe({"plain": torch.matmul})
    assert outcome == Outcome("plain", {"plain": outcome.errors["plain"]}, {})
    assert 1e-8 < outcome.errors["plain"] <= BOUND
    assert torch.equal(torch.random.get_rng_state(), state)


OUTCOME = Outcome("onednn", {"plain": 2e-7, "onednn": 4e-7}, {"onednn": 1.5})
NAMES = dict.fromkeys(("plain", "onednn"), torch.matmul)


class TestStore:
    def test_comes_back(self, folder):
        assert recall(NAMES) is None
        assert store(OUTCOME, NAMES) == OUTCOME
        assert recall(NAMES) == OUTCOME
        assert [path.suffix for path in folder.iterdir()] == [".json"]

    def test_the_first_process_wins(self, folder):
        first = Outcome("plain", OUTCOME.errors, {"onednn": 1.01})
        store(first, NAMES)
        assert store(OUTCOME, NAMES) == first
        assert recall(NAMES) == first

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            "{}",
            "\x00\xff",
            '{"route": "onednn", "errors": {"plain": 1e-7}, "speedups": {}}',
            '{"route": "onednn", "errors": {"plain": 1e-7, "onednn": 1e-3}, "speedups": {}}',  # refused today
            '{"route": "onednn", "errors": {"plain": 1e-7, "onednn": "small"}, "speedups": {}}',
            '{"route": "other", "errors": {"plain": 1e-7, "onednn": 1e-7}, "speedups": {}}',
            '{"route": ["plain"], "errors": {"plain": 1e-7, "onednn": 1e-7}, "speedups": {}}',
        ],
    )
    def test_a_damaged_one_is_replaced(self, folder, content):
        store(OUTCOME, NAMES)
        (file,) = folder.iterdir()
        file.write_text(content)
        assert recall(NAMES) is None
        assert store(OUTCOME, NAMES) == OUTCOME
        assert recall(NAMES) == OUTCOME

    def test_other_routes_than_today_are_probed_again(self, folder):
        store(OUTCOME, NAMES)
        assert recall({"plain": torch.matmul}) is None

    def test_a_folder_that_cannot_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("BAYESROB_CACHE", str(tmp_path / "file"))
        assert store(OUTCOME, NAMES) == OUTCOME
        assert recall(NAMES) is None

    def test_a_file_system_without_links(self, folder, monkeypatch):
        monkeypatch.setattr("os.link", lambda *paths: (_ for _ in ()).throw(PermissionError))
        assert store(OUTCOME, NAMES) == OUTCOME
        assert recall(NAMES) == OUTCOME
        assert len(list(folder.iterdir())) == 1

    def test_each_number_of_threads_and_each_setting_of_the_libraries_its_own(self, folder, monkeypatch):
        threads = torch.get_num_threads()
        store(OUTCOME, NAMES)
        try:
            torch.set_num_threads(threads + 1)
            assert recall(NAMES) is None
            store(OUTCOME, NAMES)
        finally:
            torch.set_num_threads(threads)
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert recall(NAMES) is None
        machines = [json.loads(path.read_text())["machine"] for path in folder.iterdir()]
        assert sorted(machine["threads"] for machine in machines) == [threads, threads + 1]
        assert machines[0]["torch"] == torch.__version__

    def test_is_the_users_cache_folder_unless_told(self, monkeypatch, tmp_path):
        monkeypatch.setenv("BAYESROB_CACHE", "")
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
        store(OUTCOME, NAMES)
        assert len(list((tmp_path / "bayesrob" / "numerics").iterdir())) == 1


def test_names_of_the_routes():
    assert list(ROUTES) == ["plain", "onednn"] or list(ROUTES) == ["plain"]
