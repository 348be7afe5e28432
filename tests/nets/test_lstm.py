from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import bayesrob
from bayesrob import data, nets
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.inference import SGD
from bayesrob.predictive import GaussianDraws, HeldDraws
from tests.nets.helpers import loop, random_inputs, random_weights
from tests.predictive.helpers import defined_gradient

SHAPE = (2, 4, 3)


def by_hand(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The recursion of Hochreiter & Schmidhuber with forget gates, an image, a step and a unit at a time."""
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    rows = []
    for image in x:
        if net.reads == "pixels":
            sequence = [image[:, i, j] for i in range(image.shape[1]) for j in range(image.shape[2])]
        else:
            sequence = [torch.cat([channel[i] for channel in image]) for i in range(image.shape[1])]
        h = c = image.new_zeros(net.lstm.hidden_size)
        for features in sequence:
            driven = weights["lstm.weight_ih_l0"] @ features + weights["lstm.bias_ih_l0"]
            i, f, g, o = (driven + weights["lstm.weight_hh_l0"] @ h + weights["lstm.bias_hh_l0"]).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        rows.append(weights["head.weight"] @ h + weights["head.bias"])
    return torch.stack(rows)


@pytest.mark.parametrize("reads", ["pixels", "rows"])
def test_the_recursion_by_hand(reads):
    net = nets.lstm(SHAPE, 5, 3, reads=reads).double()
    x = random_inputs(4, *SHAPE)
    torch.testing.assert_close(net(x), by_hand(net, x), rtol=1e-12, atol=1e-13)


def test_what_it_reads():
    x = torch.arange(24.0).view(1, *SHAPE)
    assert nets.lstm(SHAPE, 5, 3).sequences(x)[0].tolist() == [[float(i), 12.0 + i] for i in range(12)]
    assert nets.lstm(SHAPE, 5, 3, reads="rows").sequences(x)[0, 1].tolist() == [3, 4, 5, 15, 16, 17]


def test_sequential_mnist_in_the_papers_size():
    """130 units: 4 (130 + 1 + 2) weights each, and the head."""
    net = nets.lstm((1, 28, 28), 130, 10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 4 * 130 * (130 + 1 + 2) + 131 * 10
    assert net.sequences(torch.zeros(2, 1, 28, 28)).shape == (2, 784, 1)


def test_seed_fixes_the_weights_and_nothing_else():
    before = torch.get_rng_state()
    first = nets.lstm(SHAPE, 5, 3, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = nets.lstm(SHAPE, 5, 3, seed=5), nets.lstm(SHAPE, 5, 3, seed=6)
    fresh = nets.initialise(first, 0)
    for one, same, *different in zip(*(net.parameters() for net in (first, again, other, fresh)), strict=True):
        assert torch.equal(one, same)
        assert not any(torch.equal(one, another) for another in different)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((28, 28), 4, 10), r"in_shape is \(28, 28\)"),
        (((1, 0, 28), 4, 10), "in_shape is 0"),
        (((1, 28, 28), 0, 10), "hidden is 0"),
        (((1, 28, 28), 4, True), "out_features is True"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises(InputError, match=message):
        nets.lstm(*arguments)


def test_unknown_way_to_read():
    with pytest.raises(UnknownNameError, match="Did you mean 'pixels'"):
        nets.lstm(SHAPE, 4, 10, reads="pixel")


# ---- draws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("per_draw", [False, True], ids=["shared inputs", "own inputs"])
@pytest.mark.parametrize("reads", ["pixels", "rows"])
@pytest.mark.parametrize(("draws", "points"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_batched_is_a_loop_over_draws(draws, points, reads, per_draw, dtype, tolerance):
    net = nets.lstm(SHAPE, 5, 3, reads=reads).to(dtype)
    weights = {name: tensor.requires_grad_() for name, tensor in random_weights(net, draws, dtype=dtype).items()}
    x = random_inputs(*((draws,) if per_draw else ()), points, *SHAPE, dtype=dtype).requires_grad_()
    slope = random_inputs(draws, points, 3, seed=2, dtype=dtype)
    ours, expected = net.batched(weights, x, per_draw), loop(net, weights, x, per_draw)
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad((outputs * slope).sum(), [x, *weights.values()]) for outputs in (ours, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("per_draw", [False, True], ids=["shared inputs", "own inputs"])
@pytest.mark.parametrize("reads", ["pixels", "rows"])
def test_inputs_and_weights_in_any_order_in_memory(reads, per_draw):
    net = nets.lstm(SHAPE, 5, 3, reads=reads).double()
    weights = random_weights(net, 3)
    x = random_inputs(*((3,) if per_draw else ()), 4, *SHAPE)
    expected = loop(net, weights, x, per_draw)
    apart = torch.cat([tensor.flatten(1) for tensor in weights.values()], 1)
    pieces = apart.split([tensor[0].numel() for tensor in weights.values()], 1)
    views = {name: piece.view(weights[name].shape) for name, piece in zip(weights, pieces, strict=True)}
    backwards = x.permute(*reversed(range(x.ndim))).contiguous().permute(*reversed(range(x.ndim)))
    assert not backwards.is_contiguous()
    torch.testing.assert_close(net.batched(views, backwards, per_draw), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(net.draws_forward(views, backwards, per_draw), expected, rtol=1e-12, atol=1e-13)


def test_second_derivatives():
    net = nets.lstm((1, 2, 2), 2, 2).double()
    weights = random_weights(net, 2)
    assert torch.autograd.gradgradcheck(lambda x: net.batched(weights, x).sum(1), random_inputs(2, 1, 2, 2).requires_grad_())


@pytest.mark.parametrize(
    ("hidden", "draws", "points", "steps", "batched"),
    [(5, 3, 4, 12, True), (5, 3, 4, 13, False), (96, 3, 4, 12, True), (97, 3, 1, 12, False), (5, 3, 81, 12, False)],
)
def test_which_way_is_taken(monkeypatch, hidden, draws, points, steps, batched):
    """Both ways give the same, so that only their calls tell."""
    net = nets.lstm((2, steps, 3), hidden, 3, reads="rows").double()
    weights, x = random_weights(net, draws), random_inputs(points, 2, steps, 3)
    called = []
    monkeypatch.setattr(nets.LSTM, "batched", lambda *arguments: called.append(1) or loop(*arguments))
    nets.draws_forward(net, nets.sequence(net), weights, x)
    assert bool(called) == batched


@pytest.mark.parametrize("change", ["pruned", "weight norm", "hook", "some weights"])
def test_where_the_own_way_would_compute_something_else(monkeypatch, change):
    net = nets.lstm(SHAPE, 5, 3).double()
    if change == "pruned":
        prune.random_unstructured(net.head, "weight", amount=0.5)
    elif change == "weight norm":
        parametrizations.weight_norm(net.head)
    elif change == "hook":
        net.lstm.register_forward_hook(lambda module, inputs, output: (2 * output[0], output[1]))
    weights, x = random_weights(net, 3), random_inputs(4, *SHAPE)
    if change == "some weights":  # the network's own serve for the rest
        del weights["lstm.bias_hh_l0"]
    monkeypatch.setattr(nets.LSTM, "draws_forward", lambda *arguments: pytest.fail("taken"))
    torch.testing.assert_close(nets.draws_forward(net, None, weights, x), loop(net, weights, x), rtol=1e-12, atol=1e-13)


def test_a_subclass_with_another_forward_is_looped():
    class Doubled(nets.LSTM):
        def forward(self, x):
            return 2 * super().forward(x)

    net = Doubled(2, 5, 3, "pixels").double()
    weights, x = random_weights(net, 3), random_inputs(4, *SHAPE)
    torch.testing.assert_close(nets.draws_forward(net, None, weights, x), loop(net, weights, x), rtol=1e-12, atol=1e-13)


def test_where_torchs_lstm_cannot_be_differentiated(monkeypatch):
    """As on NVIDIA cards in evaluation mode: the same outputs, also of weights that are passed in."""
    net = nets.lstm(SHAPE, 5, 3).double()
    weights, x = random_weights(net, 2), random_inputs(4, *SHAPE)
    expected = net(x), loop(net, weights, x)
    monkeypatch.setattr(nets.LSTM, "_lacks_backward", lambda self, x: True)
    monkeypatch.setattr(net.lstm, "forward", lambda *arguments: pytest.fail("called"))
    torch.testing.assert_close(net(x), expected[0], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(loop(net, weights, x), expected[1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("reads", "steps"), [("pixels", 12), ("rows", 4)])
def test_values_kept(reads, steps):
    net = nets.lstm(SHAPE, 5, 3, reads=reads)
    weights = {name: tensor.requires_grad_() for name, tensor in random_weights(net, 2, dtype=torch.float32).items()}
    x = random_inputs(4, *SHAPE, dtype=torch.float32).requires_grad_()
    counted = nets.values_kept(net, x)
    assert counted == steps * 7 * 5 + 3
    own = {tensor.untyped_storage().data_ptr() for tensor in (x, *weights.values())}
    saved: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = net.batched(weights, x)
    assert sum(saved.values()) / outputs[..., 0].numel() == pytest.approx(counted, rel=0.1)


# ---- as a posterior ------------------------------------------------------------------------------------------------------


def posterior(kind: str, reads: str = "rows"):
    net = nets.lstm(SHAPE, 5, 3, reads=reads)
    weights = random_weights(net, 6, dtype=torch.float32)
    if kind == "held":
        return HeldDraws(net, weights, bounds=(0, 1), input_shape=SHAPE)
    loc = {name: tensor[0] for name, tensor in weights.items()}
    return GaussianDraws(net, loc, {name: 0.1 * tensor.abs() for name, tensor in loc.items()}, num_draws=6)


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss", "margin"])
@pytest.mark.parametrize("reads", ["pixels", "rows"])
def test_averaged_input_gradients(reads, objective):
    post = posterior("held", reads).double()
    x, y = random_inputs(4, *SHAPE), torch.tensor([0, 2, 1, 1])
    ours = post.input_gradient(x, y, objective=objective)
    torch.testing.assert_close(ours, defined_gradient(objective, post, x, y), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["held", "gaussian"])
def test_round_trip_is_bit_identical(tmp_path, kind):
    post = posterior(kind)
    x = random_inputs(4, *SHAPE, dtype=torch.float32)
    post.save(tmp_path / "post")
    again = bayesrob.load(tmp_path / "post")
    assert torch.equal(again.logits(x, seed=3), post.logits(x, seed=3))
    assert nets.spec_of(again.net) == nets.spec_of(post.net)


def test_half_precision():
    post = posterior("held")
    x, y = random_inputs(4, *SHAPE, dtype=torch.float32), torch.tensor([0, 2, 1, 1])
    exact, rounded = post.input_gradient(x, y), post.input_gradient(x, y, precision="bf16")
    assert (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 4), (5, 1, 3, 4), (24,)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(InputError, match="reads pixels of images"):
        nets.lstm(SHAPE, 5, 3)(torch.zeros(shape))


def test_rows_of_another_width_are_refused_by_a_fit_before_any_work():
    ds = data.from_arrays(torch.zeros(4, 2, 3, 5), torch.tensor([0, 1, 0, 1]), torch.zeros(2, 2, 3, 5), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="6 values a step"):
        SGD(epochs=1).fit(nets.lstm(SHAPE, 5, 2, reads="rows"), ds)
