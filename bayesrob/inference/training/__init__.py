"""Training in minibatches: a `Learner` is what is trained, a `Schedule` says how long, and `train` is the one loop."""

from bayesrob.inference.training.batches import Points
from bayesrob.inference.training.learner import Learner, Wrapped
from bayesrob.inference.training.loop import Loop, Run, Trained, train
from bayesrob.inference.training.method import MiniBatchMethod
from bayesrob.inference.training.schedule import Optimizer, Schedule

__all__ = [
    "Learner",
    "Loop",
    "MiniBatchMethod",
    "Optimizer",
    "Points",
    "Run",
    "Schedule",
    "Trained",
    "Wrapped",
    "train",
]
