"""LocalSearch: its two rules by hand, and pixels that it must find."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bayesrob.attacks import LocalSearch
from bayesrob.attacks.local_search import cyclic, probe
from bayesrob.errors import InputError
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(12)
BOX = (0.0, 1.0)


# ---- the two rules ------------------------------------------------------------------------------------------------------


def test_the_cyclic_rule_by_hand():
    """r v, in [-1/2, 1/2]: 0.1 -> 0.15, 0.3 -> 0.45, 0.4 -> 0.6 - 1, 1/2 -> 3/4 - 1, and the same below."""
    value = torch.tensor([0.5, 0.6, 0.8, 0.9, 1.0, 0.4, 0.2, 0.1, 0.0], dtype=torch.float64)
    expected = torch.tensor([0.5, 0.65, 0.95, 0.1, 0.25, 0.35, 0.05, 0.9, 0.75], dtype=torch.float64)
    torch.testing.assert_close(cyclic(value, 1.5, BOX), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(cyclic(4 * value - 1, 1.5, (-1.0, 3.0)), 4 * expected - 1, rtol=0, atol=1e-12)
    torch.testing.assert_close(cyclic(value, 1.0, BOX), value, rtol=0, atol=1e-12)
    assert (cyclic(value, 0.0, BOX) == 0.5).all()


@pytest.mark.parametrize("bounds", [BOX, (-1.0, 2.0), (0.0, 255.0), (3.0, 3.1)])
@pytest.mark.parametrize("r", [0.0, 0.7, 1.5, 2.0])
def test_the_cyclic_rule_stays_inside(r, bounds):
    lo, hi = bounds
    value = (lo + (hi - lo) * torch.rand(1000, generator=GENERATOR)).clamp(lo, hi)
    value[:2] = torch.tensor([lo, hi])
    for dtype in (torch.float32, torch.float64):
        found = cyclic(value.to(dtype).clamp(lo, hi), r, bounds)
        assert found.dtype == dtype
        assert ((found >= lo) & (found <= hi)).all()


def test_a_probe_is_p_times_the_sign():
    value = torch.tensor([0.0, 0.4, 0.5, 0.6, 1.0])
    torch.testing.assert_close(probe(value, 10.0, BOX), torch.tensor([-9.5, -9.5, 0.5, 10.5, 10.5]))
    torch.testing.assert_close(probe(4 * value - 1, 0.5, (-1.0, 3.0)), torch.tensor([-1.0, -1.0, 1.0, 3.0, 3.0]))


def test_batches_change_nothing():
    x = torch.rand(5, 1, 6, 6, generator=GENERATOR, dtype=torch.float64)
    post = linear(torch.randn(3, 3, 36, generator=GENERATOR), bounds=BOX)
    y = post(x).argmax(1)
    one, other = (LocalSearch(rounds=10, batch_size=size, r=1.2).run(post, x, y) for size in (7, 1024))
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.queries, other.queries)


# ---- what it finds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["paper", "foolbox2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_finds_the_pixels_that_matter(channels, variant):
    """Four pixels out of 64 decide, all four are needed, and the squares reach everywhere."""
    known = [3, 20, 41, 62]
    weight = torch.zeros(1, 2, channels, 64)
    weight[0, 1, :, known] = 10.0
    x = torch.full((6, channels, 8, 8), 0.6, dtype=torch.float64)  # 0.65 after one perturbation, 0.725 after two
    gap = 10.0 * channels * (4 * 0.65 - 0.02)
    post = linear(weight.flatten(2), torch.tensor([[gap, 0.0]]), bounds=BOX)
    found = LocalSearch(pixels=2, half_side=7, rounds=12, p=0.5, variant=variant).run(post, x, torch.zeros(6).long())
    assert (post(found.x).argmax(1) == 1).all()
    changed = (found.x != x).flatten(2).any(1)
    if variant == "paper":  # each once: two of the tenth at first, then two known ones a round
        assert changed[:, known].all()
        assert (changed.sum(1) <= 6).all()
        torch.testing.assert_close(found.x.flatten(2)[:, :, known], torch.full((6, channels, 4), 0.65, dtype=torch.float64))
    else:  # the same one may be perturbed again and again
        assert changed[:, known].any(1).all()


def test_a_pixel_in_two_squares_is_perturbed_twice_by_foolbox_2_alone():
    weight = torch.zeros(1, 2, 36)
    weight[0, 0, 14] = -1.0  # only this pixel makes the true class less likely: it is first wherever it is a candidate
    post = linear(weight, torch.tensor([[20.0, 0.0]]), bounds=BOX)
    x = torch.full((40, 1, 6, 6), 0.6, dtype=torch.float64)
    y = torch.zeros(40).long()
    value = {
        variant: LocalSearch(rounds=2, pixels=2, half_side=5, variant=variant, p=10.0)(post, x, y).flatten(1)[:, 14] - 0.5
        for variant in ("paper", "foolbox2")
    }
    torch.testing.assert_close(value["paper"], torch.full((40,), 0.15, dtype=torch.float64))
    times = (value["foolbox2"] / 0.1).log() / torch.tensor(1.5).double().log()
    torch.testing.assert_close(times, times.round())
    assert sorted(times.round().unique().tolist()) == [2.0, 3.0]  # in the first round once or not at all


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_at_the_bounds_the_sign_of_p_says_whether_it_looks_where_it_goes(value):
    """A pixel at 0 goes to 3/4, one at 1 to 1/4; p = -1/4 probes just that, p > 0 the other way: it picks the worst ones."""
    weight = torch.zeros(1, 2, 50)
    weight[0, 1] = (
        torch.arange(50) / 10 - 2.5
    )  # the wrong class gains from the last pixels if they rise, from the first if not
    post = linear(weight, torch.tensor([[-2.5 * value + 15.0, 0.0]]), bounds=BOX)
    x, y = torch.full((4, 50), value, dtype=torch.float64), torch.zeros(4).long()
    best, worst = (49, 0) if value == 0 else (0, 49)
    settings: dict[str, Any] = {"half_side": 49, "rounds": 2, "pixels": 3}
    for p, place, other in [(-0.25, best, worst), (10.0, worst, best)]:
        changed = LocalSearch(p=p, **settings)(post, x, y) != x
        assert changed[:, place].all()  # in the first round or in the second, which sees all
        assert not changed[:, other].all()
    bound = torch.full((1,), value)
    torch.testing.assert_close(probe(bound, -0.25, BOX), cyclic(bound, 1.5, BOX))


def test_towards_a_target_its_probability_counts():
    weight = torch.zeros(1, 3, 49)
    weight[0, 1, :7], weight[0, 2, 7:14] = 10.0, 20.0  # the third class gains more, but is not aimed at
    post = linear(weight, torch.tensor([[43.5, 0.0, -84.0 + 8.0]]), bounds=BOX)
    x = torch.full((4, 1, 7, 7), 0.6, dtype=torch.float64)
    found = LocalSearch(target=1, rounds=20, half_side=6, p=0.5)(post, x, torch.zeros(4).long())
    assert (post(found).argmax(1) == 1).all()
    away = LocalSearch(rounds=20, half_side=6, p=0.5)(post, x, torch.zeros(4).long())
    assert (post(away).argmax(1) != 0).all()


@pytest.mark.parametrize("variant", ["paper", "foolbox2"])
def test_stays_inside_and_changes_few_pixels(variant):
    x = 3 * torch.rand(8, 3, 6, 6, generator=GENERATOR) - 1
    post = linear(torch.randn(3, 3, 108, generator=GENERATOR), bounds=(-1.0, 2.0)).float()
    y = post(x).argmax(1)
    found = LocalSearch(rounds=3, pixels=2, variant=variant)(post, x, y)
    assert found.min() >= -1
    assert found.max() <= 2
    changed = (found != x).flatten(2).any(1).sum(1)
    assert ((changed >= 1) & (changed <= 6)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"pixels": 0}, "pixels is 0"),
        ({"half_side": -1}, "half_side is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"p": 0.0}, "p is 0"),
        ({"p": None}, "p is None"),
        ({"p": float("inf")}, "p is inf"),
        ({"r": 2.5}, "r is 2.5"),
        ({"r": -0.1}, "r is -0.1"),
        ({"variant": "foolbox"}, "Did you mean 'foolbox2'"),
        ({"norm": "l_1"}, "l_0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        LocalSearch(**settings)
