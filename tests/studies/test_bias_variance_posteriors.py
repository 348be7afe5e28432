"""Study 11 at smoke scale: terms that add up, models that differ by what they should, chains that are judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob.nets import mlp
from bayesrob.predictive import from_modules
from tests.studies.helpers import check_report, manifest, table, tree

STUDY = "bias_variance_posteriors"
pytestmark = pytest.mark.slow  # its smoke run trains and attacks many networks


def test_report_shows_everything(folder):
    check_report(folder)


def test_terms_add_up_and_every_method_has_its_rows(module, folder):
    task = module.tasks("smoke")["half moons"]
    rows = table(folder, "models")
    networks = ("SGD", "MAP")
    attacks = {name: [*module.attacks_on(task), *([] if name in networks else [module.SINGLE])] for name in task.methods()}
    assert len(rows) == len(module.OVER) * sum(map(len, attacks.values())) * (len(task.eps) + 1)
    for over in module.OVER:
        for method in task.methods():
            for label in attacks[method]:
                node = tree(folder, module.file_name(f"half moons-{method}-{over}"))[module.file_name(label)]
                result = node.to_dataset()
                np.testing.assert_allclose(result["mean_bias"] + result["mean_variance"], result["mean_loss"])
                assert (result["mean_variance"] >= 0).all()
                assert (
                    result["draw_variance"].isnull() == (method in networks or label in ("FGSM on the set", module.SINGLE))
                ).all()
    assert table(folder, "worst")["method"].tolist() == list(task.methods())


def test_chains_are_judged_and_verdicts_written(module, folder):
    task = module.tasks("smoke")["half moons"]
    assert len(table(folder, "chains")) == len(module.OVER) * task.models
    notes = manifest(folder)["notes"]
    assert sum("in function space" in note for note in notes) == len(module.OVER)
    assert sum("beside SGD's" in note for note in notes) == len(module.OVER) * (len(task.methods()) - 1)
    assert sum("beside MAP's" in note for note in notes) == len(module.OVER) * 2
    assert sum("beside one draw's" in note for note in notes) == len(module.OVER) * (len(task.methods()) - 2)


def test_models_of_either_reading_see_as_many_points(module, monkeypatch, tmp_path):
    """By seeds all see the points of the first split."""
    task, seen = module.tasks("smoke")["half moons"], {}

    def fit(self, model, dataset, seed, folder):
        seen[self.over] = [self.part(dataset, seed, i).x_train for i in range(self.num_models)]
        return []

    monkeypatch.setattr(module.Replicates, "fit", fit)
    for over in module.OVER:
        task.fit("SVI", over, 0, tmp_path)
    by_seed, by_split = seen["seeds"], seen["disjoint_splits"]
    assert {len(x) for x in [*by_seed, *by_split]} == {task.n_train}
    assert all(torch.equal(x, by_split[0]) for x in by_seed)
    assert len(torch.cat(by_split).unique(dim=0)) == task.models * task.n_train


def test_spread_is_that_of_the_draws(module):
    """Two draws of one model, by the definition: -log sum_c exp(mean_d log p_dc)."""
    nets = [mlp(2, (3,), 2, activation="relu", seed=seed).eval() for seed in (0, 1)]
    post = from_modules(nets)
    x, y = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
    at = xr.Dataset({"perturbed": (("eps", "model", "point", "feature"), torch.stack([x, x])[None].numpy())})
    with torch.no_grad():
        logs = post.logits(x).log_softmax(-1).double().mean(0)
    expected = -logs.exp().sum(-1).log().mean()
    np.testing.assert_allclose(module.spread([post, post], at, x, y), [float(expected)], rtol=1e-4)


def test_lower_only_where_intervals_part(module):
    def curve(low: float, high: float) -> xr.Dataset:
        middle = (low + high) / 2
        return xr.Dataset(
            {
                "mean_variance": ("eps", [middle]),
                "mean_variance_interval": (("eps", "bound"), [[low, high]]),
                "mean_loss": ("eps", [1.0]),
            },
            coords={"eps": [0.1]},
        )

    base = curve(0.4, 0.6)
    for other, word in ((curve(0.1, 0.3), "lower"), (curve(0.5, 0.9), "not told apart"), (curve(0.7, 0.9), "higher")):
        assert f", {word} (" in module.beside(other, base)
    methods = {
        "SGD": {"PGD": base},
        "MAP": {"PGD": curve(0.1, 0.2)},
        "HMC": {"PGD": curve(0.1, 0.3), module.SINGLE: curve(0.2, 0.3)},
    }
    _, first, second, third = module.verdicts("moons", {"seeds": methods})
    assert first.endswith("beside SGD's: eps 0.1: 0.2 and 0.5, lower (loss 1 and 1).")
    assert second.endswith("beside one draw's: eps 0.1: 0.2 and 0.25, not told apart (loss 1 and 1).")
    assert third.endswith("beside MAP's: eps 0.1: 0.2 and 0.15, not told apart (loss 1 and 1).")
