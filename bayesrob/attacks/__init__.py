"""Attacks: one file each, a frozen dataclass called as `attack(predictive, x, y, seed=0)`; `ATTACKS` lists them by name."""

from bayesrob.attacks.base import Attack
from bayesrob.attacks.fgsm import FGSM
from bayesrob.attacks.pgd import PGD
from bayesrob.attacks.random import Random

ATTACKS: dict[str, type[Attack]] = {"FGSM": FGSM, "PGD": PGD, "Random": Random}

__all__ = ["ATTACKS", "FGSM", "PGD", "Attack", "Random"]
