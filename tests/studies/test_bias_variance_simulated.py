"""Study 09 at smoke scale: terms that add up to the loss, theorems that are right where eps is small, words that follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from tests.studies.helpers import check_report, manifest, shared, table, tree

STUDY = "bias_variance_simulated"


def test_report_shows_everything(folder):
    check_report(folder)


def numbers(column) -> np.ndarray:
    return np.array([float(cell.split()[0]) for cell in column])


def test_terms_add_up_to_the_loss(module, folder):
    """Of squared error with the noise, of cross-entropy without: in the trees exactly, in the tables as far as digits go."""
    for models in ("seeds", "disjoint splits"):
        for label in ("FGSM on the set", "FGSM on each model"):
            result = tree(folder, module.file_name(f"a-{models}-{label}")).to_dataset()
            assert result["noise"].item() == pytest.approx(module.NOISE**2 / 3)
            np.testing.assert_allclose(result["mean_bias"] + result["mean_variance"] + result["noise"], result["mean_loss"])
            # The unbiased estimator moves what is not the models' own from one term to the other.
            np.testing.assert_allclose(
                result["mean_bias"] + result["mean_variance"], result["plugin_bias"] + result["plugin_variance"]
            )
    rows = table(folder, "regression")
    total = sum(numbers(rows[name]) for name in ("bias", "variance", "noise"))
    np.testing.assert_allclose(total, numbers(rows["loss"]), rtol=0.02)
    rows = table(folder, "classes")
    np.testing.assert_allclose(numbers(rows["bias"]) + numbers(rows["variance"]), numbers(rows["loss"]), rtol=0.02)
    accuracy = numbers(rows["accuracy"])[rows["training"].eq("plain") & rows["attack"].eq("PGD on each model")]
    assert accuracy[0] > 0.9
    assert accuracy[-1] < 0.1


def test_first_order_is_right_at_small_eps(module, folder):
    """Within the rounding of networks in float32; and the paper's claim at large eps is the note's to judge."""
    for part, name in (("a", "seeds"), ("b", "plain"), ("b", "PGD")):
        result = tree(folder, module.file_name(f"{part}-{name}-first order")).to_dataset()
        assert result["eps"].values[0] == 0
        for term in ("bias", "variance"):
            said, measured = result[f"predicted_{term}"].values[:2], result[f"measured_{term}"].values[:2]
            np.testing.assert_allclose(said, measured, rtol=0.01)
    rows = table(folder, "first_order_regression")
    assert rows["models"].tolist() == ["seeds", "disjoint splits"]
    assert sum("theorem" in note for note in manifest(folder)["notes"]) == 6


def test_the_gradient_beats_the_printed_direction_and_chance(folder):
    result = tree(folder, "c").to_dataset()
    change = result["change"].sel(rms=0.01, term="bias").mean("point")
    exact, printed = (float(change.sel(attack=f"bias, {name}, point")) for name in ("exact", "paper"))
    assert exact >= printed
    # 50 random directions a point in the plane: the best is nearly the gradient's.
    assert exact == pytest.approx(float(change.sel(attack="random, best")), rel=0.05)
    varied = result["change"].sel(rms=0.01, term="variance").mean("point")
    assert float(varied.sel(attack="variance, point")) > float(varied.sel(attack="random, mean"))
    assert len(table(folder, "directions")) == result.sizes["rms"] * result.sizes["attack"]


def test_where_the_models_fall_short_of_the_truth(module):
    """Two linear models, known to the letter: bias 1/4, variance 1/4, and the truth that moves with x."""
    x = torch.tensor([[0.5, 0.0], [0.0, 0.25]])
    truth = module.simulated_target(x)
    outputs = truth.numpy() + np.array([0.0, 1.0])[:, None, None]  # [model, point, output]
    result = xr.Dataset(
        {
            "predictions": (("eps", "model", "point", "output"), outputs[None].astype(float)),
            "mse": ("eps", [0.0]),
            "perturbed": (("eps", "point", "feature"), x[None].numpy()),
            "moved": ("eps", [0.0]),
        },
        coords={"eps": [0.0]},
    )
    split = module.split_squares(result, truth.numpy(), truth.numpy(), 0)
    assert split["plugin_bias"].item() == pytest.approx(0.25)
    assert split["plugin_variance"].item() == pytest.approx(0.25)
    assert split["mean_variance"].item() == pytest.approx(0.5)
    assert split["mean_bias"].item() == pytest.approx(0.0, abs=1e-6)
    assert split["truth_moves"].item() == pytest.approx(0.25)
    assert split["observed_loss"].item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 2, 3], "rises from 1 to 3"),
        ([1, 3, 2], "rises from 1 to 3 at eps 1 and falls to 2"),
        ([3, 2, 1], "falls from 3 to 1"),
        ([1, 1, 1], "does not change"),
    ],
)
def test_moves_in_words(module, values, text):
    split = xr.Dataset({"mean_bias": ("eps", np.array(values, dtype=float))}, coords={"eps": [0.0, 1.0, 2.0]})
    assert module.moves(split, "mean_bias") == text


def test_first_order_is_wrong_from_where_it_stays_wrong(module):
    FINE, beyond = shared("first_order").FINE, shared("first_order").beyond

    size, miss = np.ones(len(FINE) + 1), np.zeros(len(FINE) + 1)
    assert beyond(miss, size) == f"beyond {FINE[-1]:g}"
    miss[4], miss[10:] = 1, 0.2
    assert beyond(miss, size) == f"{FINE[9]:.3g}"
    assert beyond(size, size) == f"{FINE[0]:.3g}"
