"""Gradients along and across manifolds that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import bayesrob as br
from bayesrob.analysis import gradient_statistics, manifold_statistics, split_gradients
from bayesrob.errors import InputError

DATA = {
    "sphere": {"d": 3, "extra": 4},
    "moons": {},
    "robust_features": {"d": 5},
    "two_points": {},
    "simulated_classes": {},
}


def world(name, count=50):
    data = br.data.load(name, n_train=1, n_test=count, **DATA[name])
    return data, data.normal_basis(data.x_test).numpy(), data.tangent_basis(data.x_test).numpy()


def gradient(f, x):
    x = x.double().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0].numpy()


@pytest.mark.parametrize("name", DATA)
def test_parts_recombine_whichever_basis_is_given(name):
    data, normal, tangent = world(name)
    g = np.random.default_rng(0).standard_normal((7, *data.x_test.shape))
    by_normal, by_tangent = split_gradients(g, normal=normal), split_gradients(g, tangent=tangent)
    assert by_normal["tangent"].dims == ("draw", "point", "component")
    for gradient_parts in (by_normal, by_tangent):
        np.testing.assert_allclose(gradient_parts["tangent"] + gradient_parts["normal"], g, rtol=0, atol=1e-14)
        np.testing.assert_allclose(
            gradient_parts["tangent_norm"] ** 2 + gradient_parts["normal_norm"] ** 2, (g**2).sum(-1), rtol=1e-12
        )
        np.testing.assert_allclose((gradient_parts["tangent"] * gradient_parts["normal"]).sum("component"), 0, atol=1e-13)
    for part in ("tangent", "normal"):
        np.testing.assert_allclose(by_normal[part], by_tangent[part], rtol=0, atol=1e-13)
    assert by_normal.attrs == by_tangent.attrs


@pytest.mark.parametrize("name", ["sphere", "moons", "robust_features"])
def test_functions_of_the_nearest_point_have_tangent_gradients(name):
    """f(pi(x)) does not change off the support: lemma 1's other half. The distance to the support changes only there."""
    data, normal, _ = world(name)
    net = br.nets.mlp(data.shape[0], (16,), 1, activation="tanh").double()
    gradient_parts = split_gradients(gradient(lambda x: net(data.truth.project(x)), data.x_test), normal=normal)
    assert float(gradient_parts["tangent_norm"].min()) > 1e-3
    assert float(gradient_parts["normal_norm"].max()) < 1e-6
    assert float(gradient_parts["normal_share"].max()) < 1e-6
    off = data.x_test + 0.05 * torch.as_tensor(normal[:, 0])
    keep = data.x_test[:, 1].abs() > 0.1 if name == "moons" else torch.ones(len(off), dtype=torch.bool)  # not at the ends
    away = gradient(lambda x: (x - data.truth.project(x).detach()).norm(dim=1), off)
    gradient_parts = split_gradients(away[keep], normal=normal[keep])
    np.testing.assert_allclose(gradient_parts["normal_share"], 1, atol=1e-6)


def test_a_direction_at_random_is_normal_by_codimension():
    _, normal, _ = world("sphere", 4000)
    gradient_parts = split_gradients(np.random.default_rng(0).standard_normal((4000, 7)), normal=normal)
    assert gradient_parts.attrs["isotropic_share"] == pytest.approx(5 / 7)
    assert float(gradient_parts["normal_share"].mean()) == pytest.approx(5 / 7, abs=0.01)
    _, _, tangent = world("sphere", 10)
    assert split_gradients(np.ones((10, 7)), tangent=tangent).attrs["isotropic_share"] == pytest.approx(5 / 7)


def test_mirrored_networks_agree_on_the_manifold_and_cancel_off_it():
    """Lemma 2's pair, exactly: weights of the extra inputs negated. Nobody sees it on the support."""
    data = br.data.load("sphere", n_train=1, n_test=30, d=3, extra=6)
    axes = np.zeros((30, 6, 9))
    axes[:, np.arange(6), 3 + np.arange(6)] = 1
    draws = []
    for seed in range(20):
        net = br.nets.mlp(9, (32, 32), 1, seed=seed).double()
        mirror = br.nets.mlp(9, (32, 32), 1, seed=seed).double()
        with torch.no_grad():
            mirror[1].weight[:, 3:] *= -1
        torch.testing.assert_close(net(data.x_test.double()), mirror(data.x_test.double()))
        draws += [gradient(net, data.x_test), gradient(mirror, data.x_test)]
    gradient_parts = manifold_statistics(np.stack(draws), normal=axes, num_draws=[10, 40]).sel(objective="expected_loss")
    across, along = gradient_parts.sel(part="normal"), gradient_parts.sel(part="tangent")
    assert float(across["norm"].max()) < 1e-15
    assert (across["debiased_norm"] < 1e-15).all()
    assert float(across["draw_norm"].min()) > 0.01
    single = np.stack(draws[::2])[:, :, :3]
    np.testing.assert_allclose(along.sel(num_draws=40)["norm"], np.linalg.norm(single.mean(0), axis=-1), rtol=1e-9)


def test_training_takes_the_tangent_part_first():
    """Corollary 1 on real networks: a third of the squared gradient is normal by chance, nearly all of it after training."""
    data = br.data.load("sphere", n_train=1000, n_test=200, d=3)
    shares = {}
    for epochs in (1, 20):
        networks = [
            br.inference.SGD(epochs=epochs, lr=0.01).fit(br.nets.mlp(3, (64,), 2, seed=s), data, s) for s in range(4)
        ]
        losses, gradients = br.predictive.from_predictives(networks).draw_gradients(data.x_test, data.y_test)
        normal = data.normal_basis(data.x_test)
        shares[epochs] = float(split_gradients(gradients, normal=normal)["normal_share"].median())
        gradient_parts = manifold_statistics(gradients, normal, log_likelihood=-losses, num_draws=[4])
        assert gradient_parts.sizes["objective"] == 2
    assert shares[1] < 0.8
    assert shares[20] > 0.9


def test_statistics_are_those_of_each_part():
    """Draws that share a tangent direction and disagree across: what is left of the average is that direction."""
    rng = np.random.default_rng(1)
    _, normal, tangent = world("sphere", 200)
    shared = np.einsum("pk,pkc->pc", np.ones(tangent.shape[:2]), tangent)  # of length sqrt(2)
    noise = np.einsum("dpk,pkc->dpc", rng.standard_normal((400, 200, 5)), normal)
    g, log_p = shared + noise, rng.uniform(-3, 0, (400, 200))
    gradient_parts = manifold_statistics(g, normal=normal, log_likelihood=log_p, num_draws=[100, 400], num_chains=4)
    assert gradient_parts["part"].values.tolist() == ["tangent", "normal"]
    assert "zero_fraction" not in gradient_parts
    at = gradient_parts.sel(objective="expected_loss", num_draws=400)
    np.testing.assert_allclose(at["norm"].sel(part="tangent"), math.sqrt(2), rtol=1e-12)
    np.testing.assert_allclose(at["cosine"].sel(part="tangent").mean(["batch", "other_batch"]), 1, rtol=1e-12)
    squares = float((at["norm"].sel(part="normal") ** 2).mean())
    assert squares == pytest.approx(5 / 400, rel=0.15)
    assert float(at["draw_norm"].sel(part="normal").mean()) == pytest.approx(
        math.sqrt(2) * math.gamma(3) / math.gamma(2.5), rel=0.02
    )
    whole = gradient_statistics(g, log_p, [100, 400], 4)
    np.testing.assert_allclose((gradient_parts["norm"] ** 2).sum("part"), whole["norm"] ** 2, rtol=1e-9)
    np.testing.assert_allclose((gradient_parts["standard_error"] ** 2).sum("part"), whole["standard_error"] ** 2, rtol=1e-9)


def test_chains_images_and_zeros():
    rng = np.random.default_rng(2)
    normal = np.linalg.qr(rng.standard_normal((3, 6, 2)))[0].transpose(0, 2, 1)
    g = rng.standard_normal((5, 4, 3, 1, 2, 3))
    labelled = xr.DataArray(g, dims=("draw", "chain", "point", "channel", "height", "width"))
    gradient_parts = split_gradients(
        labelled.transpose("chain", "point", "draw", "channel", "height", "width"), normal=normal
    )
    assert gradient_parts["normal"].dims == ("draw", "chain", "point", "component")
    flat = split_gradients(g.reshape(20, 3, 1, 2, 3), normal=normal)
    np.testing.assert_allclose(gradient_parts["normal"].values.reshape(20, 3, 6), flat["normal"])
    statistics = manifold_statistics(labelled, normal=normal, num_draws=[20])
    assert statistics.attrs["draws"].startswith("4 chains")
    one = split_gradients(np.zeros((3, 1, 2, 3)), normal=normal)
    assert one["normal"].dims == ("point", "component")
    assert np.isnan(one["normal_share"]).all()
    tiny = split_gradients(np.full((3, 6), 1e-200), normal=normal)
    assert np.isfinite(tiny["normal_share"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": None}, "Exactly one basis"),
        ({"tangent": np.eye(2)[None]}, "Exactly one basis"),
        ({"normal": np.eye(2)}, "The basis has shape"),
        ({"normal": np.ones((3, 2, 2))}, "from orthonormal"),
        ({"gradients": np.ones((4, 5, 2))}, "The gradients have shape"),
        ({"gradients": np.ones((3, 2), int)}, "gradients are int64"),
        ({"gradients": np.full((3, 2), np.inf)}, "not finite"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"gradients": np.ones((3, 2)), "normal": np.array([[[1.0, 0.0]]] * 3)}
    split_gradients(**good)
    with pytest.raises(InputError, match=message):
        split_gradients(**(good | change))


def test_averages_need_draws():
    with pytest.raises(InputError, match="one network"):
        manifold_statistics(np.ones((3, 2)), normal=np.array([[[1.0, 0.0]]] * 3))
