"""Study 10 at smoke scale: sums that hold, perturbations as large as said, eps read in two units, claims that follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import bayesrob as br
from bayesrob.attacks import BV
from bayesrob.predictive import from_modules
from tests.studies.helpers import check_report, manifest, table, tree

STUDY = "bias_variance_images"
pytestmark = pytest.mark.slow  # its smoke run trains and attacks many networks


def test_report_shows_everything(folder):
    check_report(folder)


def test_every_set_meets_every_attack_at_the_size_said(module, folder):
    rows, count = table(folder, "attacks"), 0
    for name, task in module.tasks("smoke").items():
        for training in [*task.methods(), *([module.ADV_BNN] if task.targets else [])]:
            of = tree(folder, module.file_name(f"{name}-{training}"))
            for attack in module.attacks_on(training, None):
                result = of[module.file_name(attack)].to_dataset()
                rms = np.sqrt(result["mse"].values)
                if attack == "BV":
                    np.testing.assert_allclose(rms, result["size"], rtol=1e-3)
                else:
                    assert (rms <= result["size"] + 1e-6).all()
                split = module.measured(result)
                np.testing.assert_allclose(split["mean_bias"] + split["mean_variance"], split["mean_loss"])
                np.testing.assert_allclose(split["model_accuracy"].mean("model"), split["accuracy"])
                np.testing.assert_allclose(split["model_loss"].std("model", ddof=1), split["loss_spread"])
                count += result.sizes["size"]
            clean = [node["predictions"].sel(size=0).values for node in of.children.values()]
            assert all(np.array_equal(clean[0], other) for other in clean)
    assert len(rows) == count


def test_one_step_costs_one_gradient_and_pgd_its_steps(module, folder):
    for row in table(folder, "costs").itertuples():
        assert float(row.gradients) == (module.STEPS if row.attack in ("PGD", module.ADV_BNN) else 1)


def test_an_interrupted_run_does_not_attack_again(module, folder, posteriors, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("attacked again")

    before = table(folder, "attacks")
    monkeypatch.setattr(module, "attacked", never)
    module.main(scale="smoke", out=folder, posteriors=posteriors)
    assert table(folder, "attacks").equals(before)


def test_normalised_units_are_the_papers_settings_on_normalised_inputs(module):
    """A step of BV, the gradient times eps, behind the layer and in front of it."""
    task = module.tasks("smoke")["digits MLP-16"]
    mean, std = module.tasks.__globals__["SCALES"]["digits"]
    methods = task.methods()
    assert methods["FGSM, normalised"].attack.eps == pytest.approx(0.05 * std)
    assert methods["PGD, normalised"].attack.eps == pytest.approx(0.02 * std)
    assert methods["PGD, pixels"].attack.eps == 0.02
    assert methods["BV, pixels"].attack.eps == 2.5
    net = br.nets.mlp(6, (5,), 3).eval()
    x, y = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    inside = methods["BV, normalised"].attack(from_modules([br.nets.normalised(net, mean, std).eval()]), x, y)
    z = (x - mean) / std
    outside = BV(eps=2.5)(from_modules([net]), z, y)
    assert torch.allclose((inside - mean) / std, outside, atol=1e-5)


def curve(accuracy: list[list[float]], rms: list[float]) -> xr.Dataset:
    return xr.Dataset(
        {
            "model_accuracy": (("model", "size"), accuracy),
            "mse": ("size", np.square(rms)),
        }
    )


def test_half_of_the_accuracy_is_found_between_sizes(module):
    claims = module.image_claims
    falls = curve([[0.8, 0.6, 0.2], [1.0, 0.9, 0.8], [1.0, 0.4, 0.6]], [0.0, 0.1, 0.3])
    np.testing.assert_allclose(claims.half(falls), [0.2, np.nan, 0.1 * 0.5 / 0.6])
    np.testing.assert_allclose(claims.at(falls, "model_accuracy", 0.2), [0.4, 0.85, 0.5])
    assert np.isnan(claims.at(falls, "model_accuracy", 0.31)).all()


def test_intervals_are_students(module):
    mean, low, high = module.image_claims.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (mean, high - mean) == pytest.approx((3.0, 2.776 * np.sqrt(2.5 / 5)), rel=1e-3)
    assert low == pytest.approx(2 * mean - high)
    assert np.isnan(module.image_claims.interval(np.array([1.0]))).all()


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "met"), (-0.1, 0.2, "open"), (-0.2, -0.1, "contradicted"), (np.nan, np.nan, "not measured")],
)
def test_verdicts(module, low, high, word):
    assert module.image_claims.verdict(low, high) == word


def test_notes_count_the_verdicts(module, folder):
    rows, notes = table(folder, "claims"), manifest(folder)["notes"]
    for claim in rows["claim"].unique():
        (note,) = [note for note in notes if note.lower().startswith(claim.lower() + ":")]
        for word, count in rows.loc[rows["claim"] == claim, "verdict"].value_counts().items():
            assert f"{count} {word}" in note
