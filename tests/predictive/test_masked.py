"""Masked weights against torch's own dropout of activations, and against the moments of a binomial."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import bayesrob
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.predictive import MaskedDraws
from bayesrob.predictive.masked import Masks, maskable
from tests.nets.helpers import Recurrent, random_inputs, random_weights
from tests.predictive.helpers import CLASSES, SHAPES, data, in_chunks_of, masked, network

units = pytest.mark.parametrize("unit", ["weight", "input"])
P = 0.4


def draws_of(net: nn.Module, **settings) -> tuple[MaskedDraws, list[torch.Tensor]]:
    """Masked draws of `net` in float64, and the input masks of its first draw, 0 or 1 / (1 - p), in the weights' order."""
    loc = {name: tensor[0] for name, tensor in random_weights(net, 1).items()}
    post = MaskedDraws(net.double(), loc, P, "input", num_draws=1, **settings)
    post.net.load_state_dict(loc, strict=False)
    kept = post.masks.draw(bayesrob.rng.generator(0, "draws"))
    pieces = kept.split([layout.size for layout in post.masks.layouts.values()])
    return post, [piece.double() / (1 - P) for piece in pieces]


# ---- binomial SDR is dropout ----------------------------------------------------------------------------------------------


def test_weights_masked_by_column_are_torchs_dropout():
    """Each layer's input through `nn.Dropout`, one point; the same masks on the weights: the same outputs."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    dropped = nn.Sequential(
        net[0], nn.Dropout(P), net[1], net[2], nn.Dropout(P), net[3], net[4], nn.Dropout(P), net[5]
    ).train()
    masks = Masks.of(net, P, "input")
    loc = {name: parameter.detach() for name, parameter in net.named_parameters()}
    for seed, x in enumerate(random_inputs(10, 1, 6)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = dropped(x)
            torch.manual_seed(seed)  # again, for the masks alone
            kept = torch.cat([functional.dropout(torch.ones(1, size).double(), P)[0] > 0 for size in (6, 5, 8)])
        weights = masks.apply(loc, kept)
        torch.testing.assert_close(torch.func.functional_call(net, weights, (x,)), expected, rtol=1e-13, atol=1e-14)


def test_a_draw_drops_the_same_units_for_all_points():
    """In the report's scaling: weights D kept with probability 1 - p have mean D (1 - p) and variance D^2 p (1 - p)."""
    net = network("mlp")
    post, (first, second) = draws_of(net)
    x, _ = data()
    hidden = torch.tanh(functional.linear(x.flatten(1) * first, post.loc["1.weight"], post.loc["1.bias"]))
    expected = functional.linear(hidden * second, post.loc["3.weight"], post.loc["3.bias"])
    torch.testing.assert_close(post.logits(x, seed=0)[0], expected, rtol=1e-13, atol=1e-14)
    weight = {name: tensor / (1 - P) for name, tensor in post.loc.items()}["1.weight"]  # D, of mean loc
    many = post.freeze(20_000).weights["1.weight"]
    assert torch.equal(many[:, 0, 0].abs().unique(), torch.stack([weight[0, 0] * 0, weight[0, 0].abs()]))
    torch.testing.assert_close(many.var(0), weight.square() * P * (1 - P), rtol=0.05, atol=0)


def test_convolutions_drop_channels():
    layers = nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(6, 4, 2, groups=2)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 5 * 5, 3))
    post, masks = draws_of(net)
    assert [len(mask) for mask in masks] == [3, 4, 6, 100]
    x = random_inputs(5, 3, 8, 8)
    h = x
    for layer in post.net:
        if not isinstance(layer, nn.Tanh | nn.Flatten):
            mask = masks.pop(0)
            h = h * (mask[:, None, None] if h.ndim == 4 else mask)
        h = layer(h)
    torch.testing.assert_close(post.logits(x, seed=0)[0], h, rtol=1e-12, atol=1e-14)


def test_recurrent_layers_drop_the_same_units_at_every_step():
    post, (inputs, hidden, head) = draws_of(Recurrent(3, 4, 2))
    x = random_inputs(5, 6, 3)
    loc = post.loc
    h = c = torch.zeros(5, 4).double()
    for t in range(6):
        gates = functional.linear(x[:, t] * inputs, loc["lstm.weight_ih_l0"], loc["lstm.bias_ih_l0"])
        gates = gates + functional.linear(h * hidden, loc["lstm.weight_hh_l0"], loc["lstm.bias_hh_l0"])
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    expected = functional.linear(h * head, loc["head.weight"], loc["head.bias"])
    torch.testing.assert_close(post.logits(x, seed=0)[0], expected, rtol=1e-12, atol=1e-14)


def test_embeddings_drop_words():
    net = nn.Embedding(7, 3)
    masks = Masks.of(net, P, "input")
    kept = torch.tensor([True, False, True, True, False, True, True])
    weight = masks.apply({"weight": net.weight.detach()}, kept)["weight"]
    torch.testing.assert_close(weight, net.weight.detach() * kept[:, None] / (1 - P))


# ---- moments --------------------------------------------------------------------------------------------------------------


@units
def test_moments_of_the_draws(unit):
    """Mean loc, variance loc^2 p / (1 - p), within 4 standard errors; one variable is shared by a column, or by none."""
    count = 20_000
    post = masked(unit=unit, p=P)
    for name, draws in post.freeze(count).weights.items():
        loc = post.loc[name]
        if name.endswith("bias"):
            assert torch.equal(draws, loc.expand_as(draws))
            continue
        variance = loc.square() * P / (1 - P)
        fourth = loc**4 * P * (1 - P) * (1 - 3 * P * (1 - P)) / (1 - P) ** 4
        assert ((draws.mean(0) - loc).abs() < 4 * (variance / count).sqrt()).all()
        assert ((draws.var(0) - variance).abs() < 4 * ((fourth - variance**2) / count).sqrt()).all()
        ratio = (draws / loc).permute(2, 1, 0)  # [in, out, draw]
        shared = torch.eye(len(ratio) * ratio.shape[1]).double()
        if unit == "input":
            shared = torch.block_diag(*[torch.ones(ratio.shape[1], ratio.shape[1]).double()] * len(ratio))
        assert (torch.corrcoef(ratio.flatten(0, 1)) - shared).abs().max() < 5 / count**0.5


@units
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
@pytest.mark.parametrize("name", SHAPES)
def test_draws_of_a_seed_do_not_depend_on_chunks(monkeypatch, unit, name, dtype, chunk):
    post = masked(name, dtype=dtype, unit=unit)
    frozen = post.freeze(7, seed=3)
    in_chunks_of(monkeypatch, chunk)
    pieces = [f.weights for f in post.functions(chunk, 7, 3)]
    for key, tensor in frozen.weights.items():
        assert torch.equal(torch.cat([piece[key] for piece in pieces]), tensor)
    x, _ = data(name, dtype=dtype)
    assert torch.equal(post.logits(x, seed=3), frozen.logits(x))
    assert not torch.equal(post.logits(x, seed=3), post.logits(x, seed=4))


@units
def test_masks_are_the_same_in_every_precision(unit):
    single, double = masked(unit=unit, dtype=torch.float32), masked(unit=unit)
    for name, tensor in single.freeze(50).weights.items():
        assert torch.equal(tensor == 0, double.freeze(50).weights[name] == 0)
    torch.set_default_dtype(torch.float64)
    try:
        again = single.freeze(50).weights
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(tensor, again[name]) for name, tensor in single.freeze(50).weights.items())


@units
def test_nothing_dropped_is_the_network(unit):
    post = masked(unit=unit, p=0.0)
    for name, tensor in post.freeze().weights.items():
        assert torch.equal(tensor, post.loc[name].expand_as(tensor))
    x, _ = data()
    assert torch.equal(masked(unit=unit).means().logits(x), post.means().logits(x))
    torch.testing.assert_close(post.means().logits(x), post.logits(x)[:1], rtol=1e-13, atol=1e-14)


def test_a_part_is_converted_alone():
    post = masked(dtype=torch.float32)
    part = post[:3].double()
    assert (part.num_draws, post.num_draws) == (3, 7)
    assert {tensor.dtype for tensor in part.loc.values()} == {torch.float64}
    assert {tensor.dtype for tensor in post.loc.values()} == {torch.float32}


# ---- which weights --------------------------------------------------------------------------------------------------------


def test_only_weights_of_several_axes_are_masked():
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.LayerNorm([3, 4]), nn.Flatten(), nn.Linear(12, 2))
    assert list(maskable(net)) == ["0.weight", "4.weight"]


@units
def test_weights_that_are_not_named_are_constant(unit, tmp_path):
    net = network()
    loc = {name: tensor[0] for name, tensor in random_weights(net, 1).items()}
    post = MaskedDraws(net.double(), loc, P, unit, names=["3.weight"])
    loaded = bayesrob.load(post.save(tmp_path / "post"))
    for one in (post, loaded):
        draws = one.freeze(10).weights
        assert all(torch.equal(draws[name], loc[name].expand_as(draws[name])) for name in draws if name != "3.weight")
        assert (draws["3.weight"] == 0).any()
    none = MaskedDraws(net, loc, P, unit, names=[]).freeze(2).weights
    assert all(torch.equal(none[name], loc[name].expand_as(none[name])) for name in loc)


def test_batch_statistics_are_kept(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    net(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    loc = {name: parameter.detach() for name, parameter in net.named_parameters()}
    post = MaskedDraws(net, loc, P)
    fresh = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    loaded = bayesrob.load(post.save(tmp_path / "post"), net=fresh)
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.logits(x, seed=0), post.logits(x, seed=0))
    assert not torch.equal(post.net[1].running_mean, torch.zeros(4))
    assert torch.equal(copy.deepcopy(post).logits(x), post.logits(x))


@pytest.mark.parametrize("p", [-0.1, 1, 1.0, float("nan")])
def test_bad_rates(p):
    with pytest.raises(InputError, match=r"p is .*Give a finite number >= 0 and < 1"):
        masked(p=p)


def test_other_bad_settings():
    post = masked()
    with pytest.raises(UnknownNameError, match="Known: input, weight"):
        masked(unit="unit")
    with pytest.raises(InputError, match=r"Masks for \['1.bias'\]"):
        MaskedDraws(post.net, post.loc, 0.1, names=["1.bias"])
    with pytest.raises(InputError, match="loc of shapes"):
        MaskedDraws(post.net, {**post.loc, "1.weight": post.loc["1.weight"][1:]}, 0.1)
    with pytest.raises(InputError, match="loc of shapes"):
        MaskedDraws(post.net, {name: tensor for name, tensor in post.loc.items() if name != "1.bias"}, 0.1)
