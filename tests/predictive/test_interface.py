"""What holds of every Predictive, whatever made its draws."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from bayesrob.errors import InputError
from bayesrob.models import Normal
from bayesrob.predictive import OBJECTIVES, HeldDraws, Predictive, from_modules
from bayesrob.predictive.checks import check_num_draws
from tests.nets.helpers import Recurrent, random_inputs
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


# ---- bad input ------------------------------------------------------------------------------------------------------

METHODS = {
    "logits": lambda post, x, y: post.logits(x),
    "forward": lambda post, x, y: post(x),
    "input_gradient": lambda post, x, y: post.input_gradient(x, y),
    "objective_value": lambda post, x, y: post.objective_value(x, y),
}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 6).double(), r"trained on \[batch, 2, 3\]"),
        (torch.zeros(2, 3).double(), "needs a batch axis"),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.zeros(5, 2, 3, dtype=torch.int64), "torch.int64"),
        (torch.zeros(5, 2, 3, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(5, 2, 3).numpy(), "ndarray"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_inputs(kind, method, x, message):
    with pytest.raises(InputError, match=message):
        METHODS[method](KINDS[kind](), x, torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, 2, 3, 4]), "from 0 to 4"),
        (torch.tensor([0, 1, 2, 3, -1]), "from -1 to 3"),
        (torch.zeros(5), "torch.float32"),
        (torch.zeros(5, CLASSES), "one int64 class per point"),
        (torch.zeros(4, dtype=torch.int64), "5 inputs but 4 labels"),
        (torch.tensor(1), "single number"),
        ([0, 1, 2, 3, 0], "Labels are a list"),
    ],
)
@pytest.mark.parametrize("method", ["input_gradient", "objective_value"])
def test_bad_classes(method, y, message):
    with pytest.raises(InputError, match=message):
        METHODS[method](held(), data()[0], y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.full((5, CLASSES), math.nan), "NaN"),
        (torch.zeros(5), r"\[batch, 4\]"),
        (torch.zeros(5, 1), r"\[batch, 4\]"),
        (torch.zeros(5, CLASSES, dtype=torch.int64), "torch.int64"),
    ],
)
@pytest.mark.parametrize("method", ["input_gradient", "objective_value"])
def test_bad_targets(method, y, message):
    with pytest.raises(InputError, match=message):
        METHODS[method](held(likelihood=Normal(0.7)), data()[0], y)


@pytest.mark.parametrize("number", [0, -1, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_number_of_draws(kind, number):
    post = KINDS[kind]()
    with pytest.raises(InputError, match="num_draws >= 1"):
        post.logits(data()[0], num_draws=number)
    with pytest.raises(InputError, match="num_draws >= 1"):
        post.freeze(number)


@pytest.mark.parametrize("number", [2.0, "3", None])
def test_a_number_of_draws_is_an_integer(number):
    with pytest.raises(InputError, match="num_draws >= 1"):
        check_num_draws(number)


@pytest.mark.parametrize("kind", ["held", "modules"])
def test_more_draws_than_are_held(kind):
    post = KINDS[kind]()
    with pytest.raises(InputError, match=f"Only {post.num_draws} are held"):
        post.logits(data()[0], num_draws=post.num_draws + 1)


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, math.nan), (0, math.inf), (0,), (0, 1, 2), "ab", 3, (None, 1)])
def test_bad_bounds(bounds):
    with pytest.raises(InputError, match="bounds"):
        held(bounds=bounds)


@pytest.mark.parametrize(
    ("value", "message"),
    [(math.nan, "NaN"), (math.inf, "infinity"), (-0.1, "from -0.1"), (1.1, "to 1.1")],
)
def test_inputs_outside_the_bounds(value, message):
    post = held(bounds=(0, 1))
    x, _ = data()
    post.check_inputs(x)
    x[2, 1, 1] = value
    with pytest.raises(InputError, match=message):
        post.check_inputs(x)


def test_bounds_are_compared_in_the_inputs_precision():
    """As in a Dataset: the float32 next to 0.1 is above the double 0.1."""
    held(bounds=(0, 0.1)).check_inputs(torch.full((1, 2, 3), 0.1))
    with pytest.raises(InputError, match="bounds"):
        held(bounds=(0, 0.1)).check_inputs(torch.full((1, 2, 3), 0.1000001))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_unknown_input_shape_is_not_checked(objective):
    net = Recurrent(3, 4, CLASSES).double()
    post = HeldDraws(net, {name: p[None] for name, p in net.named_parameters()})
    y = torch.tensor([0, 1, 2])
    for length in (1, 6):
        assert post.input_gradient(random_inputs(3, length, 3), y, objective).shape == (3, length, 3)
