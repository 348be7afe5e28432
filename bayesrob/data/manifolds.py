"""Classes that live on curves and surfaces whose tangents are known: concentric spheres, and moons without noise."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import subsets
from bayesrob.data.dataset import Dataset
from bayesrob.data.truth import Truth, check_number
from bayesrob.errors import InputError

__all__ = ["Moons", "Sphere", "moons", "sphere"]


def sphere(
    n_train: int = 2000, n_test: int = 2000, seed: int = 0, d: int = 2, extra: int = 0, radius: float = 1.3
) -> Dataset:
    """Uniform on two concentric spheres in R^d, radius 1 (class 0) and `radius` (class 1): x `[n, d + extra]`, no bounds.

    Gilmer et al. 2018, "Adversarial spheres", https://arxiv.org/abs/1801.02774 (there d = 500). The data's codimension is
    1 + extra: `extra` further components are 0 at every point, so that it can grow while the problem stays the same.

    Args:
        n_train, n_test: points, of either class with probability 1/2. seed: of points and labels.
        d: dimensions that the spheres span, at least 2. extra: components that are always 0.
        radius: of the outer sphere, above 1; 1.3 is the paper's.

    Raises:
        InputError: a count below 1, d below 2, extra below 0, radius not above 1 or not finite.
    """
    n_train, n_test = subsets.check_count("n_train", n_train), subsets.check_count("n_test", n_test)
    d = subsets.check_count("d", d)
    if d < 2:
        raise InputError(f"d is {d}.", "Spheres in R^1 are pairs of points, without a tangent.", "Pass at least 2.")
    extra = subsets.check_count("extra", extra) if extra != 0 or isinstance(extra, bool) else 0
    radius = check_number("radius", radius, "It is that of the outer sphere; the inner one has 1.", 1.0)
    generator = rng.generator(seed, "data", "sphere")
    parts = []
    for count in (n_train, n_test):
        y = torch.randint(2, (count,), generator=generator)
        direction = torch.nn.functional.normalize(torch.randn(count, d, generator=generator, dtype=torch.float64))
        x = direction * (1 + (radius - 1) * y[:, None].double())
        parts += [torch.nn.functional.pad(x, (0, extra)).float(), y]
    return Dataset("sphere", *parts, bounds=None, num_classes=2, truth=Sphere(d, extra, radius))


def moons(n_train: int = 2000, n_test: int = 500, seed: int = 0) -> Dataset:
    """Two interleaving half circles of radius 1, without noise: x `[n, 2]`, two classes, no bounds.

    Class 0 is (cos t, sin t), class 1 (1 - cos t, 1/2 - sin t), t uniform in [0, pi]: the shape of `half_moons`, which adds
    noise and scales its axes by the points that it drew, so that its manifold is not known.

    Args:
        n_train, n_test: points, of either class with probability 1/2. seed: of points and labels.

    Raises:
        InputError: a count below 1.
    """
    n_train, n_test = subsets.check_count("n_train", n_train), subsets.check_count("n_test", n_test)
    generator = rng.generator(seed, "data", "moons")
    parts = []
    for count in (n_train, n_test):
        y = torch.randint(2, (count,), generator=generator)
        angle = math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        upper = torch.stack([angle.cos(), angle.sin()], dim=1)
        parts += [torch.where(y[:, None] == 0, upper, _turned(upper)).float(), y]
    return Dataset("moons", *parts, bounds=None, num_classes=2, truth=Moons())


@dataclasses.dataclass(frozen=True)
class Sphere(Truth):
    """The distribution of `sphere`: its support, each sphere a class."""

    d: int
    extra: int
    radius: float

    def conditional(self, x: Tensor) -> Tensor:
        outer = self._outer(self._length(x)).squeeze(1)
        return torch.stack([~outer, outer], dim=1).double()

    def project(self, x: Tensor) -> Tensor:
        """Along the ray from the centre, to the nearer sphere (a tie to the inner one); the centre goes to (1, 0, ...)."""
        length = self._length(x)
        first = torch.zeros_like(x[:, : self.d], dtype=torch.float64)
        first[:, 0] = 1
        ray = torch.where(length > 0, x[:, : self.d].double() / length, first)
        nearest = ray * (1 + (self.radius - 1) * self._outer(length).double())
        return torch.nn.functional.pad(nearest, (0, self.extra)).to(x.dtype)

    def normal_basis(self, x: Tensor) -> Tensor:
        """The ray from the centre, and each of the extra axes."""
        basis = x.new_zeros(len(x), 1 + self.extra, x.shape[1], dtype=torch.float64)
        basis[:, 0, : self.d] = x[:, : self.d].double() / self._length(x)
        axes = torch.arange(self.extra, device=x.device)
        basis[:, 1 + axes, self.d + axes] = 1
        return basis

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """1 where a threshold on the distance from the centre is safe, 1/2 where x and radius x can always meet.

        Both radii are (radius - 1) / 2 in l_2. In l_inf a ball reaches sqrt(d) eps in l_2, while x and radius x are at most
        radius - 1 apart: between the two nothing is said.
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
    """The distribution of `moons`: its support, each arc a class."""

    def conditional(self, x: Tensor) -> Tensor:
        lower = self._nearest(x)[1]
        return torch.stack([~lower, lower], dim=1).double()

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of both arcs; a tie goes to class 0, the centre of an arc's circle to one of its ends."""
        return self._nearest(x)[0].to(x.dtype)

    def normal_basis(self, x: Tensor) -> Tensor:
        """The ray from the centre of the arc's circle."""
        nearest, lower = self._nearest(x)
        return torch.where(lower[:, None], _turned(nearest), nearest)[:, None]

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """1 while balls around the two arcs are apart: they are 1/2 from each other in l_2."""
        return 1.0 if norm == "l_2" and eps < 0.25 else None

    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest points in float64, and whether they are on the lower arc."""
        x = x.double()
        upper, lower = _on_upper(x), _turned(_on_upper(_turned(x)))
        nearer = (x - lower).norm(dim=1) < (x - upper).norm(dim=1)
        return torch.where(nearer[:, None], lower, upper), nearer


def _turned(x: Tensor) -> Tensor:
    """Half a turn about (1/2, 1/4), which takes each arc to the other."""
    return x.new_tensor([1.0, 0.5]) - x


def _on_upper(x: Tensor) -> Tensor:
    """The nearest point of (cos t, sin t), t in [0, pi]: along the ray, or below the x axis the nearer end."""
    right = torch.where(x[:, :1] >= 0, 1.0, -1.0).to(x)
    end = torch.cat([right, torch.zeros_like(right)], dim=1)
    length = x.norm(dim=1, keepdim=True)
    return torch.where((x[:, 1:] >= 0) & (length > 0), x / length.where(length > 0, 1.0), end)
