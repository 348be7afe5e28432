"""What `br.audit` promises: its tree, its thresholds, its verdicts, and that a killed one goes on."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys

import pytest
import torch
import xarray as xr

import bayesrob as br
from bayesrob import auditing
from bayesrob.attacks import PGD, DeepFool, LocalSearch
from bayesrob.auditing import CHECKS, Finding
from bayesrob.auditing import runs as audit_runs
from bayesrob.errors import InputError, SuspiciousOutputs, UnknownNameError
from bayesrob.predictive import Preprocessed, from_modules
from tests.auditing.helpers import EPS, Probabilities, audited, hmc, plain, points, quantised, trained


def quick(post=None, attack=None, n=20, **more) -> xr.DataTree:
    x, y = points(0)
    return br.audit(plain(0)[0] if post is None else post, x[:n], y[:n], eps=EPS, level="quick", attack=attack, **more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one audit, for those that ask something else of the same."""
    return tmp_path_factory.mktemp("runs")


def test_a_row_for_each_check():
    tree = audited("plain", 0)
    found = tree["checks"].to_dataset()
    assert found["check"].values.tolist() == list(CHECKS)
    assert found["number"].values.tolist() == list(range(1, 17))
    assert set(found["status"].values) <= {"passed", "failed", "not_applicable", "error"}
    assert all(found[name].dims == ("check",) for name in ("value", "threshold", "passed", "status", "reason", "source"))
    assert all(text.endswith((".", ")")) for text in found["reason"].values)
    assert bool((found["passed"] == (found["status"] == "passed")).all())
    assert bool(found["value"][found["status"] == "not_applicable"].isnull().all())


def test_figures_are_those_of_the_audited_attack_over_all_points():
    attack = PGD(eps=EPS, objective="margin")
    figures = quick(attack=attack)["figures"].to_dataset()
    x, y = points(0)
    post = plain(0)[0]
    right = post(x[:20]).argmax(1) == y[:20]
    assert float(figures["accuracy"]) == pytest.approx(float(right.float().mean()))
    assert float(figures["strongest_accuracy"]) <= float(figures["robust_accuracy"]) <= float(figures["accuracy"])
    low, high = figures["robust_accuracy_interval"].values
    assert low < float(figures["robust_accuracy"]) < high


def test_thresholds_in_accuracy_are_two_images_at_least(runs):
    chosen = {"objectives": 0.3, "convergence": 0.001, "gradient_noise": 0.001}
    found = quick(n=10, folder=runs, thresholds=chosen)["checks"].to_dataset()
    assert float(found["threshold"].sel(check="objectives")) == 0.3
    assert float(found["threshold"].sel(check="convergence")) == 2 / 10
    assert float(found["threshold"].sel(check="gradient_noise")) == 0.001


def test_a_difference_of_two_images_passes_whatever_its_last_bit(monkeypatch, runs):
    difference = 0.9 - 0.7
    assert difference > 2 / 10

    def finds(evidence, threshold):
        return Finding(difference, difference <= threshold, "Two images.")

    monkeypatch.setitem(CHECKS, "transfer", dataclasses.replace(CHECKS["transfer"], run=finds))
    found = quick(n=10, folder=runs)["checks"].to_dataset().sel(check="transfer")
    assert found["status"].item() == "passed"
    assert float(found["threshold"]) == 2 / 10


def test_a_threshold_can_fail_a_check(runs):
    found = quick(n=10, folder=runs, thresholds={"zero_gradients": -1.0})["checks"].to_dataset().sel(check="zero_gradients")
    assert found["status"].item() == "failed"


def test_an_audit_is_the_same_for_the_same_seed():
    xr.testing.assert_identical(quick(audited_svi(), n=10)["checks"].to_dataset(), whole())


@functools.cache
def audited_svi():
    data = br.data.load("digits")
    return br.inference.SVI(epochs=5, num_draws=20).fit(br.models.BayesianNetwork(br.nets.mlp(64, (16,), 10)), data, seed=0)


@functools.cache
def whole() -> xr.Dataset:
    """The checks of its audit, at a stretch."""
    return quick(audited_svi(), n=10)["checks"].to_dataset()


@pytest.mark.filterwarnings("ignore::bayesrob.errors.ConvergenceWarning")
def test_a_killed_audit_goes_on_where_it_was(tmp_path, monkeypatch):
    post, runs, original = audited_svi(), [], audit_runs.attack_points
    uninterrupted = whole()

    def counted(attack, *rest, **settings):
        runs.append(attack)
        if len(runs) == 8:
            raise KeyboardInterrupt
        return original(attack, *rest, **settings)

    monkeypatch.setattr(audit_runs, "attack_points", counted)
    with pytest.raises(KeyboardInterrupt):
        quick(post, n=10, folder=tmp_path)
    first = len(runs)
    resumed = quick(post, n=10, folder=tmp_path)
    assert len(runs) - first == len(resumed["runs"]["run"]) - (first - 1)  # each once, but for the one that was cut off
    xr.testing.assert_identical(resumed["checks"].to_dataset(), uninterrupted)
    before = len(runs)
    quick(post, n=10, folder=tmp_path, thresholds={"objectives": 0.3})
    assert len(runs) == before
    quick(post, n=9, folder=tmp_path)
    assert len(runs) > before


def test_a_damaged_run_is_made_again(runs):
    first = quick(n=10, folder=runs)
    (path,) = runs.glob("audited-*")
    path.write_bytes(b"not a tensor")
    xr.testing.assert_identical(quick(n=10, folder=runs)["checks"].to_dataset(), first["checks"].to_dataset())
    assert path.read_bytes() != b"not a tensor"


def test_a_check_that_cannot_be_made_does_not_pass_and_stops_no_other(monkeypatch, runs):
    def broken(evidence, threshold) -> Finding:
        raise InputError("This fails.", "It is a test.", "Nothing.")

    monkeypatch.setitem(CHECKS, "transfer", dataclasses.replace(CHECKS["transfer"], run=broken))
    tree = quick(n=10, folder=runs)
    row = tree["checks"].to_dataset().sel(check="transfer")
    assert row["status"].item() == "error"
    assert not bool(row["passed"])
    assert not bool(tree["figures"]["attack_believed"])


def test_l_2_and_attacks_for_small_perturbations():
    x, y = points(0)
    tree = br.audit(plain(0)[0], x[:10], y[:10], eps=0.5, level="quick", attack=DeepFool(norm="l_2"))
    assert tree["checks"].to_dataset()["status"].sel(check="accuracy_falls").item() == "not_applicable"
    smallest = DeepFool(norm="l_2")(plain(0)[0], x[:10], y[:10], seed=0)
    near = (smallest - x[:10]).flatten(1).norm(dim=1) <= 0.5
    right = plain(0)[0](x[:10]).argmax(1) == y[:10]
    assert float(tree["figures"]["robust_accuracy"]) == pytest.approx(float((right & ~near).float().mean()))


def test_a_straight_through_gradient_is_believed():
    post = Preprocessed(plain(0)[0], quantised)
    assert bool(quick(post, n=40)["figures"]["attack_believed"])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"level": "fast"}, UnknownNameError, "level"),
        ({"thresholds": {"objektives": 0.1}}, UnknownNameError, "objectives"),
        ({"thresholds": {"objectives": "much"}}, InputError, "threshold"),
        ({"eps": 0}, InputError, "eps is 0"),
        ({"eps": -1}, InputError, "eps"),
        ({"norm": "l_1"}, UnknownNameError, "norm"),
        ({"attack": PGD(eps=0.2)}, InputError, "stays in the ball"),
        ({"attack": PGD}, InputError, "It must be one"),
        ({"attack": LocalSearch()}, UnknownNameError, "l_0"),
        ({"seed": 0.5}, InputError, "seed"),
        ({"y": torch.zeros(3, dtype=torch.long)}, InputError, "labels"),
        ({"x": torch.zeros(0, 1, 8, 8), "y": torch.zeros(0, dtype=torch.long)}, InputError, "no points"),
        ({"post": torch.nn.Linear(64, 10)}, InputError, "from_modules"),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, error, text, monkeypatch):
    monkeypatch.setattr(audit_runs, "attack_points", lambda *_, **__: pytest.fail("an attack ran"))
    x, y = points(0)
    with pytest.raises(error, match=text):
        br.audit(**{"post": plain(0)[0], "x": x, "y": y, "eps": EPS, **arguments})


def test_regressions_are_refused():
    data = br.data.from_arrays(*(torch.rand(6, 2) for _ in range(4)))
    post = br.inference.SGD(epochs=1).fit(br.nets.mlp(data.shape[0], (4,), data.out_features), data)
    with pytest.raises(InputError, match="regression"):
        br.audit(post, data.x_test[:3], data.y_test[:3])


# ---- suspicious outputs when wrapped ------------------------------------------------------------------------------------


def test_probabilities_are_warned_about_when_wrapped_if_an_input_is_known():
    net = Probabilities(trained(0)).eval()
    with pytest.warns(SuspiciousOutputs, match="sum to one"):
        from_modules([net], bounds=(0, 1), input_shape=(1, 8, 8))
    from_modules([net], bounds=(0, 1))  # nothing is known of its inputs: the first audit says it


def test_a_network_that_takes_no_probe_is_wrapped_all_the_same():
    assert from_modules([trained(0)], input_shape=(3, 5)).num_draws == 1


# ---- rendering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "saturated"])
def test_the_summary_says_verdicts_figures_and_every_check(name):
    text = auditing.summary(audited(name, 0), width=100)
    assert ("The attack's figure is believed." in text) is (name == "plain")
    assert ("doubtful because of zero_gradients" in text) is (name == "saturated")
    assert all(check in text for check in CHECKS)
    assert max(map(len, text.splitlines())) <= 120


def test_the_page_holds_itself_and_survives_the_disk(tmp_path):
    audited("saturated", 0).to_netcdf(tmp_path / "audit.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "audit.nc", engine="h5netcdf") as tree:
        xr.testing.assert_equal(tree["checks"].to_dataset().load(), audited("saturated", 0)["checks"].to_dataset())
        page = br.report.render_audit(tree, tmp_path / "audit.html").read_text()
    assert "doubtful because of zero_gradients" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert all(check.question.replace("'", "&#39;") in page for check in CHECKS.values())


def test_the_command_audits_a_saved_posterior(tmp_path):
    hmc(0)[0].save(tmp_path / "post")
    command = [sys.executable, "-m", "bayesrob.cli", "audit", str(tmp_path / "post"), "--data", "digits"]
    command += ["--level", "quick", "--num-points", "10", "--attack", "FGSM"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The posterior is doubtful because of inference." in done.stdout
    for file in ("audit.nc", "audit.html"):
        assert (tmp_path / "post-audit" / file).exists()
