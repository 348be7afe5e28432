"""The quickstart at smoke scale: its table holds the evaluation's numbers, its report holds everything."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import bayesrob as br
from bayesrob.report import render
from tests.studies.helpers import check_report, group

STUDY = "quickstart"


def test_the_table_holds_the_evaluation_s_numbers(folder):
    table = pd.read_csv(folder / "accuracy.csv").set_index("method")
    for name in ("SGD", "SVI", "HMC"):
        result = group(folder, name, "robustness")
        assert table.loc[name, "clean"].startswith(f"{float(result['accuracy']):.3f} [")
        for attack in result["attack"].values:
            assert table.loc[name, attack].startswith(f"{float(result['adversarial_accuracy'].sel(attack=attack)):.3f} [")


def test_the_tables_hold_the_verdicts(folder):
    table = pd.read_csv(folder / "accuracy.csv").set_index("method")
    verdicts = pd.read_csv(folder / "verdicts.csv").set_index("method")
    page = (folder / "report.html").read_text()
    for name in ("SGD", "SVI", "HMC"):
        result = group(folder, name, "robustness").isel(threat=0)
        assert table.loc[name, "worst case"].startswith(f"{float(result['worst_case_accuracy']):.3f} [")
        assert table.loc[name, "verdict"] == result["worst_case_verdict"].item()
        assert verdicts.loc[name, "posterior"] == result["posterior_verdict"].item()
        for attack in result["attack"].values:
            assert verdicts.loc[name, attack] == result["verdict"].sel(attack=attack).item()
            assert verdicts.loc[name, attack] in page


def test_random_signs_do_less_than_pgd(folder):
    for name in ("SGD", "SVI", "HMC"):
        accuracy = group(folder, name, "robustness")["adversarial_accuracy"]
        assert float(accuracy.sel(attack="pgd")) < float(accuracy.sel(attack="random"))


def test_the_saved_posteriors_give_the_evaluated_predictions(folder):
    dataset = br.data.load("digits", n_train=200, seed=0)
    post = br.load(folder / "posteriors" / "HMC")
    points = group(folder, "HMC", "points")
    predicted = post(dataset.x_test[points["point"].values.copy()])
    assert abs(predicted.numpy() - points["log_probability"].values).max() < 1e-5


def test_the_report_is_one_page_that_needs_nothing_else(folder):
    check_report(folder)
    page, written = (folder / "report.html").read_text(), json.loads((folder / "study.json").read_text())
    assert set(written["figures"]) == {"attacks", "gradients", "examples", "chains", "ranks", "ess", "losses"}
    for needed in ("R-hat", "seed", "torch", "PGD"):
        assert needed in page


def test_rendering_again_gives_the_same_page(folder):
    before = (folder / "report.html").read_text()
    assert render(folder).read_text() == before


def test_a_missing_file_is_named(folder, tmp_path):
    for path in folder.glob("*.*"):
        if path.name != "attacks.png":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(br.errors.CheckpointError, match=r"attacks\.png"):
        render(tmp_path)


def test_an_unfinished_study_still_has_a_report(folder, tmp_path):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "study.json").read_text())
    manifest.update(finished=False, figures={})
    del manifest["seconds"]
    (tmp_path / "study.json").write_text(json.dumps(manifest))
    assert "did not finish" in render(tmp_path).read_text()


def test_a_folder_of_the_user_s_is_left_alone(module, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(br.errors.InputError, match="not empty"):
        module.main(scale="smoke", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
