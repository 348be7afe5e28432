from __future__ import annotations

import json

import numpy as np
import pytest

from bayesrob.errors import InputError, UnknownNameError
from bayesrob.inference import HMC, SGD, Ensemble
from bayesrob.models import BayesianNetwork
from bayesrob.sweeps import Cell, Grid, plan
from tests.sweeps.helpers import FIXED, SMALL


def test_every_combination_once_the_last_axis_fastest():
    cells = SMALL.cells()
    settings = [(cell.net["width"], cell.net["depth"], cell.inference["epochs"]) for cell in cells]
    assert settings == [(w, d, e) for w in (8, 12) for d in (1, 2) for e in (2, 3, 5)]
    assert len({cell.key for cell in cells}) == 12
    assert all(cell.inference["method"] == "SGD" and cell.data["n_train"] == 200 for cell in cells)


def test_filters():
    without = Grid(SMALL.fixed, SMALL.axes, exclude=[{"net.width": 8, "net.depth": 2}, {"inference.epochs": 5}])
    assert len(without.cells()) == 6
    filtered = Grid(SMALL.fixed, SMALL.axes, where=lambda cell: cell.net["width"] * cell.net["depth"] > 20)
    assert [cell.net["depth"] for cell in filtered.cells()] == [2, 2, 2]


def test_grids_together_have_each_cell_once():
    wider = Grid(FIXED, {"net.width": [12, 16], "net.depth": [1], "inference.epochs": [2]})
    assert len(SMALL.cells(wider)) == 13


def test_a_key_is_of_the_values_not_of_their_order():
    one = Cell({"name": "digits", "n_train": 5}, {"width": 3}, SGD().settings())
    other = Cell({"n_train": 5, "name": "digits"}, {"width": 3}, SGD().settings())
    assert one.key == other.key
    assert one.key != Cell({"n_train": 6, "name": "digits"}, {"width": 3}, SGD().settings()).key
    assert Cell(**json.loads(json.dumps(one.config))).key == one.key


def test_a_cell_makes_what_it_says():
    cell = Cell(
        {"name": "digits", "n_train": 50, "n_test": 10},
        {"architecture": "mlp", "width": 7, "depth": 3, "activation": "tanh", "prior_scale": "fan_in"},
        {"method": "HMC", "num_samples": 5, "step_size": 0.1},
        {"attacks": {"FGSM": {"eps": 0.2}, "mine": {"attack": "PGD", "steps": 3}}},
        seed=2,
    )
    model = cell.network()
    assert isinstance(model, BayesianNetwork)
    assert [p.shape[0] for name, p in model.net.named_parameters() if name.endswith("bias")] == [7, 7, 7, 10]
    assert cell.method() == HMC(num_samples=5, step_size=0.1)
    attacks = cell.attacks()
    assert (attacks["FGSM"].eps, attacks["mine"].steps) == (0.2, 3)
    nested = Cell(cell.data, {"width": 4}, {"method": "Ensemble", "size": 3, "base": {"method": "SGD", "epochs": 2}})
    assert nested.method() == Ensemble(size=3, base=SGD(epochs=2))
    assert not isinstance(nested.network(), BayesianNetwork)
    images = Cell({"name": "mnist"}, {"architecture": "cnn", "hidden": 3}, {"method": "SGD"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cell, "dataset", lambda _: type("D", (), {"shape": (1, 28, 28), "out_features": 10}))
        assert images.network().spec["in_shape"] == [1, 28, 28]
        resnet = Cell({"name": "mnist"}, {"architecture": "resnet18", "width": 8}, {"method": "SGD"}).network()
        assert (resnet.spec["in_channels"], resnet.spec["out_features"]) == (1, 10)


TOML = """
[[grid]]
fixed.data = {name = "robust_features", n_train = 200, n_test = 60, d = 63}
fixed.net = {architecture = "mlp", activation = "tanh"}
fixed.inference = {method = "SGD", decay = false, batch_size = 64}
fixed.evaluation.num_points = 30
fixed.evaluation.attacks = {FGSM = {eps = 0.1}, twice = {attack = "FGSM", objective = "double_softmax"}}
axes."net.width" = [8, 12]
axes."net.depth" = [1, 2]
axes."inference.epochs" = [2, 3, 5]
exclude = [{"net.width" = 8, "net.depth" = 2}]
"""


def test_a_file_says_the_same(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(TOML)
    (grid,) = Grid.from_toml(path)
    whole = [cell.key for cell in SMALL.cells() if (cell.net["width"], cell.net["depth"]) != (8, 2)]
    assert [cell.key for cell in grid.cells()] == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [("[[grid]\n", "cannot be read"), ("", "no or other tables"), ("[[grid]]\nfix = 1", "tables"), ("grid = [1]", "tables")],
)
def test_files_that_are_none(tmp_path, text, said):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        Grid.from_toml(path)
    with pytest.raises(InputError, match="cannot be read"):
        Grid.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"fixed": {"network": {}}}, "no place 'network'"),
        ({"axes": {"nets.width": [1]}}, "no place 'nets.width'"),
        ({"axes": {"net.width": []}}, "axis 'net.width'"),
        ({"axes": {"net.width": "wide"}}, "axis 'net.width'"),
        ({"exclude": [{"wide": 1}]}, "no place 'wide'"),
    ],
)
def test_grids_that_are_none(arguments, said):
    with pytest.raises(InputError, match=said):
        Grid(**arguments)


def test_an_empty_grid():
    with pytest.raises(InputError, match="empty"):
        Grid(SMALL.fixed, SMALL.axes, where=lambda _: False).cells()


def changed(part: str, **values) -> Cell:
    config = {**FIXED, part: {**FIXED[part], **values}}
    if part != "net":
        config["net"] = {**config["net"], "width": 8}
    return Cell(**config)


@pytest.mark.parametrize(
    ("cell", "error", "said"),
    [
        (changed("data", name="digit"), UnknownNameError, "Did you mean 'digits'"),
        (changed("data", noise=1), InputError, "no parameter 'noise'"),
        (changed("net", architecture="mpl", width=8), UnknownNameError, "mlp"),
        (changed("net", width=8, breadth=3), InputError, "breadth"),
        (changed("inference", method="SDG"), UnknownNameError, "SGD"),
        (changed("inference", epoch=3), InputError, "no setting 'epoch'"),
        (changed("inference", epochs=0), InputError, "epochs"),
        (changed("evaluation", attacks={"FGMS": {}}), UnknownNameError, "FGSM"),
        (changed("evaluation", attacks={"FGSM": {"radius": 1}}), InputError, "no setting 'radius'"),
        (changed("evaluation", points=3), InputError, "points"),
        (changed("evaluation", num_points=0), InputError, "num_points"),
    ],
)
def test_settings_that_cannot_work(cell, error, said):
    with pytest.raises(error, match=said):
        cell.check()


def test_numbers_of_numpy_are_numbers():
    cell, same = changed("inference", epochs=np.int64(3), lr=np.float64(0.1)), changed("inference", epochs=3, lr=0.1)
    assert cell.key == same.key
    assert plan([cell, same]).runs[0].ends == (3, 3)
    changed("evaluation", num_points=np.int64(3)).check()


def test_what_no_file_can_hold():
    with pytest.raises(InputError, match="no setting"):
        _ = changed("inference", lr=object()).key
    with pytest.raises(InputError, match="no setting"):
        _ = changed("inference", lr=float("nan")).key
