"""What a chain adapts in its warm-up: the leapfrog step and a diagonal mass matrix, as explicit states."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bayesrob.inference.chains.saving import savable

__all__ = ["DualAveraging", "RunningVariance", "StepSizeSearch", "mass_windows"]


@savable
@dataclasses.dataclass
class DualAveraging:
    """Adapts one chain's step size towards a target acceptance (Hoffman & Gelman 2014, section 3.2.1, their constants).

    Args:
        step_size: the step to use next; at the beginning the one from which adaptation starts.
        target_accept: the acceptance rate that it aims at.
        mu: the logarithm that steps are drawn towards; None: that of ten times the first step.
        count: transitions seen.
        error: the running mean of target minus acceptance.
        log_average: the running mean of the logarithm of the step.
    """

    step_size: float
    target_accept: float
    mu: float | None = None
    count: int = 0
    error: float = 0.0
    log_average: float = 0.0

    def __post_init__(self) -> None:
        self.mu = math.log(10 * self.step_size) if self.mu is None else self.mu

    def update(self, acceptance: float) -> None:
        """Take the acceptance rate of one transition into account."""
        assert self.mu is not None
        self.count += 1
        self.error += (self.target_accept - acceptance - self.error) / (self.count + 10)
        log_step = self.mu - math.sqrt(self.count) / 0.05 * self.error
        weight = self.count**-0.75
        self.log_average = weight * log_step + (1 - weight) * self.log_average
        self.step_size = math.exp(log_step)

    @property
    def final(self) -> float:
        """The averaged step size, for use once adaptation ends."""
        return math.exp(self.log_average) if self.count else self.step_size


@savable
@dataclasses.dataclass
class StepSizeSearch:
    """Doubles or halves the step until one step's acceptance crosses one half (Hoffman & Gelman 2014, algorithm 4).

    Args:
        step_size: the step to try next.
        momentum: the momentum `[weight]` of every try; None until it is drawn.
        energy: the energy before the step.
        direction: 1 if steps are doubled, -1 if they are halved, 0 before the first try.
        trials: how often the step was changed, 50 times at most.
    """

    step_size: float
    momentum: Tensor | None = None
    energy: float = 0.0
    direction: int = 0
    trials: int = 0

    def receive(self, energy: float) -> bool:
        """Take the energy after a step of `step_size`; returns whether the search is over."""
        change = self.energy - energy
        log_acceptance = change if math.isfinite(change) else -math.inf
        if self.direction == 0:
            self.direction = 1 if log_acceptance > math.log(0.5) else -1
            return False
        if self.direction * log_acceptance <= self.direction * math.log(0.5):
            return True
        self.step_size *= 2.0**self.direction
        self.trials += 1
        return self.trials == 50


@savable
@dataclasses.dataclass
class RunningVariance:
    """Welford's variance of every weight of every chain, shrunk towards 1e-3 as in Stan.

    Args:
        count: draws seen of each chain.
        mean: their mean, `[chain, weight]`.
        squares: the sum of their squared distances from the mean, `[chain, weight]`.
    """

    count: list[int]
    mean: Tensor
    squares: Tensor

    @classmethod
    def like(cls, theta: Tensor) -> RunningVariance:
        """The variance of chains `[chain, weight]` of which no draw has been seen."""
        return cls([0] * len(theta), torch.zeros_like(theta), torch.zeros_like(theta))

    def update(self, chains: list[int], theta: Tensor) -> None:
        """Take one more draw `[chain, weight]` of each of `chains`, given in rising order."""
        for chain in chains:
            self.count[chain] += 1
        everyone = len(chains) == len(self.count)
        mean, squares = (self.mean, self.squares) if everyone else (self.mean[chains], self.squares[chains])
        delta = theta - mean
        mean += delta / _column([self.count[chain] for chain in chains], theta)
        squares += delta * (theta - mean)
        if not everyone:
            self.mean[chains], self.squares[chains] = mean, squares

    def take(self, chains: list[int]) -> Tensor:
        """The shrunk variance `[chain, weight]` of each of `chains`, which then begin anew."""
        counts = [self.count[chain] for chain in chains]
        variance = self.squares[chains] / _column([n - 1 for n in counts], self.mean)
        variance *= _column([n / (n + 5) for n in counts], self.mean)
        variance += _column([1e-3 * 5 / (n + 5) for n in counts], self.mean)
        self.mean[chains], self.squares[chains] = 0, 0
        for chain in chains:
            self.count[chain] = 0
        return variance


def mass_windows(warmup: int) -> list[tuple[int, int]]:
    """Stan's schedule: 15% to find the posterior, then windows of doubling length, then 10% for the step size alone."""
    start, end = int(0.15 * warmup), int(0.9 * warmup)
    windows, size = [], 25
    while start < end:
        stop = end if start + 3 * size > end else start + size
        if stop - start >= 5:
            windows.append((start, stop))
        start, size = stop, 2 * size
    return windows


def _column(values: list[float], like: Tensor) -> Tensor | float:
    """One number for each chain `[chain, 1]`, or the number itself if it is the same for all."""
    return values[0] if values.count(values[0]) == len(values) else like.new_tensor(values).unsqueeze(-1)
