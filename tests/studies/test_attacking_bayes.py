"""Study 05 at smoke scale: both protocols as they are said to be, tables of the trees' numbers, detectors by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import xarray as xr

import bayesrob as br
from bayesrob.analysis import auroc, binomial_interval, paired_interval
from bayesrob.evaluation import chosen_points
from tests.studies.helpers import check_report, manifest, shared, study, table, tree

STUDY = "attacking_bayes"
pytestmark = pytest.mark.slow  # its smoke run trains and attacks many networks

NAMES = {"digits": ["HMC", "MC dropout"], "half moons": ["SGD"]}


def saved(folder: Path, data: str, name: str) -> xr.DataTree:
    return tree(folder, f"{data} {name}".replace(" ", "-"))


def every(folder: Path):
    return ((data, name, saved(folder, data, name)) for data, names in NAMES.items() for name in names)


def cell(text: str) -> tuple[float, float, float]:
    value, _, rest = text.partition(" [")
    return (float(value), *(float(bound) for bound in rest.rstrip("]").split(", ")))


# ---- protocols -----------------------------------------------------------------------------------------------------------


def test_the_reference_is_the_code_s(module):
    many = br.predictive.from_modules([br.nets.mlp(2, (), 2, seed=seed).eval() for seed in range(12)], bounds=(0, 1))
    scores = module.protocol(0.3, many)
    assert list(scores) == ["random", "FGSM", "PGD"]
    assert {attack.eps for attack in scores.values()} == {0.3}
    assert {scores[name].objective for name in ("FGSM", "PGD")} == {"double_softmax"}
    assert (scores["PGD"].steps, scores["PGD"].step_size, scores["PGD"].random_start) == (15, 2.0, False)
    assert scores["PGD"].num_draws == scores["FGSM"].num_draws == 10
    assert module.protocol(0.3, many[:1])["PGD"].num_draws == 1


def test_each_repair_keeps_those_before_it(module):
    post = br.predictive.from_modules([br.nets.mlp(2, (), 2).eval()], bounds=(0, 1))
    chain = [module.protocol(0.1, post)["PGD"], *module.repairs(0.1, post).values()]
    changes = [
        {field.name for field in dataclasses.fields(a) if getattr(a, field.name) != getattr(b, field.name)}
        for a, b in itertools.pairwise(chain)
    ]
    assert changes == [{"num_draws"}, {"step_size", "random_start"}, {"objective"}, {"objective"}]
    assert chain[3].objective == "predictive_loss"
    assert module.repairs(0.1, post)[module.BESIDE] == br.attacks.PGD(eps=0.1, steps=15, objective="expected_loss")


def test_posteriors_are_those_of_other_studies(module):
    """The same recipes, or their fits would not be found."""
    cases = module.cases("small")
    carbone = module.carbone_2020.recipes("small", 500)
    for name, theirs in carbone.items():
        data, _, method = name.partition("/")
        assert cases[data].recipes[method] == theirs
    assert set(cases["MNIST"].recipes) == set(module.ORDER) == set(cases["half moons"].recipes)
    assert set(cases["Fashion"].recipes) == {name for name in module.ORDER if "fan-in" not in name}
    for data, name in (("MNIST", "MNIST MLP"), ("Fashion", "Fashion MLP")):
        defences = study("defences")
        task = defences.tasks("small")[name]
        _, method = defences.defences(task)["plain"]
        ours = cases[data].recipes["SGD"]
        assert (ours.method, ours.data, ours.n_train) == (method, task.data, task.n_train)
        net = br.nets.mlp(784, ours.hidden, 10, activation=ours.activation)
        theirs = task.net(torch.Size((1, 28, 28)), 10, 0)
        assert repr(net) == repr(theirs)
    moons = study("attack_gauntlet").cases("small")["half moons"]
    recipes = cases["half moons"].recipes
    for ours, theirs in (("HMC", "HMC"), ("VI", "SVI"), ("SGD", "SGD")):
        assert (recipes[ours].method, recipes[ours].hidden) == (moons.methods[theirs], moons.hidden)
        assert (recipes[ours].n_train, recipes[ours].activation) == (moons.n_train, "leaky_relu")
    assert set(module.cases("paper")["Fashion"].recipes) == set(module.ORDER)


def test_chains_are_thinned_and_stay_chains(module):
    net = br.nets.mlp(1, (), 2)
    draws = torch.arange(24.0)
    weights = {name: draws.view(-1, *[1] * p.ndim).expand(-1, *p.shape) for name, p in net.named_parameters()}
    energy = np.arange(24).reshape(12, 2).T
    post = br.predictive.HeldDraws(net, weights, num_chains=2, sample_stats={"energy": energy})
    scores = module.thinned(post, 6)
    assert scores.weights["1.bias"][:, 0].tolist() == [0, 1, 8, 9, 16, 17]  # draws 0, 4 and 8 of both chains
    assert scores.num_chains == 2
    np.testing.assert_array_equal(scores.sample_stats["energy"], [[0, 8, 16], [1, 9, 17]])
    assert module.thinned(post, 24) is post


def test_artefacts_are_of_the_attacks_in_the_trees(folder):
    rows = iter(table(folder, "artefact").to_dict("records"))
    for data, name, scores in every(folder):
        points = scores["points"].to_dataset()
        clean = (points["log_probability"].argmax("class") == points["label"]).values
        settings = json.loads(scores.attrs["attacks"])
        for eps in scores["accuracy"]["eps"].values[1:]:
            right = {}
            for attack in ("random", "FGSM", "PGD", "audited"):
                full = f"{attack}, eps {eps:g}"
                after = points["adversarial_log_probability"].sel(attack=full).argmax("class") == points["label"]
                right[attack] = after.values & clean
                assert settings[full]["eps"] == eps
            published = right["random"] & right["FGSM"] & right["PGD"]
            row = next(rows)
            assert (row["data"], row["posterior"], row["eps"]) == (data, name, f"{eps:g}")
            for column, values in {**right, "reference": published, "clean": clean}.items():
                interval = binomial_interval(values.sum(), values.size)
                assert cell(row[column]) == pytest.approx((values.mean(), *interval), abs=6e-4)
            expected = (published.mean() - right["audited"].mean(), *paired_interval(published, right["audited"]))
            assert cell(row["artefact"]) == pytest.approx(expected, abs=6e-4)
    assert list(rows) == []


def test_table_1_stands_beside(module):
    assert shared("artefacts").printed("Fashion/VI", 0.1) == "random 0.744, fgsm 0.834, pgd 0.916"
    assert shared("artefacts").printed("Fashion/VI", 0.2) == shared("artefacts").printed("digits/HMC", 0.1) == ""


def test_gradients_are_those_inside_the_balls(module, folder, posteriors):
    recipe = module.cases("smoke")["half moons"].recipes["SGD"]
    post, dataset = recipe.fit(posteriors, 0)
    _, x, y = chosen_points(dataset, 30, 0)
    scores = saved(folder, "half moons", "SGD")["gradients"].to_dataset()
    for objective in shared("artefacts").OBJECTIVES:
        expected = post.input_gradient(x, y, objective).flatten(1).norm(dim=1)
        np.testing.assert_allclose(scores["norm"].sel(objective=objective, eps=0), expected, rtol=1e-4)
    # The margin of one network is piecewise linear: its gradient does not vanish where the loss's does.
    assert float(scores["norm"].sel(objective="margin_per_draw").min()) > 0.1
    assert not scores["zero"].sel(objective="margin_per_draw").any()


def test_what_has_vanished(module):
    """Norms 0, below and above the threshold, and a gradient that only float32 rounds to zero."""
    tiny = module.VANISHED / 2
    norm = xr.DataArray(
        np.array([[[0.0, tiny, 1.0, 2.0]] * 2, [[tiny, 1.0, 1.0, 2.0]] * 2, [[1.0] * 4] * 2]),
        dims=("objective", "eps", "point"),
        coords={"objective": list(shared("artefacts").OBJECTIVES), "eps": [0.0, 0.1]},
    )
    zero = np.zeros((2, 3, 4), dtype=bool)
    zero[0, 0, 0] = True
    scores = xr.Dataset({"norm": norm, "zero": (("precision", "objective", "point"), zero)})
    scores = scores.assign_coords(precision=["float32", "float64"])
    twice, once, margin = module.gradient_rows("data", "name", scores)
    assert [row["vanished"][:5] for row in (twice, once, margin)] == ["0.500", "0.250", "0.000"]
    assert (twice["vanished, eps 0.1"], twice["exactly zero, float32"]) == ("0.500", "0.250")
    assert twice["exactly zero, float64"] == once["exactly zero, float32"] == "0.000"
    assert twice["median norm"].startswith("0.5 [")


def test_the_audit_catches_the_reference(folder):
    rows = table(folder, "audits")
    assert len(rows) == 6
    for _, row in rows[rows["attack"] == "reference PGD"].iterrows():
        assert "convergence" in row["about the attack"]  # its step is larger than the ball
    assert (
        rows["robust accuracy"].map(lambda text: cell(text)[0]).ge(rows["strongest found"].map(lambda t: cell(t)[0])).all()
    )


# ---- detectors -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scores(module) -> xr.Dataset:
    """Twenty clean scores 0 to 19, so that 18 passes at 5%; six points, the first wrong before any attack."""
    attacked = np.array([[0, 18, 18, 19, 30, 0], [0, 0, 18.5, 30, 2, 0], [0, 30, 0, 30, 30, 0]], dtype=float)
    wrong = np.array([[1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0]], dtype=bool)
    names = list(module.detectors.SCORES)
    return xr.Dataset(
        {
            "clean": (("score", "clean_point"), np.stack([np.arange(20.0), np.zeros(20)])),
            "attacked": (("score", "eps", "adversary", "point"), np.stack([attacked, 0 * attacked])[:, None]),
            "wrong": (("eps", "adversary", "point"), wrong[None]),
            "before": ("point", np.arange(6) > 0),
        },
        coords={"score": names, "eps": [0.1], "adversary": list(module.detectors.ADVERSARIES)},
    )


def test_who_is_wrong_and_unnoticed(module, scores):
    stops, margin, evading = (
        module.detectors.unnoticed(scores, "entropy", 0.1, name).tolist() for name in module.detectors.ADVERSARIES
    )
    assert stops == [True, True, False, False, False]
    assert margin == [False, False, False, True, False]
    assert evading == [False, True, False, False, False]
    best = module.detectors.unnoticed(scores, "entropy", 0.1, module.detectors.BEST)
    assert best.tolist() == [True, True, False, True, False]
    # A score that says nothing lets everything pass.
    for name in module.detectors.ADVERSARIES:
        passed = module.detectors.unnoticed(scores, "mutual_information", 0.1, name)
        np.testing.assert_array_equal(passed, module.detectors.wrong(scores, 0.1, name))


def test_rows_of_detectors(module, scores):
    rows = {row["attack"]: row for row in module.detectors.rows("data", "name", scores)}
    assert [row["wrong"][:5] for row in rows.values()] == ["0.800", "0.600", "0.400", "0.800"]
    area = auroc(np.arange(20.0), [18, 18, 19, 30])
    assert cell(rows["stops when wrong"]["AUROC entropy"]) == pytest.approx(area, abs=6e-4)
    assert rows["stops when wrong"]["pass entropy"].startswith("0.500 [")
    assert rows[module.detectors.BEST]["unnoticed entropy"].startswith("0.600 [")
    assert rows[module.detectors.BEST]["AUROC entropy"] == ""
    assert rows["margin"]["AUROC MI"].startswith("0.500 [")
    assert rows["margin"]["McNemar p entropy"] == "1"


def test_the_trees_hold_the_detectors_scores(module, folder):
    rows = table(folder, "detection").to_dict("records")
    expected = [
        row for data, name, at in every(folder) for row in module.detectors.rows(data, name, at["detection"].to_dataset())
    ]
    assert rows == expected


def test_one_network_has_no_mutual_information(folder):
    scores = saved(folder, "half moons", "SGD")["detection"].to_dataset().sel(score="mutual_information")
    assert not scores["attacked"].any()
    assert not scores["clean"].any()


@pytest.mark.parametrize(("first", "second"), [(30, 5), (6, 1), (0, 0), (8, 1)])
def test_mcnemar_from_its_definition(module, first, second):
    one = np.repeat([True, False, True, False], [first, second, 40, 7])
    other = np.repeat([False, True, True, False], [first, second, 40, 7])
    trials = first + second
    expected = min(1.0, 2 * scipy.stats.binom.cdf(min(first, second), trials, 0.5)) if trials else 1.0
    assert shared("tables").mcnemar(one, other) == pytest.approx(expected)


# ---- report --------------------------------------------------------------------------------------------------------------


def test_the_report_is_one_page_that_needs_nothing_else(folder):
    check_report(folder)
    scores = manifest(folder)
    assert next(iter(scores["tables"])) == "artefact"
    assert set(scores["tables"]) == {"artefact", "repairs", "gradients", "detection", "audits", "posteriors", "chains"}
    assert {"protocols", "chains_digits-HMC"} <= set(scores["figures"])
    for data, name, at in every(folder):
        right = at["accuracy"]["right"]
        (note,) = (n for n in scores["notes"] if n.startswith(f"{data}/{name}, accuracy by the reference protocol less"))
        for eps in right["eps"].values[1:]:
            one, other = (right.sel(protocol=which, eps=eps).values for which in ("reference", "audited"))
            low, high = paired_interval(one, other)
            assert f"eps {eps:g}: {one.mean():.3f} - {other.mean():.3f} = " in note
            assert f"[{low:.3f}, {high:.3f}]" in note
    for data in NAMES:
        assert any(note.startswith(f"{data}, eps") and "most robust first" in note for note in scores["notes"])


def test_repairs_are_told_in_order(module, folder):
    rows = table(folder, "repairs")
    steps = ["reference PGD", "all draws", "steps that fit", "softmax once", module.BESIDE, "audited"]
    assert rows.columns.tolist()[3:] == steps
    (note,) = (n for n in manifest(folder)["notes"] if n.startswith("digits/HMC, eps 0.2, what each repair"))
    first = rows.iloc[0]
    gaps = [cell(first[a])[0] - cell(first[b])[0] for a, b in itertools.pairwise(steps[:4])]
    for step, gap in zip(steps[1:4], gaps, strict=True):
        value = float(note.partition(f"{step} ")[2].partition(" [")[0])
        assert value == pytest.approx(gap, abs=1.1e-3)
