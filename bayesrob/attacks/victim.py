"""A predictive as one attack sees it: on its draws, for its labels, towards its goal. Every model evaluation is counted."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.attacks.goal import DrawMinibatch, Goal
from bayesrob.attacks.surfaces import SURFACES, Average
from bayesrob.errors import BayesrobError
from bayesrob.predictive import HeldDraws, Margin, Objective, Predictive
from bayesrob.types import Batch, Bounds, Labels, Outputs

__all__ = ["Victim", "next_seed"]

Rows = Int[Tensor, " row"] | None
"""Indices of the attacked points that are evaluated; None: all of them, in order."""


class Victim:
    """What `Attack.perturb` attacks: a predictive, and the goal of the attack on it.

    Every method takes perturbed inputs `[row, *shape]`. They are those of all attacked points, or of the points `rows`.

    Args:
        predictive: the model under attack.
        goal: target, success criterion and draws of the attack.
        x: clean inputs, `[batch, *shape]`.
        y: their true labels, `[batch]`; with target "given", the classes to move towards.
        generator: random generator of the attack, on the CPU.
    """

    def __init__(self, predictive: Predictive, goal: Goal, x: Batch, y: Labels, generator: torch.Generator):
        self.predictive = predictive
        self.bounds: Bounds | None = predictive.bounds
        self.classifies = predictive.likelihood.name == "categorical"
        self.num_draws = goal.num_draws
        self.criterion = goal.criterion
        self._fresh = goal.draws == "fresh"
        self._generator = generator
        self._parts: dict[int, HeldDraws] = {}
        self._seed, self._judge_seed = next_seed(generator), next_seed(generator)
        self.x = x
        self.queries = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        """Number of posterior predictions that were made at each point."""
        self.gradients = torch.zeros_like(self.queries)
        """Number of gradients that were taken at each point; their forward passes do not count as queries."""
        self.targeted = goal.target is not None
        self.true = y
        self.y: Labels = self._targets(x, y, goal.target) if goal.target is not None else y
        """The classes that the attack moves away from, or those that a targeted attack moves towards."""

    @property
    def num_classes(self) -> int:
        """Number of classes of the predictive."""
        assert self.predictive.out_features is not None
        return self.predictive.out_features

    # ---- model evaluations ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, z: Batch, rows: Rows = None, judge: bool = False) -> Outputs:
        """Log posterior predictive probabilities, `[row, class]`, at the cost of one query a point.

        Args:
            z: perturbed inputs.
            rows: indices of their points.
            judge: use the fixed set of draws that decides about success, the same each time also where draws are fresh.
        """
        self._count(self.queries, rows)
        with torch.no_grad():
            return _known(self.predictive(z, self.num_draws, self._judge_seed if judge else self.next_seed()))

    def loss(self, z: Batch, objective: str, rows: Rows = None) -> Float[Tensor, " row"]:
        """The objective, higher where the attack is nearer to its goal, on the draws that decide about success.

        It costs one query a point.

        Args:
            z: perturbed inputs.
            objective: name of the objective, see `predictive.objectives`.
            rows: indices of their points.
        """
        self._count(self.queries, rows)
        value = self.predictive.objective_value(z, self._labels(rows), objective, self.num_draws, self._judge_seed)
        value = _known(value)
        return -value if self.targeted else value

    def gradient(
        self,
        z: Batch,
        objective: str | Objective,
        rows: Rows = None,
        *,
        minibatch: DrawMinibatch | None = None,
        precision: str = "full",
        scaled: bool = False,
    ) -> Batch:
        """The direction in which the attack gains most: the objective's gradient, or minus it towards a target class.

        Args:
            z: perturbed inputs.
            objective: name of the objective, or one of the attack's own.
            rows: indices of their points.
            minibatch: the draws that are averaged; None for all.
            precision: of the matrix products: "full", "bf16" or "tf32".
            scaled: True for steps that do not see a positive factor of each point's own: a direction is not lost then,
                however small the gradient. See `Predictive.input_gradient`.
        """
        self._count(self.gradients, rows)
        y, (post, draws) = self._labels(rows), self._draws(minibatch)
        gradient = _known(post.input_gradient(z, y, objective, draws, self.next_seed(), precision=precision, scaled=scaled))
        return gradient.neg_() if self.targeted else gradient

    def gradient_and_prediction(
        self,
        z: Batch,
        objective: str | Objective,
        rows: Rows = None,
        *,
        minibatch: DrawMinibatch | None = None,
        precision: str = "full",
        scaled: bool = False,
    ) -> tuple[Batch, Outputs, Float[Tensor, " row"]]:
        """The `gradient`, the log predictive and the objective (higher is nearer to the goal), from one forward pass.

        The sign of an `Objective` of the attack's own is never turned, because it contains the target already.

        Args:
            z: perturbed inputs.
            objective: name of the objective, or one of the attack's own.
            rows: indices of their points.
            minibatch: the draws that are averaged; None for all.
            precision: of the matrix products: "full", "bf16" or "tf32".
            scaled: as in `gradient`.
        """
        self._count(self.gradients, rows)
        y, (post, draws) = self._labels(rows), self._draws(minibatch)
        gradient, log_predictive, value = post.gradient_and_prediction(
            z, y, objective, draws, self.next_seed(), precision=precision, scaled=scaled
        )
        gradient, log_predictive = _known(gradient), _known(log_predictive)
        if self.targeted and isinstance(objective, str):
            return gradient.neg_(), log_predictive, -value
        return gradient, log_predictive, value

    def jacobian(
        self, z: Batch, classes: Int[Tensor, "row k"], rows: Rows = None, average: Average = "probabilities"
    ) -> tuple[Tensor, Float[Tensor, "row k"], Outputs]:
        """Gradients `[row, k, *shape]` and values of the scores of `classes`, and the log predictive.

        It costs k gradients a point, which are taken in one batch of k times as many points.

        Args:
            z: perturbed inputs.
            classes: the classes whose scores are differentiated.
            rows: indices of their points.
            average: what the scores average over draws, see `SURFACES`.
        """
        rows = torch.arange(len(z), device=z.device) if rows is None else rows
        k = classes.shape[1]
        weights = z.new_zeros(len(z) * k, self.num_classes).scatter_(1, classes.reshape(-1, 1), 1.0)
        seed = self.next_seed()
        self.gradients[rows] += k
        surface = SURFACES[average](weights)
        gradient, log_predictive, value = self.predictive.gradient_and_prediction(
            z.repeat_interleave(k, 0), self._labels(rows).repeat_interleave(k), surface, self.num_draws, seed
        )
        return _known(gradient).unflatten(0, (-1, k)), value.view(-1, k), _known(log_predictive[::k])

    # ---- success --------------------------------------------------------------------------------------------------------

    def fooled(self, z: Batch, rows: Rows = None) -> Bool[Tensor, " row"]:
        """Whether each point meets the attack's criterion, on the draws that decide about success; never so in regression.

        It costs one query a point.
        """
        if not self.classifies:
            return torch.zeros(len(z), dtype=torch.bool, device=z.device)
        return self.judged(self.predict(z, rows, judge=True), z, rows)

    def judged(self, log_predictive: Outputs, z: Batch, rows: Rows = None) -> Bool[Tensor, " row"]:
        """Whether the prediction `log_predictive` at `z` meets the attack's criterion."""
        true = self.true if rows is None else self.true[rows]
        return self.criterion(log_predictive, self._labels(rows), z, targeted=self.targeted, true=true)

    def gain(self, log_predictive: Outputs, rows: Rows = None) -> Float[Tensor, " row"]:
        """How near a prediction is to the goal: the target's log probability, or without a target the margin."""
        y = self._labels(rows)
        if self.targeted:
            return log_predictive.gather(1, y.unsqueeze(1)).squeeze(1)
        return self.margin(log_predictive, rows)

    def margin(self, log_predictive: Outputs, rows: Rows = None) -> Float[Tensor, " row"]:
        """By how much a prediction leads towards the goal, in log probability."""
        margin = Margin().loss(log_predictive, self._labels(rows))
        return -margin if self.targeted else margin

    # ---- helpers --------------------------------------------------------------------------------------------------------

    def _targets(self, x: Batch, y: Labels, target: int | str) -> Labels:
        if target == "given":
            return y
        if target == "random":
            shift = torch.randint(1, self.num_classes, (len(y),), generator=self._generator).to(y)
            return (y + shift) % self.num_classes
        if not isinstance(target, str):
            return torch.full_like(y, int(target))
        log_predictive = self.predict(x, judge=True)
        sign = 1.0 if target == "most_likely" else -1.0
        return (sign * log_predictive).scatter(1, y.unsqueeze(1), -torch.inf).argmax(1)

    def _draws(self, minibatch: DrawMinibatch | None) -> tuple[Predictive, int | None]:
        """The predictive that is evaluated, and how many of its draws."""
        post, all_draws = self.predictive, self.num_draws or self.predictive.num_draws
        if minibatch is None or minibatch.size >= all_draws:
            return post, self.num_draws
        size = minibatch.size
        if not isinstance(post, HeldDraws):
            return post, size
        start = minibatch.step % (all_draws // size) * size
        if start not in self._parts:
            self._parts[start] = post[start : start + size]
        return self._parts[start], size

    def _labels(self, rows: Rows) -> Labels:
        return self.y if rows is None else self.y[rows]

    def _count(self, counter: Tensor, rows: Rows) -> None:
        if rows is None:
            counter += 1
        else:  # the same point may occur several times
            counter.index_add_(0, rows, torch.ones_like(rows))

    def next_seed(self) -> int:
        """Seed for the draws of the next model evaluation."""
        return next_seed(self._generator) if self._fresh else self._seed


def _known(values: Tensor) -> Tensor:
    """`values`, unless they hold NaNs: comparisons with those are all false, and their points would look robust."""
    if bool(values.sum().isnan()):
        lost = int(values.isnan().flatten(1).any(1).sum()) if values.ndim > 1 else int(values.isnan().sum())
        if lost:
            raise BayesrobError(
                f"The model puts out NaN, or has a gradient of NaN, at {lost} of {len(values)} points.",
                "Calling these points robust would be wrong.",
                "Check the weights and logits for overflow.",
            )
    return values


def next_seed(generator: torch.Generator) -> int:
    """A seed for fresh draws of a Predictive."""
    return int(torch.randint(2**62, (), generator=generator))
