"""Study 14 at smoke scale: cosines of known vectors, agreement against chance, ways that end where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data
from tests.studies.helpers import check_report, manifest, shared, table, tree

STUDY = "semantic_gradients"
pytestmark = pytest.mark.slow  # its smoke run trains and attacks many networks


def test_report_shows_everything(folder):
    check_report(folder)


def test_cosines_of_known_vectors(module):
    a = torch.tensor([[3.0, 0.0], [1.0, 1.0], [1e-30, 0.0], [0.0, 0.0]])
    b = torch.tensor([[0.5, 0.0], [1.0, -1.0], [-2.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(module.cosine(a, b), [1, 0, -1, np.nan], atol=1e-12)


def test_gradients_that_are_the_image_align_with_it_and_not_with_another_s(module):
    x = torch.eye(4).repeat(5, 1) * 0.5
    y = torch.arange(20) % 4
    dataset = data.from_arrays(x, y, x, y)
    rival = (y + 1) % 4
    result = module.alignment(x - x.mean(0), dataset, rival, seed=0)
    np.testing.assert_allclose(result["cosine"].sel(what="image", whose="own"), 1)
    other = result["other"].values
    assert sorted(other) == list(range(20))
    assert (other != np.arange(20)).all()
    same = y.numpy() == y.numpy()[other]
    np.testing.assert_allclose(result["cosine"].sel(what="image", whose="other"), np.where(same, 1, -1 / 3), atol=1e-6)
    towards = module.alignment(torch.eye(4)[y] - torch.eye(4)[rival], dataset, rival, seed=0)
    np.testing.assert_allclose(towards["cosine"].sel(what="class means", whose="own"), 1)


def test_agreement_and_what_chance_would_give(module):
    new, verdict = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    agrees, chance = module.agreement(new, verdict)
    assert agrees.tolist() == [True, False, True, False]
    assert chance == pytest.approx(0.5 * 0.25 + 0.25 * 0.75)


def test_nearest_images_vote(module):
    nearest = shared("semantic_tasks").nearest

    x = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1]])
    y = torch.tensor([1, 1, 0, 2, 2])
    assert nearest(x, y, torch.tensor([[0.05], [5.2]]), neighbours=3).tolist() == [1, 2]


def test_ways_end_at_the_very_images(module):
    generator = torch.Generator().manual_seed(0)
    x, moved = (torch.rand(5, 1, 4, 4, generator=generator) for _ in range(2))
    result = module.way(x, moved)
    assert torch.equal(result[0], x)
    assert torch.equal(result[-1], moved)
    torch.testing.assert_close(result[5], (x + moved) / 2)


def test_where_minds_change_on_a_known_way(module):
    """Of three points one is wrong from the start and one never changes: one is left, which passes through a third class."""
    network = np.array([[0, 0, 2, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]).T
    judge = np.array([[0, 0, 0, 0, 2], [0] * 5, [0] * 5]).T
    result = xr.Dataset(
        {
            "called": (("who", "t", "point"), np.stack([network, judge])),
            "old": ("point", [0, 0, 0]),
            "new": ("point", [1, 1, 0]),
        },
        coords={"who": ["the network", "judge"], "t": np.linspace(0, 1, 5)},
    )
    cells = module.way_cells(result)
    assert cells["points"] == "1"
    assert cells["changes at"] == "0.750 [0.750, 0.750]"
    assert cells["the network: old or new"] == "0.667"
    assert (cells["judge: old or new"], cells["judge: arrives"]) == ("1.000", "0.000")


def test_tables_hold_what_the_trees_do(module, folder):
    task = module.tasks("smoke")["digits"]
    rows, large = table(folder, "gradients"), table(folder, "large")
    assert rows["network"].tolist() == [f"digits/{name}" for name in task.networks]
    assert len(large) == len(task.networks) * len(task.large)
    for name, row in zip(task.networks, rows.to_dict("records"), strict=True):
        cosines = tree(folder, module.file_name(f"digits-{name}-cosines")).to_dataset()["cosine"].dropna("point")
        own = cosines.sel(what="image", whose="own").values
        assert float(row["image"].split()[0]) == pytest.approx(own.mean(), abs=6e-4)
        walk = tree(folder, module.file_name(f"digits-{name}-l_2 3")).to_dataset()
        end = walk["called"].sel(who="the network").isel(t=-1)
        np.testing.assert_array_equal(end, walk["new"])
        fooled = float((walk["new"] != walk["old"]).mean())
        at = large[(large["network"] == f"digits/{name}") & (large["attack"] == "l_2 3")]
        assert float(at["fooled"].iloc[0].split()[0]) == pytest.approx(fooled, abs=6e-4)
    assert sum("cosine of gradients" in note for note in manifest(folder)["notes"]) == 2
