"""The rounds of LocalSearch: which pixels are candidates, which are perturbed, how p adapts, and what a round costs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from bayesrob.attacks import LocalSearch, local_search
from bayesrob.predictive import HeldDraws
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(12)
BOX = (0.0, 1.0)


def flat(size: int, probability: float = 0.6, classes: int = 2) -> HeldDraws:
    """A model that says the same of everything: class 0 with this probability."""
    rest = torch.full((1, classes - 1), (1 - probability) / (classes - 1))
    return linear(torch.zeros(1, classes, size), torch.cat([torch.tensor([[probability]]), rest], 1).log(), bounds=BOX)


class Trace:
    """Which pixels were perturbed in each round of an attack on one image, and what its probes' p was.

    Args:
        monkeypatch: pytest's fixture, which puts the spies in place.
    """

    def __init__(self, monkeypatch):
        self.pixels: list[list[int]] = []
        self.p: list[float] = []
        candidates, perturbed, probes = LocalSearch._candidates, LocalSearch._perturbed, local_search.probe

        def spy_round(*args):
            self.pixels.append([])
            return candidates(*args)

        def spy(attack, z, chosen, taken, bounds):
            self.pixels[-1] = chosen[0][taken[0]].tolist()
            return perturbed(attack, z, chosen, taken, bounds)

        def spy_probe(value, p, bounds):
            self.p.append(float(p.flatten()[0]))
            return probes(value, p, bounds)

        monkeypatch.setattr(LocalSearch, "_candidates", spy_round)
        monkeypatch.setattr(LocalSearch, "_perturbed", spy)
        monkeypatch.setattr(local_search, "probe", spy_probe)


def run(post: HeldDraws, shape: tuple[int, ...], **settings: Any):
    x = torch.full((1, *shape), 0.6, dtype=torch.float64)
    return x, LocalSearch(**settings).run(post, x, torch.tensor([0]))


@pytest.mark.parametrize("variant", ["paper", "foolbox2"])
@pytest.mark.parametrize(("shape", "width"), [((1, 9, 7), 7), ((63,), 63), ((7, 9), 63)])
def test_the_next_pixels_are_near_the_last_ones(monkeypatch, shape, width, variant):
    """In squares for images, in intervals for everything else."""
    trace = Trace(monkeypatch)
    run(flat(63), shape, pixels=2, half_side=1, rounds=12, variant=variant)
    assert len(trace.pixels) == 12
    steps = set()
    for before, after in itertools.pairwise(trace.pixels):
        assert after
        for place in after:
            step = [(place // width - last // width, place % width - last % width) for last in before]
            assert any(abs(down) <= 1 and abs(beside) <= 1 for down, beside in step)
            steps.update(step)
    assert len(steps) > 2


@pytest.mark.parametrize(("half_side", "places"), [(0, 2), (2, 25), (8, 25)])
def test_a_perturbed_pixel_rests_for_thirty_rounds(monkeypatch, half_side, places):
    """And is a candidate again in the thirty-first; where all candidates rest, the round passes."""
    trace = Trace(monkeypatch)
    run(flat(25), (1, 5, 5), pixels=2, half_side=half_side, rounds=120)
    rounds: dict[int, list[int]] = {}
    for number, pixels in enumerate(trace.pixels):
        for place in pixels:
            rounds.setdefault(place, []).append(number)
    assert len(trace.pixels) == 120
    assert len(rounds) == places
    gaps = [after - before for times in rounds.values() for before, after in itertools.pairwise(times)]
    assert min(gaps) == 31
    assert [] in trace.pixels
    trace.pixels.clear()
    run(flat(25), (1, 5, 5), pixels=2, half_side=half_side, rounds=120, variant="foolbox2")
    assert [] not in trace.pixels


def test_rest_is_exactly_thirty_rounds():
    """One pixel, alone: it changes in rounds 1, 32 and 63; every round between costs nothing."""
    post, x, y = flat(1), torch.full((1, 1), 0.6, dtype=torch.float64), torch.tensor([0])
    values, queries = [], []
    for rounds in range(1, 64):
        found = LocalSearch(rounds=rounds, p=1.0).run(post, x, y)
        values.append(round(float(found.x), 9))
        queries.append(int(found.queries))
    assert values == [0.65] * 31 + [0.725] * 31 + [0.8375]
    assert queries == [3] * 31 + [5] * 31 + [7]
    found = LocalSearch(rounds=4, variant="foolbox2").run(post, x, y)  # no rest: 0.1 * 1.5^4 = 0.50625 is beyond the bound
    torch.testing.assert_close(found.x, torch.tensor([[0.00625]], dtype=torch.float64), rtol=0, atol=1e-12)
    assert int(found.queries) == 9


@pytest.mark.parametrize(
    ("probability", "paper"),
    [
        (0.95, [10.0, 20.0, 40.0, 80.0, 100.0, 100.0, 100.0]),
        (0.89, [10.0] * 7),
        (0.31, [10.0] * 7),
        (0.29, [10.0, 5.0, 2.5, 1.25, 0.625, 0.5, 0.5]),
    ],
)
def test_p_rises_near_one_and_falls_below_three_tenths(monkeypatch, probability, paper):
    trace = Trace(monkeypatch)
    run(flat(64, probability, classes=8), (1, 8, 8), rounds=7)
    assert trace.p == paper
    trace.p.clear()
    run(flat(64, probability, classes=8), (1, 8, 8), rounds=7, variant="foolbox2")
    assert trace.p == [10.0] * 7


def test_p_is_each_point_s_own_and_one_s_own_choice_is_not_corrected(monkeypatch):
    seen: list[Tensor] = []
    adapted = LocalSearch._adapted

    def spy(attack, p, score, taken, targeted):
        seen.append(adapted(attack, p, score, taken, targeted))
        return seen[-1]

    monkeypatch.setattr(LocalSearch, "_adapted", spy)
    weight = torch.zeros(1, 2, 20)
    weight[0, 0, 0] = 10.0  # the first pixel says how sure the model is; the middle is 0.5, where a probe does nothing
    post = linear(weight, torch.tensor([[-4.0, 0.0]]), bounds=BOX)
    x = torch.full((2, 20), 0.5, dtype=torch.float64)
    x[:, 0] = torch.tensor([0.45, 0.95], dtype=torch.float64)
    LocalSearch(rounds=1, p=200.0, half_side=2)(post, x, torch.tensor([0, 0]), seed=1)
    assert seen[0].shape == (2,)
    assert seen[0][1] == 200.0  # not to 400, and not back to 100
    weight = torch.zeros(1, 2, 20)
    assert LocalSearch(p=0.1)._adapted(
        torch.tensor([0.1, 0.3]), torch.tensor([[0.1], [0.1]]).log(), torch.ones(2, 1).bool(), False
    ).tolist() == pytest.approx([0.1, 0.15])
    other = LocalSearch(p=-10.0)._adapted(
        torch.tensor([-10.0, -10.0]), torch.tensor([[0.1], [0.95]]).log(), torch.ones(2, 1).bool(), False
    )
    assert other.tolist() == [-5.0, -20.0]  # its size adapts, its sign stays
    towards = LocalSearch()._adapted(
        torch.tensor([10.0, 10.0]), -torch.tensor([[0.05], [0.8]]).log(), torch.ones(2, 1).bool(), True
    )
    assert towards.tolist() == [20.0, 5.0]  # far from the target, and near to it


def test_candidates_are_counted():
    """A tenth at first; then the union of squares, without those that rest; foolbox 2: 128 at most, of a list."""
    paper = [run(flat(1600), (1, 40, 40), rounds=rounds)[1].queries.item() for rounds in (1, 2)]
    foolbox = [run(flat(1600), (1, 40, 40), rounds=rounds, variant="foolbox2")[1].queries.item() for rounds in (1, 2, 3)]
    assert paper[0] == 1 + 160 + 1
    assert 128 < paper[1] - paper[0] - 1 <= 5 * 121 - 5
    assert foolbox == [1 + 129, 1 + 2 * 129, 1 + 3 * 129]
    small = run(flat(100), (1, 10, 10), rounds=2, half_side=9)[1].queries.item()
    assert small == 1 + (10 + 1) + (95 + 1)
    found = run(flat(100), (1, 10, 10), rounds=2, half_side=9, pixels=1, variant="foolbox2")[1]
    assert found.queries.item() == 1 + (10 + 1) + (100 + 1)
    assert found.gradients.item() == 0


def test_what_is_wrong_already_is_left_alone():
    post, x = flat(16), torch.rand(3, 1, 4, 4, generator=GENERATOR).double()
    found = LocalSearch(rounds=2).run(post, x, torch.tensor([1, 0, 1]))
    assert torch.equal(found.x[[0, 2]], x[[0, 2]])
    assert found.queries[[0, 2]].tolist() == [1, 1]
    assert not torch.equal(found.x[1], x[1])
