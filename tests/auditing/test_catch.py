"""What must be caught is, and what must be believed is: the catch rate and the false alarms, by seed."""

from __future__ import annotations

import pytest

from bayesrob.auditing import CHECKS
from tests.auditing.helpers import BELIEVED, CAUGHT, audited, failed

SEEDS = (0, 1, 2)
"""The first alone is asked every time; by `-m slow` the others too, and the first at default."""


@pytest.mark.parametrize("name", CAUGHT)
def test_artefacts_are_caught_by_the_check_made_for_them(name):
    tree = audited(name, SEEDS[0])
    assert set(CAUGHT[name].checks) <= set(failed(tree))
    about = {CHECKS[check].verdict for check in CAUGHT[name].checks}
    assert not any(bool(tree["figures"][f"{one}_believed"]) for one in about)


@pytest.mark.parametrize("name", BELIEVED)
def test_what_is_sound_is_believed(name):
    tree = audited(name, SEEDS[0])
    assert set(failed(tree)) <= ({"inference"} if BELIEVED[name].chains else set())
    assert bool(tree["figures"]["attack_believed"])


@pytest.mark.slow
@pytest.mark.parametrize(("level", "seed"), [("quick", seed) for seed in SEEDS[1:]] + [("default", SEEDS[0])])
@pytest.mark.parametrize("name", [*CAUGHT, *BELIEVED])
def test_catch_rate_and_false_alarms(name, level, seed):
    """All caught, no alarm. `pytest -n 0 -s -m slow tests/auditing/test_catch.py` prints every check that failed."""
    case, tree = (CAUGHT | BELIEVED)[name], audited(name, seed, level)
    found = {check for check in failed(tree) if not (case.chains and check == "inference")}
    figures = [f"{float(tree['figures'][f'{kind}_accuracy']):.2f}" for kind in ("robust", "strongest")]
    print(f"\n{level:7} {name:22} {seed} {' '.join(figures)} {', '.join(found)}")
    assert set(case.checks) <= found
    assert bool(found) == (name in CAUGHT)
