"""Study 16 at smoke scale: what the definitions say of rules that are known, and what tables say of the trees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bayesrob as br
from tests.studies.helpers import check_report, manifest, shared, table, tree

STUDY = "what_counts"


@pytest.fixture(scope="module")
def definitions(folder):
    return {name: node.to_dataset() for name, node in tree(folder, "definitions").children.items()}


def test_report_shows_everything(folder):
    check_report(folder)


def test_a_threshold_between_two_points_is_robust_or_not_by_the_definition(definitions):
    """The article's claim, exactly: at eps none is robust by the norm alone, all are while the label has to stay."""
    for radius, norm in (("0.04", 1.0), ("0.1", 0.0)):
        at = definitions[f"two_points-l_inf_{radius}"].sel(classifier="threshold at eps/2")
        assert float(at["accuracy"]) == 1
        assert float(at["worst_case_accuracy"].sel(definition="norm")) == norm
        assert float(at["worst_case_accuracy"].sel(definition="label_invariant")) == 1


def test_the_bayes_classifier_of_the_nearest_point_has_no_label_invariant_example(definitions):
    """At any radius, under any attack: so it keeps the Bayes accuracy, whatever it loses by the norm alone."""
    seen = 0
    for each in definitions.values():
        if "Bayes of pi(x)" in each["classifier"].values:
            at, seen = each.sel(classifier="Bayes of pi(x)"), seen + 1
            assert int(at["count"].sel(definition="label_invariant").sum()) == 0
            assert float(at["worst_case_accuracy"].sel(definition="label_invariant")) == float(at["accuracy"])
    assert seen == 2
    assert float(definitions["toy-l_inf_6"].sel(classifier="Bayes of pi(x)", definition="norm")["worst_case_accuracy"]) < 0.1


def test_the_label_invariant_definition_only_takes_examples_away(definitions):
    for each in definitions.values():
        norm, invariant = (each["adversarial_example"].sel(definition=kind) for kind in ("norm", "label_invariant"))
        assert not (invariant & ~norm).any()
        worst = each["worst_case_accuracy"]
        assert (worst.sel(definition="label_invariant") >= worst.sel(definition="norm")).all()


def test_asking_for_label_invariant_examples_finds_those_that_pgd_walks_past(definitions):
    """In the toy: linear Bayes off the support. PGD ends where the label has changed; the attacks that ask do not."""
    at = definitions["toy-l_inf_6"].sel(classifier="weak alone", definition="label_invariant")["adversarial_example"]
    by_pgd, asked = (int(at.sel(attack=name).sum()) for name in ("PGD", "PGD, label-invariant"))
    assert by_pgd == 0
    assert asked > 10


def test_moving_the_weak_feature_has_the_shares_in_closed_form(module, folder):
    """99% intervals of 2,000 points; zero where the definition says none."""
    rows = table(folder, "moved")
    assert rows["classifier"].tolist() == list(module.exact_moved())
    for row in rows.to_dict("records"):
        for kind, exact in zip(("norm", "label-invariant"), module.exact_moved()[row["classifier"]], strict=True):
            low, high = (float(bound) for bound in row[kind].split("[")[1].rstrip("]").split(", "))
            assert low - 5e-4 <= exact <= high + 5e-4  # printed to three digits
            assert row[f"{kind}, exact"] == f"{exact:.4f}"
    assert "Neither is an adversarial example" in manifest(folder)["notes"][0]


def test_closed_forms_against_a_million_points(module):
    """By quadrature over y x_2 after the move, for both values of y x_1."""
    p, eta = module.P, module.ETA
    z = np.linspace(-12, 6, 400_001)
    weight = np.exp(-((z + eta) ** 2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    odds = np.log(p / (1 - p))
    likelier = {s: s * odds + 2 * eta * z > 0 for s in (1, -1)}  # the label stays the likelier one
    mass = {1: p, -1: 1 - p}
    weak = sum(mass[s] * weight[(z < 0) & likelier[s]].sum() for s in (1, -1))
    rest = sum(mass[s] * weight[likelier[s]].sum() for s in (1, -1))
    exact = module.exact_moved()
    np.testing.assert_allclose(exact["weak alone"], [weight[z < 0].sum(), weak], rtol=1e-3)
    np.testing.assert_allclose(exact["Bayes, linear"], [1 - rest, 0], rtol=1e-3)


def test_rules_are_what_their_names_say(module):
    WORLDS, rules = shared("known_worlds").WORLDS, shared("known_worlds").rules

    for name in ("toy", "spheres", "moons"):
        world = WORLDS[name]
        data = br.data.load(world.data, 400, 300, 0, **world.settings)
        for rule, post in rules(world, data).items():
            guess = post(data.x_test).argmax(1)
            off = data.x_test + 0.1 * torch.randn(data.x_test.shape, generator=torch.Generator().manual_seed(0))
            if rule == "Bayes of pi(x)":
                bayes = data.conditional(data.project(off)).argmax(1)
                assert torch.equal(post(off).argmax(1), bayes)
            if rule == "nearest neighbour":
                nearest = data.y_train[torch.cdist(off, data.x_train).argmin(1)]
                assert torch.equal(post(off).argmax(1), nearest)
                assert (guess == data.y_test).float().mean() > 0.8


def test_the_table_holds_the_trees_numbers(folder, definitions):
    rows = table(folder, "definitions")
    assert len(rows) == sum(each.sizes["classifier"] for each in definitions.values())
    for row in rows.to_dict("records"):
        at = definitions[f"{row['world']}-{row['ball']}".replace(" ", "_")].sel(classifier=row["classifier"])
        for kind in ("norm", "label_invariant"):
            value = float(at["worst_case_accuracy"].sel(definition=kind))
            assert row[f"robust, {kind.replace('_', '-')}"].startswith(f"{value:.3f} [")
        assert int(row["PGD's successes"]) == int(at["successes"].sel(attack="PGD"))
        assert int(row["found by PGD"]) == int(at["count"].sel(definition="label_invariant", attack="PGD"))
