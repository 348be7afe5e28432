"""Peak memory above the weights of PGD-15 over the draws of 784-512-512-10 on 128 images, a process for each way.

python benchmarks/memory.py [--no-peers] [--draws 100 200] [--smoke]

Each process makes the weights, warms up (two draws and one image, so that libraries are loaded and threads exist), reads
how much memory it holds, attacks, and reads the most that it held meanwhile. The peers' modules are views of the same
weights; gradients of weights that a library computes count, as they are the attack's own. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from by_hand import hand_pgd
from problems import fast_route, held_draws, name_of, points
from timing import header, options

import bayesrob as br

EPS, STEPS = 0.1, 15
OURS = ("bayesrob", "bayesrob, predictive_loss", "by hand, 5 draws at once", "by hand, 5 draws at once, fast route")
PEERS = tuple(f"{library}{frozen}" for library in ("foolbox", "art", "torchattacks") for frozen in ("", ", weights frozen"))
PAGES = resource.getpagesize()


def make(way: str, post: br.predictive.HeldDraws, sizes: tuple[int, ...], images: int) -> Callable[[], object]:
    """The attack, ready to run."""
    x, y = points(sizes, images)
    if way.startswith("bayesrob"):
        objective = "predictive_loss" if way.endswith("predictive_loss") else "expected_loss"
        attack = br.attacks.PGD(eps=EPS, steps=STEPS, random_start=False, objective=objective)
        return lambda: attack(post, x, y)
    if way.startswith("by hand"):
        route = fast_route(post.net) if way.endswith("fast route") else None

        def by_hand() -> object:
            if route is None:
                return hand_pgd(list(post.weights.values()), x, y, EPS, STEPS, 5)
            with route[1]:
                return hand_pgd(list(post.weights.values()), x, y, EPS, STEPS, 5)

        return by_hand
    library, _, rest = way.partition(",")
    return getattr(importlib.import_module("peers.attacks"), library)(post, x, y, EPS, STEPS, frozen=bool(rest))


def held() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGES


def child(way: str, draws: int, sizes: tuple[int, ...], images: int) -> None:
    """Print the peak above the base in MiB."""
    make(way, held_draws(sizes, 2), sizes, 1)()
    post = held_draws(sizes, draws)
    attack = make(way, post, sizes, images)
    gc.collect()
    base = held()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: making weights had its own
    except OSError:  # not allowed here: then the peak is at least that of making the weights
        print("the peak of making the weights is included", file=sys.stderr)
    attack()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    print(f"{max(peak - base, 0) / 2**20:.1f}")


def main() -> None:
    if "--way" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--way")
        parser.add_argument("--count", type=int)
        parser.add_argument("--images", type=int)
        parser.add_argument("--sizes", type=int, nargs="+")
        asked = parser.parse_args()
        child(asked.way, asked.count, tuple(asked.sizes), asked.images)
        return
    settings = options(__doc__, draws={"type": int, "nargs": "+", "default": [100, 200], "metavar": "N"})
    print(header())
    sizes, images = ((20, 64, 10), 16) if settings.smoke else ((784, 512, 512, 10), 128)
    draws = [10, 20] if settings.smoke else settings.draws
    print(f"**Peak memory above the weights, PGD-{STEPS} over draws of {name_of(sizes)}, {images} images, median MiB**\n")
    print(f"| way | {' | '.join(f'{n} draws' for n in draws)} |\n{'| --- ' * (1 + len(draws))}|")
    for way in (*OURS, *(PEERS if settings.peers else ())):
        cells = []
        for count in draws:
            command = [sys.executable, __file__, "--way", way, "--count", str(count), "--images", str(images)]
            command += ["--sizes", *map(str, sizes)]
            found = []
            for _ in range(min(settings.runs, 3)):
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    cells.append("missing: " + (done.stderr.strip().splitlines() or ["it died"])[-1].replace("|", "/")[:150])
                    break
                found.append(float(done.stdout.split()[-1]))
            else:
                cells.append(f"{sorted(found)[len(found) // 2]:.0f}")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)
    print()


if __name__ == "__main__":
    main()
