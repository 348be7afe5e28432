"""What every attack has in common: inputs are checked before any work, outputs after it, and model evaluations counted."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import is_whole, plain
from bayesrob.attacks.criteria import Criterion, Misclassified
from bayesrob.attacks.geometry import NORMS
from bayesrob.attacks.goal import Draws, Goal, Label, Sees, Target
from bayesrob.attacks.victim import Victim
from bayesrob.errors import BayesrobError, InputError, check_name
from bayesrob.numerics import products
from bayesrob.predictive import OBJECTIVES, Predictive
from bayesrob.types import Batch

__all__ = ["Attack", "Attacked"]

_NO_GRADIENT = ("does not require grad", "not have been used in the graph", "numpy() on Tensor that requires grad")
"""Messages of torch for detached outputs, outputs that do not depend on the input, and detours through numpy."""


class Attacked(NamedTuple):
    """The result of an attack and what it cost."""

    x: Batch
    """Adversarial inputs, `[batch, *shape]`."""
    queries: Int[Tensor, " batch"]
    """Number of posterior predictions that were made at each point."""
    gradients: Int[Tensor, " batch"]
    """Number of gradients that were taken at each point."""


@dataclasses.dataclass(frozen=True)
class Attack(abc.ABC):
    """Perturb inputs so that the posterior predictive no longer gives the labels; the fields are the attack's settings.

    Args:
        target: None: the attack moves away from the true class. Otherwise it moves towards a class: "least_likely" or
            "most_likely" (by the clean input's posterior predictive, the true class left out), "random" (another class), a
            class index for all points, or "given": the labels passed *are* the targets.
        criterion: what counts as success where the attack decides by it (restarts, early stops, smallest perturbations).
        label: "true", or "predicted": attack the class that is predicted for the clean input, so that the true label does
            not leak into the perturbation (Kurakin et al. 2017).
        skip_misclassified: leave points unchanged that are wrong before the attack. False perturbs every point.
        num_draws: draws of the posterior in each model evaluation (the first ones of held draws, new ones of fresh draws);
            None: the predictive's own number.
        draws: for predictives drawn fresh. "fresh": new draws at every model evaluation (expectation over transformation,
            Athalye et al. 2018), so that the attack cannot overfit to one set. "held": one set, drawn at the start. It makes
            no difference for held draws.
    """

    target: Target = dataclasses.field(default=None, kw_only=True)
    criterion: Criterion = dataclasses.field(default=Misclassified(), kw_only=True)
    label: Label = dataclasses.field(default="true", kw_only=True)
    skip_misclassified: bool = dataclasses.field(default=False, kw_only=True)
    num_draws: int | None = dataclasses.field(default=None, kw_only=True)
    draws: Draws = dataclasses.field(default="fresh", kw_only=True)

    # What the list of attacks in the documentation shows, and what is refused.
    norms: ClassVar[tuple[str, ...]] = NORMS
    """The norms of perturbations that the setting `norm` may name."""
    sees: ClassVar[Sees] = "gradients"
    """What the attack uses of the predictive."""
    minimal: ClassVar[bool] = False
    """Whether it looks for the smallest perturbation that succeeds, instead of the worst one in a ball of radius `eps`."""
    targetable: ClassVar[bool] = True
    """Whether it can move towards a class."""
    needs_classes: ClassVar[bool] = True
    """Whether it needs a classifier, and cannot attack a regression."""
    needs_bounds: ClassVar[bool] = False
    """Whether the predictive must have bounds."""
    paper: ClassVar[str] = ""
    """The paper that proposed the attack, by author and year."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.target is not None and not self.targetable:
            raise InputError(f"{name} has no target.", "It moves away from the true class.", "Use PGD(target=...).")
        _ = self.goal  # which checks its part of the settings
        check_name("label", self.label, ["true", "predicted"])
        if self.target == "given" and (self.label != "true" or self.skip_misclassified):
            raise InputError(
                'target="given" with label="predicted" or skip_misclassified.',
                "The labels passed are then the targets, and no true ones are known.",
                "Choose a rule for the target instead.",
            )
        if "norm" in vars(self):
            check_name("norm", self._setting("norm"), self.norms)
        if "objective" in vars(self):
            check_name("objective", self._setting("objective"), OBJECTIVES)

    @property
    def goal(self) -> Goal:
        """Target, success criterion and draws of the attack."""
        return Goal(self.target, self.criterion, self.num_draws, self.draws)

    def __call__(self, predictive: Predictive, x: Tensor, y: Tensor, seed: int = 0) -> Batch:
        """Return adversarial versions of `x`, `[batch, *shape]`; `run` reports their cost as well.

        Args:
            predictive: the model under attack; results stay within its `bounds` (None: unclipped).
            x: inputs `[batch, *shape]`, inside the bounds.
            y: their true labels, `[batch]`.
            seed: fixes every random choice of the attack, also which fresh draws it sees.

        Raises:
            InputError: before any work, if the inputs do not fit, or the predictive lacks what the attack needs.
            BayesrobError: the attack ran into gradients that are not finite.
        """
        return self.run(predictive, x, y, seed).x

    def run(self, predictive: Predictive, x: Tensor, y: Tensor, seed: int = 0) -> Attacked:
        """Attack as `__call__` does, and count the queries and gradients of every point.

        Args:
            predictive: the model under attack.
            x: inputs `[batch, *shape]`, inside the bounds.
            y: their true labels, `[batch]`.
            seed: fixes every random choice of the attack, also which fresh draws it sees.
        """
        if not isinstance(predictive, Predictive):
            raise InputError(
                f"The attack got a {type(predictive).__name__}.",
                "It sees a model as a distribution over functions.",
                "Wrap trained networks with predictive.from_modules([net]).",
            )
        predictive.check_inputs(x)
        predictive.check_labels(x, y)
        self.check_fits(predictive)
        predictive.resolve(self.num_draws, 0)  # refuses a number of draws that cannot be had
        generator = rng.generator(seed, type(self).__name__)
        result, rows = x.detach().clone(), None
        queries = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        gradients = torch.zeros_like(queries)
        if len(x) == 0:
            return Attacked(result, queries, gradients)
        with torch.no_grad(), products(predictive.net):
            if self.label == "predicted" or self.skip_misclassified:
                predicted = predictive(x, self.num_draws, rng.derive(seed, type(self).__name__, "clean")).argmax(-1)
                queries += 1
                if self.skip_misclassified:
                    rows = torch.nonzero(predicted == y)[:, 0]
                y = predicted if self.label == "predicted" else y
            if rows is None:
                victim = Victim(predictive, self.goal, result, y, generator)
                result = self._perturb(victim, generator).contiguous()
                queries += victim.queries
                gradients += victim.gradients
            elif len(rows):
                victim = Victim(predictive, self.goal, result[rows], y[rows], generator)
                result[rows] = self._perturb(victim, generator)
                queries[rows] += victim.queries
                gradients[rows] += victim.gradients
        # A finite sum shows in a tenth of the time that all values are finite; a sum that overflows shows nothing.
        lost = 0 if math.isfinite(result.sum()) else int((~result.isfinite()).flatten(1).any(1).sum())
        if lost:
            raise BayesrobError(
                f"{type(self).__name__} ended at NaN or infinity for {lost} of {len(x)} points.",
                "The model's gradient is not finite there; calling these points robust would be wrong.",
                "Check the weights and logits for overflow.",
            )
        return Attacked(result, queries, gradients)

    def _perturb(self, victim: Victim, generator: torch.Generator) -> Batch:
        try:
            return self.perturb(victim, victim.x, generator)
        except RuntimeError as error:
            if any(sign in str(error) for sign in _NO_GRADIENT):
                raise _needs_gradients(type(self).__name__, error) from error
            raise

    @abc.abstractmethod
    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        """The attack itself, on checked inputs and without gradient mode.

        Args:
            victim: the predictive as this attack sees it; its labels are `victim.y`.
            x: clean inputs, `[batch, *shape]`; must not be changed in place.
            generator: source of all random numbers, on the CPU.
        """

    def check_fits(self, predictive: Predictive) -> None:
        """Raise `InputError` if the predictive lacks what this attack needs, and say which attack fits."""
        name = type(self).__name__
        classifies = predictive.likelihood.name == "categorical"
        if not classifies and (self.needs_classes or self.target is not None):
            raise InputError(
                f"{name} needs classes.",
                "The predictive is a regression, where no prediction is right or wrong.",
                'Use FGSM or PGD with objective="expected_loss".',
            )
        if self.needs_bounds and predictive.bounds is None:
            raise InputError(
                f"{name} needs bounds.",
                "It sets components to the smallest and largest values that the data can take.",
                "Give the predictive bounds (br.predictive.from_modules(..., bounds=(0, 1))), or use PGD or Boundary.",
            )
        target, classes = self.target, predictive.out_features
        if target is not None and not isinstance(target, str) and classes is not None and not 0 <= target < classes:
            raise InputError(f"target is {target}.", f"There are {classes} classes, counted from 0.", "Name one of them.")

    # ---- what checks of a result ask of its attack ----------------------------------------------------------------------

    def members(self) -> tuple[Attack, ...]:
        """The attacks that this one runs on the predictive, in order: itself, unless it combines several."""
        return (self,)

    def climbed(self) -> tuple[str, ...]:
        """The objectives whose gradients the attack climbs, each once; empty for attacks without gradients."""
        objectives = (one._setting("objective") for one in self.members() if one.sees == "gradients")
        return tuple(dict.fromkeys(name for name in objectives if isinstance(name, str)))

    def step_sizes(self) -> tuple[float, ...]:
        """The step sizes that were fixed by hand and are used more than once, one for each member that has one."""
        members = [one for one in self.members() if one._setting("steps", 1) > 1]
        sizes = (one._setting("step_size") for one in members)
        return tuple(float(size) for size in sizes if size is not None)

    def iterated(self) -> bool:
        """Whether the attack takes more than one step."""
        return any(one._setting("steps", 1) > 1 for one in self.members())

    def draws_per_step(self, predictive: Predictive) -> int:
        """Number of draws that each step averages, the smallest of all members; 0 if the predictive is never evaluated."""
        if self.sees == "nothing":
            return 0
        return min(one.num_draws or predictive.num_draws for one in self.members())

    def takes_new_draws(self) -> bool:
        """Whether every step of a predictive drawn fresh averages new draws."""
        return all(one.draws == "fresh" for one in self.members())

    # ---- variations -----------------------------------------------------------------------------------------------------

    def changed(self, **settings: Any) -> Attack:
        """The attack with other `settings`; those that it does not have are ignored."""
        known = {field.name for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: value for name, value in settings.items() if name in known})

    def harder(self) -> Attack | None:
        """The attack with twice the steps and twice the restarts; None if it takes no steps."""
        counts = {name: self._setting(name) for name in ("steps", "restarts")}
        doubled: dict[str, Any] = {name: 2 * value for name, value in counts.items() if is_whole(value)}
        return dataclasses.replace(self, **doubled) if "steps" in doubled else None

    def with_radius(self, eps: float) -> Attack | None:
        """The attack in a ball of radius `eps`, a fixed step size in proportion; None if it has no radius."""
        old, step = self._setting("eps"), self._setting("step_size")
        if self.minimal or not old:
            return None
        new: dict[str, Any] = {"eps": eps} if step is None else {"eps": eps, "step_size": step * eps / old}
        return dataclasses.replace(self, **new)

    def _setting(self, name: str, default: Any = None) -> Any:
        """The field `name`, or `default` for an attack without it."""
        return vars(self).get(name, default)

    @property
    def only_accuracy(self) -> bool:
        """Whether a point leaves the attack once it is misclassified, so that accuracy is the only score with a meaning."""
        return self.minimal

    def settings(self) -> dict[str, Any]:
        """Name and fields, for the record of a result; the criterion only where it is not `Misclassified()`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.criterion == Misclassified():
            del fields["criterion"]
        return {"attack": type(self).__name__} | {name: plain(value) for name, value in fields.items()}


def _needs_gradients(name: str, error: Exception) -> InputError:
    """The error for a network that is not differentiable."""
    return InputError(
        f"{name} found no gradient: {error}.",
        "Something between the input and the logits is not differentiable.",
        "Use an attack that only asks for predictions (Square, NES, Boundary), or give that step a differentiable stand-in: "
        "predictive.Preprocessed(post, function, surrogate).",
    )
