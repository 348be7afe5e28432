"""Study 18 at smoke scale, and the numbers of its grids."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayesrob import sweeps
from tests.studies.helpers import check_report, manifest, table, tree

STUDY = "architecture_sweep"


def test_report_shows_everything(folder):
    check_report(folder)


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_grids_have_the_papers_numbers(module, scale):
    """972, 1,080 and 960 settings a data set; draws and epochs share their runs."""
    for method, settings, runs in (("HMC", 972, 324), ("SGD", 1080, 180), ("SVI", 960, 192)):
        cells = module.grids(scale, "mnist", 0)[method].cells()
        assert len(cells) == settings
        ends = {"HMC": "num_samples", "SGD": "epochs", "SVI": "epochs"}[method]
        rest = {str({**cell.config, "inference": {**cell.inference, ends: 0}}) for cell in cells}
        assert len(rest) == runs


def test_every_cell_is_done_and_correlated(module, folder):
    cells = sweeps.collect(folder / "sweep" / "digits")
    rows = table(folder, "correlations")
    for method in ("HMC", "SGD", "SVI"):
        result = cells[method].to_dataset()
        assert result.sizes["cell"] == len(module.grids("smoke", "digits", 0)[method].cells())
        for attack in ("FGSM", "PGD"):
            here = rows[(rows["method"] == method) & (rows["attack"] == attack) & (rows["settings"] == "all")]
            score = result["softmax_robustness"].sel(attack=attack)
            expected = stats.spearmanr(result["accuracy"], score).statistic
            assert here["correlation"].item().startswith(f"{expected:+.3f}")
    xr.testing.assert_identical(tree(folder, "digits")["SGD"].to_dataset(), cells["SGD"].to_dataset())


def test_the_reference_scores_averages_of_draws_twice(module, folder):
    """Which caps what can be lost, so that nothing looks unrobust."""
    result = tree(folder, "digits")["HMC"].to_dataset()
    twice = module.scored("HMC", result, "reference")
    assert (twice >= 0.85).all()
    assert np.array_equal(module.scored("SGD", result, "reference"), result["softmax_robustness"].sel(attack="reference"))


def test_chains_that_stayed_and_networks_at_chance_are_set_apart(module):
    result = xr.Dataset(
        {
            "accuracy": ("cell", [0.9, 0.9, 0.1, 0.9]),
            "distinct_draws": ("cell", [40.0, 2.0, 40.0, np.nan]),
            "num_draws": ("cell", [50.0, 50.0, 50.0, 1.0]),
        }
    )
    assert module.subsets(result)["moved and beats chance"].tolist() == [True, False, False, True]
    assert module.subsets(result)["all"].all()


@pytest.mark.parametrize(
    ("text", "sign", "word"),
    [
        ("+0.500 [+0.400, +0.600]", 1, "met"),
        ("+0.500 [+0.400, +0.600]", -1, "contradicted"),
        ("-0.500 [-0.600, -0.400]", -1, "met"),
        ("+0.100 [-0.100, +0.300]", -1, "open"),
        ("none", 1, "not measured"),
    ],
)
def test_verdicts(module, text, sign, word):
    assert module.verdict(text, sign) == word


def test_claims_are_told(folder):
    notes = manifest(folder)["notes"]
    assert sum("robustness grows with width" in note for note in notes) == 6
    assert sum("double softmax" in note for note in notes) == 6
