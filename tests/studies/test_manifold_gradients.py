"""Study 17 at smoke scale: parts that add up, mirror images that cancel exactly, words that follow from numbers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import bayesrob as br
from tests.studies.helpers import check_report, manifest, shared, table, tree

STUDY = "manifold_gradients"


def averaged(module, folder, title, method):
    return tree(folder, module.file_name(f"{title}-{method}")).to_dataset()


def test_report_shows_everything(folder):
    check_report(folder)


def test_mirror_images_cancel_off_the_support_and_nowhere_else(module, folder):
    """Nothing on the support sees the sign of the extra weights: half of lemma 2, to the last bit of float64."""
    plain, both = (averaged(module, folder, "spheres, 60 points", name) for name in ("HMC", "HMC, mirrored"))
    last = [result.isel(num_draws=-1) for result in (plain, both)]
    assert int(last[1]["num_draws"]) == 2 * int(last[0]["num_draws"])
    for objective in plain["objective"].values.tolist():
        a, b = (each.sel(objective=objective) for each in last)
        single = a["draw_norm"].sel(part="off")
        assert (single > 0).all()
        assert (b["norm"].sel(part="off") <= 1e-13 * single + 1e-300).all()
        assert (a["norm"].sel(part="off") > 1e-6 * single).any()
        for part in ("tangent", "across"):
            np.testing.assert_allclose(a["norm"].sel(part=part), b["norm"].sel(part=part), rtol=1e-8)
            np.testing.assert_allclose(a["draw_norm"].sel(part=part), b["draw_norm"].sel(part=part), rtol=1e-8)


def test_mirror_images_are_the_same_networks_on_the_support(module):
    mirrored = shared("manifold_parts").mirrored

    data = br.data.load("sphere", 50, 30, d=3, extra=2)
    post = br.predictive.from_modules([br.nets.mlp(5, (8,), 2, seed=seed).eval() for seed in range(3)])
    both = mirrored(post, 2)
    assert both.num_draws == 2 * post.num_draws
    logits = both.logits(data.x_test)
    np.testing.assert_allclose(logits[0::2], post.logits(data.x_test), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(logits[1::2], logits[0::2])
    off = data.x_test.clone()
    off[:, 3:] = 0.5
    other = off.clone()
    other[:, 3:] = -0.5
    np.testing.assert_allclose(both.logits(off)[1::2], both.logits(other)[0::2], rtol=1e-5, atol=1e-6)
    assert not np.allclose(both.logits(off)[1::2], both.logits(off)[0::2])


@pytest.mark.parametrize(("world", "parts"), [("spheres", ["tangent", "across", "off"]), ("moons", ["tangent", "across"])])
def test_parts_add_up_to_the_gradient(module, folder, world, parts):
    bases, gradients = shared("manifold_parts").bases, shared("manifold_parts").gradients

    name, options = module.WORLDS[world]
    data = br.data.load(name, 10, 15, **options)
    axes = bases(data)
    assert list(axes) == parts
    combined = np.concatenate(list(axes.values()), axis=1)
    np.testing.assert_allclose(combined @ combined.transpose(0, 2, 1), np.tile(np.eye(data.shape[0]), (15, 1, 1)), atol=1e-6)
    # `across` is where the classes differ: a step along it, of the distance between them, leads to the other one's support.
    if world == "spheres":
        inner = data.y_test == 0
        moved = data.x_test[inner].double().numpy() + 0.3 * axes["across"][inner.numpy(), 0]
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1.3, atol=1e-6)
    post = br.predictive.from_modules([br.nets.mlp(data.shape[0], (8,), 2).eval()])
    _, g = gradients(post, data)
    squares = sum(((g[0][:, None] * basis).sum(-1) ** 2).sum(-1) for basis in axes.values())
    np.testing.assert_allclose(squares, (g[0] ** 2).sum(-1), rtol=1e-5)
    result = averaged(module, folder, f"{world}, 60 points", "HMC")
    assert result["part"].values.tolist() == parts


def test_training_starts_from_the_network_and_is_tabled(module, folder):
    course = tree(folder, module.file_name("moons, 60 points-training")).to_dataset()
    assert course["epoch"].values.tolist() == [0, *module.SIZES["smoke"].epochs]
    data = br.data.load("moons", 60, 20)
    net = br.nets.initialise(br.nets.mlp(2, (16,), 2, seed=0), 0, "sgd")
    losses, gradients = br.predictive.from_modules([net.eval()]).draw_gradients(data.x_test, data.y_test)
    np.testing.assert_allclose(course["loss"].sel(epoch=0), losses[0], rtol=1e-4)
    total = course["tangent"] ** 2 + course["across"] ** 2
    np.testing.assert_allclose(total.sel(epoch=0), (gradients[0] ** 2).sum(-1), rtol=1e-3)
    np.testing.assert_allclose(course["tangent_share"], course["tangent"] ** 2 / total, rtol=1e-6)
    rows = table(folder, "training")
    at = rows[(rows["world"] == "moons, 60 points") & (rows["epoch"] == "20")].iloc[0]
    assert at["tangent"] == f"{module.rms(course['tangent'].sel(epoch=20)):.2g}"
    assert (at["off"], at["isotropic"]) == ("", "0.500")


def test_averages_are_tabled_as_the_trees_hold_them(module, folder):
    rows = table(folder, "averaging")
    assert rows.groupby("world")["posterior"].unique().map(list).to_dict() == {
        "moons, 60 points": ["HMC", "SVI", "ensemble", "bagging"],
        "spheres, 60 points": ["HMC", "HMC, mirrored", "SVI", "ensemble", "bagging"],
    }
    trees = {key: averaged(module, folder, *key) for key, _ in rows.groupby(["world", "posterior"])}
    for row in rows.to_dict("records"):
        at = trees[row["world"], row["posterior"]].sel(part=row["part"], objective="expected_loss").isel(num_draws=-1)
        assert row["averaged"] == f"{float(at['norm'].mean()):.3g}"
        assert 0 <= float(row["left"]) <= 1
    assert sum("averaged over" in note for note in manifest(folder)["notes"]) == 9


def course_of(**parts: list[float]) -> xr.Dataset:
    """Two points alike at each epoch."""
    values = {name: (("epoch", "point"), np.repeat(np.array(norms)[:, None], 2, 1)) for name, norms in parts.items()}
    share = ("epoch", "point"), np.full((4, 2), 0.5)
    return xr.Dataset({**values, "tangent_share": share}, {"epoch": [0, 1, 5, 20]}, {"isotropic": 0.5})


@pytest.mark.parametrize(
    ("tangent", "across", "text"),
    [
        ([1, 0.5, 0.05, 0.01], [1, 1, 0.5, 0.05], "tangent 5, across 20; the tangent part vanishes before the normal parts"),
        ([1, 0.05, 0.5, 0.2], [1, 1, 0.5, 0.05], "tangent never, across 20; the tangent part vanishes not before them"),
        ([1, 0.5, 0.05, 0.01], [1, 0.5, 0.05, 0.01], "tangent 5, across 5; the tangent part vanishes not before them"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "tangent never, across never; the tangent part vanishes as the others do: never"),
    ],
)
def test_which_part_vanishes_first(module, tangent, across, text):
    assert text in module.training_note("moons", course_of(tangent=tangent, across=across))


def test_what_is_left_is_beyond_the_error(module):
    left = shared("manifold_parts").left

    dims = ("part", "objective", "num_draws", "point")
    values = {"norm": [[[[5.0, 5.0]]]], "standard_error": [[[[3.0, 3.0]]]], "draw_norm": [[[[8.0, 8.0]]]]}
    result = xr.Dataset({name: (dims, value) for name, value in values.items()}, {"part": ["off"], "objective": ["a"]})
    assert left(result, "off", "a") == pytest.approx(0.5)
