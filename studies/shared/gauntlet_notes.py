"""What the attacks of study 04 say when they are compared: the strongest one, and whether gradients are masked."""

from __future__ import annotations

import json
from collections.abc import Mapping

import xarray as xr

from bayesrob.attacks import ATTACKS, Attack
from shared.tables import right_after

__all__ = ["MASKED", "is_minimal", "masking", "members_of", "notes", "random_search", "sees", "transfer_notes"]

MASKED = 0.002
"""An attack that sees less and leaves less, by more than this share of the points, says that gradients are masked."""


def members_of(tree: xr.DataTree) -> dict[str, list[str]]:
    """The names of the attacks of fixed radius by their threat model."""
    settings, scores = json.loads(tree.attrs["attacks"]), tree["robustness"].to_dataset()
    balls = {
        threat: (scores["norm"].sel(threat=threat).item(), scores["eps"].sel(threat=threat).item())
        for threat in scores["threat"].values.tolist()
    }
    fixed = [name for name in settings if not is_minimal(tree, name)]
    return {
        threat: [name for name in fixed if (settings[name].get("norm"), settings[name].get("eps")) == ball]
        for threat, ball in balls.items()
    }


def is_minimal(tree: xr.DataTree, name: str) -> bool:
    """Whether the attack searches for the smallest perturbation instead of staying in a ball."""
    return not bool(tree["points"]["smallest_perturbation"].sel(attack=name).isnull().any())


def sees(tree: xr.DataTree, name: str) -> str:
    """What the attack knows of the model, as `Attack.sees` has it, or "ensemble"."""
    attack = ATTACKS[json.loads(tree.attrs["attacks"])[name]["attack"]]
    return attack.sees if attack.members is Attack.members else "ensemble"


def notes(data: str, trees: Mapping[str, xr.DataTree]) -> list[str]:
    """The strongest attack, what all attacks leave, and whether an attack without gradients did better."""
    texts = []
    for name, tree in trees.items():
        result, right = tree["robustness"].to_dataset(), right_after(tree)
        left = result["adversarial_accuracy"]
        for threat, attacks in members_of(tree).items():
            strongest = left.sel(attack=attacks).idxmin("attack").item()
            low, high = result["adversarial_accuracy_interval"].sel(attack=strongest).values
            worst = float(result["worst_case_accuracy"].sel(threat=threat))
            text = f"{data}/{name}, {threat}: of {len(attacks)} attacks {strongest} leaves the least, "
            text += f"{float(left.sel(attack=strongest)):.3f} [{low:.3f}, {high:.3f}]; all together leave {worst:.3f}."
            with_gradients = [a for a in attacks if sees(tree, a) == "gradients"]
            without = [a for a in attacks if sees(tree, a) in ("probabilities", "classes", "nothing")]
            if with_gradients and without:
                text += " " + masking(right, with_gradients, without)
            texts.append(text)
        text = random_search(right, members_of(tree))
        if text:
            texts.append(f"{data}/{name}: {text}")
    return texts


def masking(right: xr.DataArray, with_gradients: list[str], without: list[str]) -> str:
    """Whether attacks without gradients break points that those with gradients do not.

    Args:
        right: which points are right under each attack, `[attack, point]`.
        with_gradients: names of the attacks that use gradients.
        without: names of those that do not.
    """
    share = right.mean("point")
    best, other = (share.sel(attack=names).idxmin("attack").item() for names in (with_gradients, without))
    behind = float(share.sel(attack=best) - share.sel(attack=other))
    only = int((right.sel(attack=with_gradients).all("attack") & ~right.sel(attack=without).all("attack")).sum())
    beside = f"{other} without gradients leaves {float(share.sel(attack=other)):.3f}, {best} with them "
    beside += f"{float(share.sel(attack=best)):.3f}; {only} points fall only to attacks without gradients"
    if behind > MASKED:
        return f"Flag of masked gradients: {beside}."
    return f"No flag of masked gradients: {beside}."


def random_search(right: xr.DataArray, threats: Mapping[str, list[str]]) -> str:
    """Where uniform random points do better than PGD at its defaults, which they should not; "" if they were not run."""
    verdicts = []
    for threat, attacks in threats.items():
        norm = threat.partition(" ")[0]
        pair = f"RandomSearch {norm}", f"PGD {norm}"
        if not set(pair) <= set(attacks):
            continue
        searched, climbed = (right.sel(attack=name).values for name in pair)
        wins = "wins" if searched.mean() < climbed.mean() else "does not win"
        only = int((climbed & ~searched).sum())
        verdicts.append(
            f"{wins} against PGD ({threat}: {searched.mean():.3f} and {climbed.mean():.3f}, {only} points to it alone)"
        )
    return f"random search {'; '.join(verdicts)}." if verdicts else ""


def transfer_notes(data: str, matrix: xr.Dataset) -> list[str]:
    """For each target, whether an attack on another posterior does as much as the attack on the target itself."""
    texts = []
    accuracy = matrix["adversarial_accuracy"]
    for target in matrix["target"].values.tolist():
        column = accuracy.sel(target=target)
        others = column.drop_sel(source=target)
        own, best = float(column.sel(source=target)), others.idxmin("source").item()
        least = float(others.min())
        flag = "a flag of masked gradients" if own - least > MASKED else "more is left, as it should be"
        if abs(own - least) <= MASKED:
            flag = "as much as on itself"
        clean = float(matrix["accuracy"].sel(target=target))
        texts.append(
            f"{data}, transfer to {target} (accuracy {clean:.3f}): attacked itself it keeps {own:.3f}, by what was found on "
            f"{best} {least:.3f}: {flag}."
        )
    return texts
