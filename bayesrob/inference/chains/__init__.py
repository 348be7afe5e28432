"""Markov chains as explicit states: a sampler is one step on a state that can be saved, and run for many chains at once."""

from bayesrob.inference.chains.leapfrog import DIVERGENT, Phase, Point, draw_momentum, energies, leapfrog, leapfrog_each
from bayesrob.inference.chains.run import ChainRun
from bayesrob.inference.chains.sampler import ChainSampler
from bayesrob.inference.chains.saving import pack, savable, unpack
from bayesrob.inference.chains.state import ChainState
from bayesrob.inference.chains.tree import Trajectory
from bayesrob.inference.chains.warmup import Warmup

__all__ = [
    "DIVERGENT",
    "ChainRun",
    "ChainSampler",
    "ChainState",
    "Phase",
    "Point",
    "Trajectory",
    "Warmup",
    "draw_momentum",
    "energies",
    "leapfrog",
    "leapfrog_each",
    "pack",
    "savable",
    "unpack",
]
