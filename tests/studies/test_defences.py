"""Study 20 at smoke scale: every defence attacked, tables of the trees' numbers, verdicts that follow."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.studies.helpers import check_report, group, manifest, table, tree

STUDY = "defences"


def test_report_shows_everything(folder):
    check_report(folder)


def test_every_defence_is_attacked_and_tabled(module, folder):
    task = module.tasks("smoke")["digits MLP"]
    rows = table(folder, "defences")
    assert rows["defence"].tolist() == list(module.defences(task))
    for name, row in zip(rows["defence"], rows.itertuples(index=False), strict=True):
        scores = group(folder, "digits-MLP-" + module.file_name(name), "robustness")
        assert row.FGSM.startswith(f"{float(scores['adversarial_accuracy'].sel(attack='FGSM')):.3f} [")
        least = float(scores["adversarial_accuracy"].min())
        assert float(rows.loc[rows["defence"] == name, "worst case"].iloc[0].split()[0]) <= least + 1e-9


def test_random_defences_are_attacked_in_expectation(folder):
    settings = tree(folder, "digits-MLP-resize-and-pad").attrs["attacks"]
    assert '"num_draws": 4' in settings
    assert '"num_draws": null' in tree(folder, "digits-MLP-plain").attrs["attacks"]
    assert any("over fresh transformations" in note for note in manifest(folder)["notes"])


@pytest.mark.parametrize(
    ("only_one", "only_other", "verdict"),
    [
        (30, 5, "PGD is stronger"),
        (5, 30, "FGSM is stronger"),
        (6, 1, "not to be told apart"),
        (0, 0, "not to be told apart"),
    ],
)
def test_which_attack_is_stronger_is_mcnemar_s_to_say(module, only_one, only_other, verdict):
    rest = 40
    right = np.array(
        [
            [False] * only_one + [True] * only_other + [True] * rest,
            [True] * only_one + [False] * only_other + [True] * rest,
        ]
    )
    log_probability = np.stack([np.where(right, 0.0, -5.0), np.where(right, -5.0, 0.0)], axis=-1)
    points = xr.Dataset(
        {
            "label": ("point", np.zeros(right.shape[1], dtype=int)),
            "adversarial_log_probability": (("attack", "point", "class"), log_probability),
        },
        coords={"attack": ["PGD", "FGSM"]},
    )
    text = module.stronger(xr.DataTree.from_dict({"points": points}), "PGD", "FGSM")
    assert verdict in text
    assert f"PGD leaves {right[0].mean():.3f}, FGSM {right[1].mean():.3f}" in text
