"""What holds of every Predictive, whatever made its draws."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from bayesrob.arguments import plain
from bayesrob.models import Normal
from bayesrob.predictive import HeldDraws, Predictive, Preprocessed, from_modules
from tests.predictive.helpers import CLASSES, SHAPES, data, draw_outputs, gaussian, held, in_chunks_of, masked, network


def modules(name: str = "mlp") -> Predictive:
    others = [network(name).eval() for _ in range(3)]
    for seed, other in enumerate(others):
        torch.manual_seed(seed)
        for parameter in other.parameters():
            nn.init.normal_(parameter)
    if name == "mlp":
        others[1] = nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES), nn.Dropout(0.5)).eval()
    return from_modules(others, input_shape=SHAPES[name], num_classes=CLASSES).double()


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        yield


KINDS = {"held": held, "gaussian": gaussian, "masked": masked, "modules": modules}
CASES = [(kind, name) for kind in KINDS for name in SHAPES]


def autograd_leaves(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Every tensor that a backward pass from `tensor` would reach."""
    found, seen, stack = [], set(), [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack += [parent for parent, _ in node.next_functions]
    return found


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_forward_is_the_log_of_the_mean_softmax(kind, name):
    post = KINDS[kind](name)
    x, _ = data(name)
    logits = post.logits(x, seed=1)
    assert logits.shape == (post.num_draws, len(x), CLASSES)
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    prediction = post(x, seed=1)
    torch.testing.assert_close(prediction, probabilities.mean(0).log(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(prediction.exp().sum(-1), torch.ones(len(x)).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(prediction.softmax(-1), prediction.exp(), rtol=1e-12, atol=0)


def test_forward_of_regression_is_the_mean():
    post = held(likelihood=Normal(0.7))
    x, _ = data()
    torch.testing.assert_close(post(x), torch.stack(draw_outputs(post, x)).mean(0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_backward_reaches_the_input_alone(monkeypatch, kind, name):
    post = KINDS[kind](name)
    in_chunks_of(monkeypatch, 2)
    x = data(name)[0].requires_grad_()
    for output in (post.logits(x), post(x)):
        leaves = autograd_leaves(output)
        assert len(leaves) > 0
        assert all(leaf is x for leaf in leaves)
    assert not any(tensor.requires_grad for tensor in [*post.parameters(), *getattr(post, "weights", {}).values()])
    assert not any(tensor.requires_grad for tensor in [*getattr(post, "loc", {}).values()])


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_logits_are_differentiable_in_the_input(kind, name):
    """Autograd through `logits` agrees with the streamed gradient."""
    post = KINDS[kind](name)
    x, y = data(name)
    z = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(post.logits(z, seed=2).flatten(0, 1), y.repeat(post.num_draws), reduction="sum")
    (expected,) = torch.autograd.grad(loss / post.num_draws, z)
    torch.testing.assert_close(post.input_gradient(x, y, seed=2), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_one_draw_is_the_plain_network(name):
    net = network(name).double().eval()
    x, y = data(name)
    weights = {key: parameter[None] for key, parameter in net.named_parameters()}
    z = x.clone().requires_grad_()
    log_probabilities = net(z).log_softmax(-1)
    loss = -log_probabilities.gather(1, y[:, None])
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    for post in (HeldDraws(network(name).double(), weights), from_modules([net])):
        assert post.num_draws == 1
        torch.testing.assert_close(post.logits(x)[0], net(x), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(post(x), log_probabilities.detach(), rtol=1e-12, atol=1e-13, check_layout=True)
        for objective in ("expected_loss", "predictive_loss"):
            torch.testing.assert_close(post.input_gradient(x, y, objective), gradient, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(post.objective_value(x, y, objective), loss[:, 0].detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_change_nothing(monkeypatch, kind, chunk):
    post = KINDS[kind]()
    x, _ = data()
    whole = post.logits(x, seed=4)
    in_chunks_of(monkeypatch, chunk)
    torch.testing.assert_close(post.logits(x, seed=4), whole, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_of_the_draws(kind):
    post = KINDS[kind]()
    x, _ = data()
    assert post[:2].num_draws == 2
    torch.testing.assert_close(post[:2].logits(x, seed=4), post.logits(x, seed=4)[:2], rtol=1e-13, atol=1e-14)
    assert torch.equal(post[:2].logits(x, seed=4), post.logits(x, num_draws=2, seed=4))


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_knows_travels_with_its_parts(kind):
    post = KINDS[kind]()
    post.bounds, post.info = (0.0, 2.0), {"method": "test"}
    for part in (post[:1], post.freeze(2), copy.deepcopy(post)):
        assert part.bounds == (0.0, 2.0)
        assert part.input_shape == (2, 3)
        assert part.out_features == CLASSES
        assert part.info["method"] == "test"
        assert part.likelihood == post.likelihood


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_in_another_precision_leaves_the_whole_alone(kind):
    post = KINDS[kind]()
    x, _ = data()
    before = post.logits(x, seed=0)
    for part in (post[:1], post.freeze(2)):
        assert part.float().logits(x.float()).dtype == torch.float32
    assert torch.equal(post.logits(x, seed=0), before)


@pytest.mark.parametrize("kind", KINDS)
def test_double_moves_the_draws(kind):
    post = KINDS[kind]().float()
    x, y = data()
    single = post.logits(x.float(), seed=0)
    double = post.double().logits(x, seed=0)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double, single.double(), rtol=1e-4, atol=1e-5)
    assert post.input_gradient(x, y, seed=0).dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
def test_the_global_generator_is_left_alone(kind):
    post = KINDS[kind]()
    x, y = data()
    before = torch.get_rng_state()
    post(x)
    post.input_gradient(x, y)
    post.freeze(2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batch(kind):
    post = KINDS[kind]()
    x, _ = data()
    assert post(x[:0]).shape == (0, CLASSES)
    assert post(x).exp().sum() == pytest.approx(len(x))


def test_chunks_follow_the_size_of_the_network_and_the_batch():
    post = held(num_draws=100)
    post.float()
    values = 5 + 4  # what the products put out
    assert post.chunk(torch.zeros(0, 2, 3)) == 100  # and no network was measured on it
    for batch in (1, 5000, 10**6):
        x = torch.zeros(batch, 2, 3)
        most = 20 * 2**20 // (4 * batch * 2 * values)
        number = math.ceil(100 / max(1, min(100, most)))
        assert post.chunk(x) == math.ceil(100 / number)


def test_the_network_is_a_frozen_copy():
    net = network()
    post = HeldDraws(net, {name: p[None].clone() for name, p in net.named_parameters()})
    x = data(dtype=torch.float32)[0]
    before = post(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(post(x), before)
    assert not post.training
    assert net.training


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_setting_it_is_the_digest_of_its_weights(kind):
    post = KINDS[kind]()
    record = plain({"surrogate": post})["surrogate"]
    assert record["kind"] == post.kind
    assert len(record["sha256"]) == 64
    post.info = {**post.info, "seconds": 3.0}
    assert post.settings() == record == KINDS[kind]().settings() == post[:].settings()
    assert post.double().float().settings() != record
    wrapped = [Preprocessed(one, torch.sin).settings()["sha256"] for one in (post, post[:2])]
    assert len({*wrapped, record["sha256"]}) == 3
