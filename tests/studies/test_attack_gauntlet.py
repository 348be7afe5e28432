"""The gauntlet at smoke scale: every attack that fits, tables of the trees' numbers, verdicts that follow."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

import bayesrob as br
from bayesrob.attacks import ATTACKS, FGSM
from bayesrob.evaluation import transfer_matrix
from tests.studies.helpers import check_report, manifest, shared, table, tree

STUDY = "attack_gauntlet"
pytestmark = pytest.mark.slow  # its smoke run trains and attacks many networks

METHODS = ["SGD", "HMC", "SVI"]
LEFT_OUT = {"BV", "BiasAttack", "Transfer", "VarianceAttack"}
NAMES = {"digits": "digits", "half moons": "half-moons"}


@pytest.fixture(scope="module")
def trees(folder) -> dict[str, dict[str, xr.DataTree]]:
    return {data: {method: tree(folder, f"{file}-{method}") for method in METHODS} for data, file in NAMES.items()}


def cell(values, interval) -> str:
    low, high = interval.values
    return f"{float(values):.3f} [{low:.3f}, {high:.3f}]"


# ---- which attacks -------------------------------------------------------------------------------------------------------


def test_every_attack_of_the_registry_runs_or_is_said_to_be_left_out(folder, trees):
    for data, outcome in trees.items():
        for result in outcome.values():
            ran = {settings["attack"] for settings in json.loads(result.attrs["attacks"]).values()}
            assert set(ATTACKS) - ran == LEFT_OUT
        for name in LEFT_OUT:
            assert any(note.startswith(f"{data}: {name} is left out.") for note in manifest(folder)["notes"])


def test_an_attack_that_joins_the_registry_joins_the_gauntlet(module, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Tomorrow(FGSM):
        norms: ClassVar[tuple[str, ...]] = ("l_2",)

    @dataclasses.dataclass(frozen=True)
    class Bounded(FGSM):
        needs_bounds: ClassVar[bool] = True

    monkeypatch.setitem(ATTACKS, "Tomorrow", Tomorrow)
    monkeypatch.setitem(ATTACKS, "Bounded", Bounded)
    post = br.predictive.from_modules([br.nets.mlp(2, (), 2).eval()])
    attacks, left_out = module.gauntlet({"l_inf": 0.1, "l_2": 0.4}, {"Tomorrow": {"objective": "margin"}}, {"net": post})
    assert attacks["Tomorrow l_2"] == Tomorrow(eps=0.4, norm="l_2", objective="margin")
    assert "Tomorrow l_inf" not in attacks
    assert "Bounded needs bounds" in left_out["Bounded l_inf"]
    assert not any(name.startswith("Bounded") for name in attacks)


def test_budgets_reach_the_members_of_an_ensemble(module):
    post = br.predictive.from_modules([br.nets.mlp(2, (), 2).eval()], bounds=(0, 1))
    attacks, _ = module.gauntlet({"l_inf": 0.1}, {"Square": {"queries": 7}, "APGD": {"steps": 3}}, {"net": post})
    members = attacks["AutoAttack l_inf"].members()
    assert [type(one).__name__ for one in members] == ["APGD", "APGD", "FAB", "Square"]
    assert [members[0].steps, members[1].steps, members[1].classes, members[3].queries] == [3, 3, 9, 7]
    assert {one.eps for one in members} == {0.1}
    default, _ = module.gauntlet({"l_inf": 0.1}, {}, {"net": post})
    assert default["AutoAttack l_inf"].members() == ATTACKS["AutoAttack"](eps=0.1).members()


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_every_budget_is_one_of_an_attack_of_the_registry(module, scale):
    for case in module.cases(scale).values():
        for name, settings in module.merged(module.BUDGETS[scale], case.budget).items():
            ATTACKS[name](**settings)
        svi, hmc = case.methods["SVI"], case.methods["HMC"]
        assert svi.num_draws == hmc.num_samples * hmc.num_chains
    if scale == "paper":
        assert module.BUDGETS[scale] == {}


# ---- tables --------------------------------------------------------------------------------------------------------------


def test_the_accuracy_table_holds_the_trees_numbers(folder, trees):
    rows = table(folder, "accuracy").to_dict("records")
    for data, result in trees.items():
        ours = [row for row in rows if row["data"] == data]
        assert ours[0]["attack"] == "none"
        assert len(ours) == 1 + sum(len(v) + 1 for v in members(result["SGD"]).values())
        for row in ours:
            for method in METHODS:
                at = result[method]["robustness"].to_dataset()
                if row["attack"] == "none":
                    expected = cell(at["accuracy"], at["accuracy_interval"])
                elif row["attack"] == "all, point by point":
                    at = at.sel(threat=row["threat"])
                    expected = cell(at["worst_case_accuracy"], at["worst_case_accuracy_interval"])
                else:
                    at = at.sel(attack=row["attack"])
                    expected = cell(at["adversarial_accuracy"], at["adversarial_accuracy_interval"])
                assert row[method] == expected


def members(result: xr.DataTree) -> dict[str, list[str]]:
    """By their settings: those with a radius, and that do not look for the smallest perturbation."""
    settings = json.loads(result.attrs["attacks"])
    outcome: dict[str, list[str]] = {}
    for name, attack in settings.items():
        if "eps" in attack and not ATTACKS[attack["attack"]].minimal:
            outcome.setdefault(f"{attack['norm']} <= {attack['eps']:g}", []).append(name)
    return outcome


def test_threat_models_hold_the_attacks_of_their_ball(module, trees):
    for outcome in trees.values():
        for result in outcome.values():
            assert module.members_of(result) == members(result)
            for threat, names in members(result).items():
                at = result["robustness"].to_dataset()
                worst = float(at["worst_case_accuracy"].sel(threat=threat))
                assert worst <= float(at["adversarial_accuracy"].sel(attack=names).min())


def test_the_table_of_smallest_perturbations_holds_the_trees_numbers(folder, trees):
    rows = table(folder, "smallest").to_dict("records")
    assert {row["attack"] for row in rows} >= {"DeepFool l_2", "FAB l_inf", "JSMA l_0", "Boundary l_2", "CarliniWagner l_2"}
    for row in rows:
        for method in METHODS:
            at = trees[row["data"]][method]["robustness"].to_dataset().sel(attack=row["attack"])
            assert not math.isnan(float(at["median_perturbation"]))
            assert row[method] == cell(at["median_perturbation"], at["median_perturbation_interval"])
            expected = cell(at["adversarial_accuracy"], at["adversarial_accuracy_interval"])
            assert row[f"{method} accuracy"] == expected


def test_costs_are_the_trees(folder, trees):
    rows = table(folder, "cost").to_dict("records")
    assert len(rows) == sum(result["SGD"]["robustness"].sizes["attack"] for result in trees.values())
    for row in rows:
        for method in METHODS:
            at = trees[row["data"]][method]["robustness"].to_dataset().sel(attack=row["attack"])
            for what in ("queries", "gradients"):
                assert row[f"{method} {what}"] == f"{float(at[what]):.0f}"
            assert row[f"{method} seconds"] == f"{float(at['seconds']):.1f}"


def test_settings_are_those_that_ran(folder, trees):
    rows = {(row["data"], row["attack"]): row["settings"] for row in table(folder, "settings").to_dict("records")}
    for data, result in trees.items():
        for name, settings in json.loads(result["HMC"].attrs["attacks"]).items():
            assert f"attack {settings['attack']}" in rows[data, name]
            if "eps" in settings:
                assert f"eps {settings['eps']}" in rows[data, name]
    assert "queries 30" in rows["digits", "AutoAttack l_inf"]


def test_the_matrix_is_that_of_the_kept_posteriors(module, folder, posteriors, trees):
    case = module.cases("smoke")["digits"]
    dataset = case.load(0)
    predictives = {name: case.fit(method, dataset, posteriors, 0) for name, method in case.methods.items()}
    attack = br.attacks.PGD(eps=0.1, objective="predictive_loss")
    expected = transfer_matrix(predictives, dataset, attack, num_points=20, seed=0)
    # A point of twenty may tip over on a last bit.
    xr.testing.assert_allclose(tree(folder, "transfer_digits")["transfer"].to_dataset(), expected, atol=0.11)
    accuracy = [float(trees["digits"][name]["robustness"]["accuracy"]) for name in METHODS]
    np.testing.assert_allclose(expected["accuracy"], accuracy)


def test_the_report_is_one_page_that_needs_nothing_else(folder):
    check_report(folder)
    result = manifest(folder)
    assert next(iter(result["tables"])) == "accuracy"
    for file in NAMES.values():
        assert {f"threats_{file}", f"curves_{file}", f"transfer_{file}"} <= set(result["figures"])
    assert result["tables"].keys() >= {"accuracy", "smallest", "cost", "posteriors", "settings", "chains"}
    assert sum("against PGD" in note for note in result["notes"]) == 6
    assert sum("masked gradients:" in note for note in result["notes"]) == 12


# ---- verdicts ------------------------------------------------------------------------------------------------------------


def right(**rows: list[int]) -> xr.DataArray:
    return xr.DataArray(
        np.array(list(rows.values()), dtype=bool),
        dims=("attack", "point"),
        coords={"attack": [n.replace("_", " ") for n in rows]},
    )


def test_a_flag_where_less_knowledge_leaves_less(module):
    masked = right(pgd=[1, 1, 1, 0], fgsm=[1, 1, 1, 1], square=[1, 0, 0, 0], random=[1, 1, 1, 1])
    text = shared("gauntlet_notes").masking(masked, ["pgd", "fgsm"], ["square", "random"])
    assert text.startswith("Flag of masked gradients: square without gradients leaves 0.250, pgd with them 0.750; 2 points")
    honest = right(pgd=[1, 0, 0, 0], square=[0, 1, 1, 0])
    text = shared("gauntlet_notes").masking(honest, ["pgd"], ["square"])
    # Less is left by the one that knows more; that the other finds a point of its own is said.
    assert text.startswith(
        "No flag of masked gradients: square without gradients leaves 0.500, pgd with them 0.250; 1 points"
    )


@pytest.mark.parametrize(("searched", "verdict"), [([1, 0, 0, 0], "wins"), ([1, 1, 0, 0], "does not win")])
def test_random_search_wins_only_where_it_leaves_less(module, searched, verdict):
    rows = right(RandomSearch_l=searched, PGD_l=[0, 1, 1, 0])
    threats = {"l <= 0.1": ["RandomSearch l", "PGD l"], "l_2 <= 1": ["PGD l"]}
    text = shared("gauntlet_notes").random_search(rows, threats)
    only = 2 if verdict == "wins" else 1
    left = 0.25 if verdict == "wins" else 0.5
    assert text == (f"random search {verdict} against PGD (l <= 0.1: {left:.3f} and 0.500, {only} points to it alone).")
    assert shared("gauntlet_notes").random_search(rows, {"l_2 <= 1": ["PGD l"]}) == ""


def test_transfer_that_beats_the_attack_itself_is_a_flag(module):
    names = ["A", "B", "C"]
    accuracy = [[0.1, 0.5, 0.3], [0.4, 0.6, 0.3], [0.2, 0.7, 0.3]]
    matrix = xr.Dataset(
        {"adversarial_accuracy": (("source", "target"), accuracy), "accuracy": ("target", [0.9, 0.8, 0.7])},
        coords={"source": names, "target": names},
    )
    first, second, third = module.transfer_notes("data", matrix)
    assert "itself it keeps 0.100, by what was found on C 0.200: more is left" in first
    assert "itself it keeps 0.600, by what was found on A 0.500: a flag of masked gradients" in second
    assert third.endswith("as much as on itself.")


def test_verdicts_are_those_of_the_trees(folder, trees):
    rows = table(folder, "verdicts")
    for data, of in trees.items():
        said = rows[rows["data"] == data].set_index("figure")
        for method, result in of.items():
            scores = result["robustness"].to_dataset()
            assert said.loc["posterior", method] == str(scores["posterior_verdict"].item())
            for attack in scores["attack"].values.tolist():
                assert said.loc[attack, method] == str(scores["verdict"].sel(attack=attack).item())
            for threat in scores["threat"].values.tolist():
                worst = scores["worst_case_verdict"].sel(threat=threat).item()
                assert said.loc[f"worst case, {threat}", method] == str(worst)
