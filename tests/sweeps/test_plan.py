"""What shares a run does it to the last bit."""

from __future__ import annotations

import pytest

from bayesrob import sweeps
from bayesrob.sweeps import Grid, plan
from tests.sweeps.helpers import ALL, CHAINS, FIXED, SMALL, assert_same


def test_beginnings_share_a_run():
    whole = plan(SMALL.cells(CHAINS))
    assert [run.ends for run in whole.runs if len(run.ends) == 3 and run.cells[0].inference["method"] == "SGD"] == [
        (2, 3, 5)
    ] * 4
    chains = [run for run in whole.runs if run.cells[0].inference["method"] == "HMC"]
    assert [run.ends for run in chains] == [(2, 4, 9)] * 2
    assert sorted(cell.key for cell in whole.cells) == sorted(cell.key for cell in SMALL.cells(CHAINS))
    assert [run.cost for run in whole.runs] == sorted((run.cost for run in whole.runs), reverse=True)


def test_other_evaluations_of_one_posterior_share_its_run():
    grid = Grid(
        FIXED, {"net.width": [8], "inference.epochs": [3], "evaluation.attacks": [{"FGSM": {"eps": e}} for e in (0.1, 0.2)]}
    )
    (run,) = plan(grid.cells()).runs
    assert run.ends == (3, 3)


@pytest.mark.parametrize("change", [{"decay": True}, {"epochs": None}])
def test_what_is_no_beginning_is_trained_by_itself(change):
    """Half a cosine has another shape for each length."""
    fixed = {**FIXED, "inference": {**FIXED["inference"], **change}}
    axis = {"inference.batch_size": [32, 64]} if "epochs" in change else {"inference.epochs": [2, 3]}
    cells = Grid(fixed, {"net.width": [8], **axis}).cells()
    whole = plan(cells)
    assert len(whole.runs) == 2
    assert all(run.ends == (None,) for run in whole.runs)


def test_saving_by_arithmetic():
    """The grid of Carbone et al. for SGD: epochs 3, 5, 7, 9, 12 and 15 cost as much as 51, and 15 when shared."""
    fixed = {**FIXED, "evaluation": {"attacks": {}, "num_points": 1}}
    whole = plan(Grid(fixed, {"net.width": [512], "inference.epochs": [3, 5, 7, 9, 12, 15]}).cells())
    assert whole.separate_cost / whole.cost == pytest.approx(51 / 15, rel=0.01)
    assert "6 cells from 1 training runs" in whole.describe()


def test_shared_and_single_runs_have_the_same_bits(tmp_path):
    assert sweeps.run(ALL, tmp_path / "shared", workers=1)["done"] == 20
    assert sweeps.run(ALL, tmp_path / "alone", workers=1, share=False)["done"] == 20
    assert_same(tmp_path / "shared", tmp_path / "alone")


def test_an_estimate_is_of_the_order_of_what_it_takes():
    assert 0.01 < sweeps.estimate(plan(SMALL.cells())) < 100
