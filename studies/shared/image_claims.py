"""What Aboutalebi et al. 2020 say of their figures 2 to 6, claim by claim, measured on the networks of study 10."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr
from scipy import stats

__all__ = ["claims", "notes"]

Sets = Mapping[str, Mapping[str, Mapping[str, xr.Dataset]]]
"""Curves by network, training and attack: over `size`, with `mse`, `model_accuracy`, `model_loss` and their spreads."""

SMALL, LARGE = (0.01, 0.02, 0.05), (0.1, 0.2)
"""Root mean squares, in pixels of [0, 1], that are called small and large; the paper's figures have no common scale."""

LONGER = {"CNN-32": "CNN-8", "MLP-64": "MLP-16", "ResNet-34": "ResNet-18", "ResNet-50": "ResNet-34"}
"""Larger networks and the smaller ones that they are compared with."""


def at(curve: xr.Dataset, value: str, rms: float) -> np.ndarray:
    """The value of each model at a root mean square, by linear interpolation between the sizes measured; NaN beyond them."""
    x, y = np.sqrt(curve["mse"].values), curve[value].transpose("model", "size").values
    return np.array([np.interp(rms, x, row, right=np.nan) for row in y])


def half(curve: xr.Dataset) -> np.ndarray:
    """Where each model's accuracy first is half of what it was without perturbation; NaN if nowhere measured."""
    x, halves = np.sqrt(curve["mse"].values), []
    for row in curve["model_accuracy"].transpose("model", "size").values:
        below = np.flatnonzero(row <= row[0] / 2)
        if not len(below) or row[0] == 0:
            halves.append(np.nan)
            continue
        i = below[0]
        halves.append(x[i - 1] + (row[i - 1] - row[0] / 2) / (row[i - 1] - row[i]) * (x[i] - x[i - 1]))
    return np.array(halves)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean and Student's 95% interval."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan"), float("nan")
    mean, error = float(values.mean()), float(stats.sem(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def verdict(low: float, high: float) -> str:
    """Whether a difference that should be positive is: met, contradicted, or open where its interval holds zero."""
    if np.isnan(low):
        return "not measured"
    return "met" if low > 0 else "contradicted" if high < 0 else "open"


def claims(sets: Sets) -> list[dict[str, str]]:
    """A row for each claim and set of networks: what was measured, and whether the claim is met."""
    lines: list[dict[str, str]] = []
    for name, trainings in sets.items():
        for training, attacks in trainings.items():
            for claim, measured, said in _of_one(attacks):
                lines.append({"claim": claim, "network": name, "training": training, "found": measured, "verdict": said})
            if training != "plain" and "plain" in trainings:
                for claim, measured, said in _trained(attacks, trainings["plain"]):
                    lines.append({"claim": claim, "network": name, "training": training, "found": measured, "verdict": said})
    for name in sets:
        data, _, net = name.rpartition(" ")
        smaller = f"{data} {LONGER.get(net)}"
        for training in sets[name]:
            if smaller in sets and training in sets[smaller]:
                measured, said = _longer(sets[name][training], sets[smaller][training], smaller)
                claim = "larger networks resist PGD longer"
                lines.append({"claim": claim, "network": name, "training": training, "found": measured, "verdict": said})
    order = list(dict.fromkeys(line["claim"] for line in lines))
    return sorted(lines, key=lambda line: order.index(line["claim"]))


def _of_one(attacks: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, str, str]]:
    for attack in ("FGSM", "PGD"):
        if attack in attacks:
            spread = attacks[attack]["loss_spread"].values ** 2
            grows = bool((np.diff(spread) >= 0).all())
            where = float(np.sqrt(attacks[attack]["mse"].values[int(spread.argmax())]))
            measured = f"{spread[0]:.3g} clean, most {spread.max():.3g} at rms {where:.2g}, {spread[-1]:.3g} at the last"
            yield f"variance of the loss keeps growing ({attack})", measured, "met" if grows else "contradicted"
            spread = attacks[attack]["accuracy_spread"].values ** 2
            inside = 0 < int(spread.argmax()) < len(spread) - 1
            where = float(np.sqrt(attacks[attack]["mse"].values[int(spread.argmax())]))
            measured = f"{spread[0]:.2g} clean, most {spread.max():.2g} at rms {where:.2g}, {spread[-1]:.2g} at the last"
            yield f"variance of the accuracy rises, then falls ({attack})", measured, "met" if inside else "contradicted"
    for weaker, stronger, sizes in (
        ("FGSM", "BV", SMALL),
        ("FGSM", "PGD", LARGE),
        ("BV", "PGD", LARGE),
        ("BV", "PGD", SMALL),
    ):
        if stronger in attacks:
            for rms in sizes:
                if rms <= float(np.sqrt(min(attacks[name]["mse"].max() for name in (weaker, stronger)))):
                    more = at(attacks[weaker], "model_accuracy", rms) - at(attacks[stronger], "model_accuracy", rms)
                    mean, low, high = interval(more)
                    text = f"{weaker} leaves {mean:+.3f} [{low:+.3f}, {high:+.3f}] more"
                    yield f"{stronger} is stronger than {weaker} at rms {rms:g}", text, verdict(low, high)


def _trained(attacks: Mapping[str, xr.Dataset], plain: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, str, str]]:
    """Means of two sets, of which networks are no pairs: Welch's interval."""
    attack = "PGD" if "PGD" in attacks else "BV"
    for rms in (0.02, 0.05, 0.1):
        ours, theirs = (at(curves[attack], "model_loss", rms) for curves in (attacks, plain))
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            continue
        test = stats.ttest_ind(theirs, ours, equal_var=False).confidence_interval(0.95)
        text = f"loss lower by {theirs.mean() - ours.mean():.3g} [{test.low:.3g}, {test.high:.3g}] under {attack}"
        yield f"training on attacks lowers the loss at rms {rms:g}", text, verdict(test.low, test.high)
        ours, theirs = (float(np.var(values, ddof=1)) for values in (ours, theirs))
        f_ratio = theirs / ours if ours > 0 else float("inf")
        freedom = len(attacks[attack]["model"]) - 1
        low, high = (f_ratio / float(stats.f.ppf(q, freedom, freedom)) for q in (0.975, 0.025))
        text = f"variance of the loss divided by {f_ratio:.3g} [{low:.3g}, {high:.3g}] under {attack}"
        yield f"training on attacks lowers the variance at rms {rms:g}", text, verdict(np.log(low), np.log(high))


def _longer(large: Mapping[str, xr.Dataset], small: Mapping[str, xr.Dataset], name: str) -> tuple[str, str]:
    ours, theirs = half(large["PGD"]), half(small["PGD"])
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return f"half of the accuracy is not lost within the sizes measured (or {name}'s is not)", "not measured"
    test = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    text = f"accuracy halves at rms {ours.mean():.3g}, {name}'s at {theirs.mean():.3g}: {test.low:+.3g} to {test.high:+.3g}"
    return text, verdict(test.low, test.high)


def notes(lines: list[dict[str, str]]) -> list[str]:
    """How often each claim was met."""
    texts = []
    for claim in dict.fromkeys(line["claim"] for line in lines):
        said = [line["verdict"] for line in lines if line["claim"] == claim]
        counts = ", ".join(f"{said.count(word)} {word}" for word in dict.fromkeys(said))
        texts.append(f"{claim[0].upper()}{claim[1:]}: {counts} (sets of networks).")
    return texts
