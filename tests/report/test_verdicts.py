"""A report shows each figure of an evaluation with its verdict, and why it is doubted."""

from __future__ import annotations

import html
import re

import pytest
import xarray as xr

from bayesrob import evaluate
from bayesrob.attacks import FGSM, PGD, Random
from bayesrob.evaluation import Results
from bayesrob.report import render
from bayesrob.report.verdicts import figure_rows
from tests.evaluation.judged import EPS, NEAR_AND_FAR, linear


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    attacks = {"leaps": PGD(eps=EPS, step_size=2.0), "random": Random(eps=EPS), "wide": FGSM(eps=0.3), "pgd": PGD(eps=EPS)}
    return evaluate(linear(2), NEAR_AND_FAR, attacks)


def test_every_figure_has_its_row(tree):
    rows = {row["figure"]: row for row in figure_rows(tree)}
    balls = ["worst case, l_inf <= 0.1", "worst case, l_inf <= 0.3"]
    assert list(rows) == ["leaps", "random", "wide", "pgd", *balls, "the posterior"]
    scores = tree["robustness"].to_dataset()
    for name in ("leaps", "random", "wide", "pgd"):
        assert rows[name]["accuracy"].startswith(f"{float(scores['adversarial_accuracy'].sel(attack=name)):.3f} [")
        assert rows[name]["verdict"] == scores["verdict"].sel(attack=name).item()
    assert rows["pgd"]["mark"] == rows[balls[0]]["mark"] == "good"
    assert rows["pgd"]["reasons"] == []
    assert rows["leaps"]["mark"] == "bad"
    (reason,) = rows["leaps"]["reasons"]
    assert reason.startswith("convergence: ")
    assert "step of 2 is larger than the radius 0.1" in reason
    assert rows["the posterior"]["reasons"] == [tree["checks"].attrs["posterior_reason"]]


def test_the_page_has_them_and_says_which_checks_they_are_of(tree, tmp_path):
    results = Results(tmp_path / "out", "mine", "A study.", {})
    results.tree("linear", tree, "evaluation")
    page = html.unescape(render(results.finish()).read_text())
    section = page[page.index("can these figures be believed?") : page.index("settings, seeds, versions")]
    for row in figure_rows(tree):
        for text in (row["figure"], row["verdict"], *row["reasons"]):
            assert text in section
    assert "verdicts of the cheap checks" in section
    assert "br.audit" in section
    assert len(re.findall("doubtful because of", section)) == 3  # leaps, random, and the caption


def test_trees_without_verdicts_are_shown_without(tree, tmp_path):
    old = tree.copy()
    del old["checks"]
    assert figure_rows(old) == []
    results = Results(tmp_path / "out", "mine", "A study.", {})
    results.tree("linear", old, "evaluation")
    assert "believed" not in render(results.finish()).read_text()
