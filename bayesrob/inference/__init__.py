"""Ways to a Predictive: one file per method, each a frozen dataclass with `.fit(model_or_net, dataset, seed=0)`."""

from bayesrob.inference.base import Inference
from bayesrob.inference.fit_once import fit_once
from bayesrob.inference.hmc import HMC
from bayesrob.inference.nuts import NUTS
from bayesrob.inference.sdr import SDR
from bayesrob.inference.sgd import SGD
from bayesrob.inference.svi import SVI

METHODS: dict[str, type[Inference]] = {"HMC": HMC, "NUTS": NUTS, "SDR": SDR, "SGD": SGD, "SVI": SVI}

__all__ = ["HMC", "METHODS", "NUTS", "SDR", "SGD", "SVI", "Inference", "fit_once"]
