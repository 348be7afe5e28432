"""Classes on curves and surfaces whose tangents are known: concentric spheres, and moons without noise."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import number, whole
from bayesrob.data.dataset import Dataset
from bayesrob.data.subsets import checked_counts
from bayesrob.data.truth import Truth

__all__ = ["Moons", "Sphere", "moons", "sphere"]


def sphere(
    n_train: int = 2000, n_test: int = 2000, seed: int = 0, *, d: int = 2, extra: int = 0, radius: float = 1.3
) -> Dataset:
    """Draw points uniformly from two concentric spheres in R^d, of radius 1 (class 0) and `radius` (class 1).

    The inputs are `[n, d + extra]` without bounds. Source: Gilmer et al. 2018, "Adversarial spheres",
    https://arxiv.org/abs/1801.02774 (there d = 500). The data's codimension is 1 + extra: `extra` further components are 0
    at every point, so that the codimension can grow while the problem stays the same.

    Args:
        n_train: number of training points, of each class with probability 1/2.
        n_test: number of test points, of each class with probability 1/2.
        seed: seed of the points and labels.
        d: number of dimensions that the spheres span, at least 2 (the default, because it can be drawn).
        extra: number of further components that are always 0.
        radius: radius of the outer sphere, above 1 (1.3, as in the paper).

    Raises:
        InputError: a count below 1, d below 2, extra below 0, or a radius that is not finite and above 1.

    Example:
        >>> spheres = br.data.load("sphere", n_train=20, n_test=5, d=3, extra=1)
        >>> spheres.shape, spheres.normal_basis(spheres.x_test).shape
        ((4,), torch.Size([5, 2, 4]))
    """
    n_train, n_test = checked_counts(n_train, n_test)
    d = whole("d", d, "Spheres in R^1 are pairs of points, which have no tangent.", least=2)
    extra = whole("extra", extra, "It counts components that are always 0.", least=0)
    radius = number("radius", radius, "It is the radius of the outer sphere; the inner one has 1.", above=1)
    generator = rng.generator(seed, "data", "sphere")
    parts = []
    for count in (n_train, n_test):
        y = torch.randint(2, (count,), generator=generator)
        direction = torch.nn.functional.normalize(torch.randn(count, d, generator=generator, dtype=torch.float64))
        x = direction * (1 + (radius - 1) * y[:, None].double())
        parts += [torch.nn.functional.pad(x, (0, extra)).float(), y]
    return Dataset("sphere", *parts, bounds=None, num_classes=2, truth=Sphere(d, extra, radius))


def moons(n_train: int = 2000, n_test: int = 500, seed: int = 0) -> Dataset:
    """Draw two interleaving half circles of radius 1, without noise: x `[n, 2]`, two classes, no bounds.

    Class 0 is (cos t, sin t), class 1 is (1 - cos t, 1/2 - sin t), with t uniform in [0, pi]. This is the shape of
    `half_moons`, which adds noise and scales its axes by the points that it drew, so that its manifold is not known.

    Args:
        n_train: number of training points, of each class with probability 1/2.
        n_test: number of test points, of each class with probability 1/2.
        seed: seed of the points and labels.

    Raises:
        InputError: a count below 1.

    Example:
        >>> arcs = br.data.load("moons", n_train=20, n_test=5)
        >>> bool(arcs.supports(arcs.x_test, arcs.y_test).all())
        True
    """
    n_train, n_test = checked_counts(n_train, n_test)
    generator = rng.generator(seed, "data", "moons")
    parts = []
    for count in (n_train, n_test):
        y = torch.randint(2, (count,), generator=generator)
        angle = math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        upper = torch.stack([angle.cos(), angle.sin()], dim=1)
        parts += [torch.where(y[:, None] == 0, upper, _rotated(upper)).float(), y]
    return Dataset("moons", *parts, bounds=None, num_classes=2, truth=Moons())


@dataclasses.dataclass(frozen=True)
class Sphere(Truth):
    """The distribution of `sphere`, whose support is two spheres, one for each class.

    Args:
        d: number of dimensions that the spheres span.
        extra: number of further components that are always 0.
        radius: radius of the outer sphere; the inner one has radius 1.
    """

    d: int
    extra: int
    radius: float

    def conditional(self, x: Tensor) -> Tensor:
        outer = self._outer(self._length(x)).squeeze(1)
        return torch.stack([~outer, outer], dim=1).double()

    def project(self, x: Tensor) -> Tensor:
        """Move x along the ray from the centre to the nearer sphere (a tie to the inner one), the centre to (1, 0, ...)."""
        length = self._length(x)
        first = torch.zeros_like(x[:, : self.d], dtype=torch.float64)
        first[:, 0] = 1
        ray = torch.where(length > 0, x[:, : self.d].double() / length, first)
        nearest = ray * (1 + (self.radius - 1) * self._outer(length).double())
        return torch.nn.functional.pad(nearest, (0, self.extra)).to(x.dtype)

    def normal_basis(self, x: Tensor) -> Tensor:
        """Return the direction from the centre, and each of the extra axes."""
        basis = x.new_zeros(len(x), 1 + self.extra, x.shape[1], dtype=torch.float64)
        basis[:, 0, : self.d] = x[:, : self.d].double() / self._length(x)
        axes = torch.arange(self.extra, device=x.device)
        basis[:, 1 + axes, self.d + axes] = 1
        return basis

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """1 where a threshold on the distance from the centre is safe, 1/2 where x and radius x can always meet.

        In l_2 both happen at eps = (radius - 1) / 2. In l_inf a ball reaches sqrt(d) eps in l_2, while x and radius x are
        at most radius - 1 apart: between these two radii the answer is not known.
        """
        if norm not in ("l_2", "l_inf"):
            return None
        half = (self.radius - 1) / 2
        if eps * (math.sqrt(self.d) if norm == "l_inf" else 1) < half:
            return 1.0
        return 0.5 if eps >= half else None

    def _length(self, x: Tensor) -> Tensor:
        return x[:, : self.d].double().norm(dim=1, keepdim=True)

    def _outer(self, length: Tensor) -> Tensor:
        return length - 1 > (self.radius - length).abs()


@dataclasses.dataclass(frozen=True)
class Moons(Truth):
    """The distribution of `moons`, whose support is two arcs, one for each class."""

    def conditional(self, x: Tensor) -> Tensor:
        lower = self._nearest(x)[1]
        return torch.stack([~lower, lower], dim=1).double()

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest point of both arcs; a tie goes to class 0, the centre of an arc's circle to one of its ends."""
        return self._nearest(x)[0].to(x.dtype)

    def normal_basis(self, x: Tensor) -> Tensor:
        """Return the direction from the centre of the arc's circle."""
        nearest, lower = self._nearest(x)
        return torch.where(lower[:, None], _rotated(nearest), nearest)[:, None]

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """1 while the balls around the two arcs are disjoint: the arcs are 1/2 apart in l_2."""
        return 1.0 if norm == "l_2" and eps < 0.25 else None

    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest points in float64, and whether they are on the lower arc."""
        x = x.double()
        upper, lower = _on_upper(x), _rotated(_on_upper(_rotated(x)))
        nearer = (x - lower).norm(dim=1) < (x - upper).norm(dim=1)
        return torch.where(nearer[:, None], lower, upper), nearer


def _rotated(x: Tensor) -> Tensor:
    """Rotate by 180 degrees about (1/2, 1/4), which maps each arc to the other."""
    return x.new_tensor([1.0, 0.5]) - x


def _on_upper(x: Tensor) -> Tensor:
    """Return the nearest point of (cos t, sin t), t in [0, pi]: along the ray, or below the x axis the nearer end."""
    right = torch.where(x[:, :1] >= 0, 1.0, -1.0).to(x)
    end = torch.cat([right, torch.zeros_like(right)], dim=1)
    length = x.norm(dim=1, keepdim=True)
    return torch.where((x[:, 1:] >= 0) & (length > 0), x / length.where(length > 0, 1.0), end)
