"""What a check may ask about an accuracy under attack, and about the posterior behind it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import xarray as xr

__all__ = [
    "Change",
    "Compared",
    "Doubled",
    "Evidence",
    "NotAvailable",
    "OneDraw",
    "RadiusCurve",
    "Rescored",
    "Steps",
    "Tried",
    "if_available",
]


class NotAvailable(Exception):
    """Raised where evidence cannot be given here, with the reason as a sentence."""


class Change(NamedTuple):
    """How much predictions for the same inputs differ between forward passes."""

    largest: float
    """The largest difference of a probability."""
    forwards: int
    """The number of forward passes compared."""


class Compared(NamedTuple):
    """Attacks in the same ball with which the checked one is compared."""

    accuracy: Mapping[str, float]
    """The accuracy that each of them leaves, by its name."""
    what: str
    """What these attacks are, in words that end with a verb: "PGD of 40 steps leaves"."""


class Tried(NamedTuple):
    """Attacks on points that survive every attack by gradients."""

    broken: Mapping[str, np.ndarray]
    """Whether each attack breaks each point that was tried, bool `[tried point]` by the attack's name."""
    survivors: int
    """The number of all surviving points, tried or not."""
    budget: str
    """What each attack could spend, in words."""


class Steps(NamedTuple):
    """The step sizes of an attack that repeats steps in a ball."""

    sizes: Sequence[float]
    """Those that were fixed by hand, in the unit of `eps`; empty where the attack chooses them."""
    eps: float
    """The radius of the ball."""


class Doubled(NamedTuple):
    """What the attack with twice the steps and twice the restarts leaves."""

    accuracy: float
    loss: str
    """A sentence about the objective where both attacks fail, or nothing."""


class RadiusCurve(NamedTuple):
    """Accuracy against the radius of the ball."""

    accuracy: Mapping[float, float]
    """Accuracy by radius, from 0 (no attack) on."""
    grey: float | None
    """The radius at which every image can be made the same grey one, so that chance is left; None: not on the curve."""
    unbounded: float | None
    """The radius that holds every possible input, so that nothing is left; None: not on the curve."""


class Rescored(NamedTuple):
    """The attacked points scored again on other draws."""

    right: np.ndarray
    """Whether each point was classified correctly on the scoring draws, bool `[point]`."""
    again: np.ndarray
    """Whether each point is classified correctly on each other set of draws, bool `[set, point]`."""
    interval: tuple[float, float] | None
    """The interval that is reported with the accuracy; None: it is reported without one."""


class OneDraw(NamedTuple):
    """Accuracies on a single draw of the posterior, attacked and scored on that draw."""

    attack: float
    """What the checked attack leaves."""
    reference: float
    """What PGD on the draw's margin leaves."""


class Evidence(Protocol):
    """Evidence about one accuracy under attack: what an evaluation has computed, or what an audit runs.

    Every method may raise `NotAvailable`; those that are not abstract do so unless an implementation overrides them. Arrays
    over `point` are in the order of the points.
    """

    # ---- the accuracy ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def clean(self) -> np.ndarray:
        """Whether each point is classified correctly before the attack, bool `[point]`."""

    @property
    @abstractmethod
    def right(self) -> np.ndarray:
        """Whether each point is classified correctly after the attack, bool `[point]`."""

    @property
    def accuracy(self) -> float:
        """The accuracy that the attack leaves."""
        return float(self.right.mean())

    @abstractmethod
    def outside(self) -> np.ndarray:
        """Whether each attacked point left the ball or the bounds, bool `[point]`."""

    @abstractmethod
    def finite(self) -> np.ndarray:
        """Whether each attacked point and the prediction for it are finite, bool `[point]`."""

    # ---- the attack -----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def sees(self) -> Literal["gradients", "probabilities", "classes", "nothing"]:
        """What the attack uses of the predictive."""

    @abstractmethod
    def climbed(self) -> Sequence[str]:
        """The objectives whose gradients the attack climbs; empty for attacks without gradients."""

    @abstractmethod
    def draws_per_step(self) -> int:
        """The number of draws that each step of the attack averages."""

    @abstractmethod
    def takes_new_draws(self) -> bool:
        """Whether each step averages new draws, where draws are made anew."""

    @abstractmethod
    def steps(self) -> Steps | None:
        """The steps that the attack repeats in a ball; None if there are none to double."""

    # ---- the posterior predictive ---------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def num_draws(self) -> int:
        """The number of draws of the posterior."""

    @property
    @abstractmethod
    def scoring_draws(self) -> int:
        """The number of draws that predictions are scored on."""

    @property
    @abstractmethod
    def info(self) -> Mapping:
        """What the inference wrote down about itself."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """Where the draws come from, one of `predictive.ORIGINS`."""

    @property
    @abstractmethod
    def num_chains(self) -> int:
        """The number of chains that the draws come from; 1 without chains."""

    @abstractmethod
    def log_probabilities(self) -> np.ndarray:
        """Log posterior predictive probabilities of the clean points, `[point, class]`."""

    @abstractmethod
    def puts_out_probabilities(self) -> Sequence[bool]:
        """For each draw, whether its raw outputs are probabilities, where logits belong."""

    @abstractmethod
    def change(self) -> Change:
        """How much predictions for the same inputs differ between forward passes."""

    @abstractmethod
    def distinct_draws(self) -> int | None:
        """How many draws differ from all others, each counted once; None if draws are not held, or there is one."""

    @abstractmethod
    def diagnostics(self) -> xr.Dataset | None:
        """The diagnostics of the chains, as `analysis.chain_diagnostics` returns them; None without chains."""

    # ---- gradients ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def zero_gradients(self) -> np.ndarray:
        """Whether the gradients of all objectives that the attack climbs are exactly zero at each point, bool `[point]`."""

    @abstractmethod
    def about_zero(self, zero: np.ndarray) -> str:
        """What else is known about the points where gradients are `zero`, as the end of a sentence."""

    @abstractmethod
    def repeated_gradients(self) -> np.ndarray:
        """Gradients of the first objective at the same points, taken several times, `[repeat, point, component]`."""

    def within_error(self) -> np.ndarray:
        """Whether the averaged loss gradient is within two Monte Carlo standard errors of zero, bool `[point]`."""
        raise NotAvailable("There is no Monte Carlo standard error of the gradient.")

    # ---- other attacks --------------------------------------------------------------------------------------------------

    @abstractmethod
    def other_objectives(self) -> Compared:
        """Iterated attacks by gradients on other objectives."""

    @abstractmethod
    def single_steps(self) -> Compared:
        """Attacks of one step."""

    @abstractmethod
    def transfers(self) -> Compared:
        """Perturbations found on another network."""

    @abstractmethod
    def without_gradients(self) -> Tried:
        """Attacks that only ask for predictions."""

    @abstractmethod
    def random_points(self) -> Tried:
        """Random points of the ball."""

    @abstractmethod
    def by_radius(self) -> RadiusCurve | None:
        """Accuracy against the radius; None for an attack without one."""

    @abstractmethod
    def by_draws(self) -> Mapping[int, float]:
        """The accuracy that the attack leaves, by the number of draws that its steps average, its own among them."""

    @abstractmethod
    def rescored(self) -> Rescored:
        """The attacked points scored again on other draws."""

    def doubled(self) -> Doubled:
        """The attack with twice the steps and twice the restarts."""
        raise NotAvailable("Twice the steps were not tried.")

    def on_one_draw(self) -> OneDraw:
        """The attack on a single draw, where nothing is random."""
        raise NotAvailable("The attack was not run on a single draw.")


def if_available[T](ask: Callable[[], T]) -> T | None:
    """Return `ask()`, or None where that evidence is not available."""
    try:
        return ask()
    except NotAvailable:
        return None
