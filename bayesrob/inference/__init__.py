"""Ways to a Predictive: one file per method, each a frozen dataclass with `.fit(model_or_net, dataset, seed=0)`."""

from bayesrob.inference.adv_bnn import AdvBNN
from bayesrob.inference.adversarial_training import AdversarialTraining
from bayesrob.inference.base import Inference
from bayesrob.inference.defensive_distillation import DefensiveDistillation
from bayesrob.inference.dropconnect import DropConnect
from bayesrob.inference.dropout import MCDropout
from bayesrob.inference.ensemble import Ensemble
from bayesrob.inference.fit_once import fit_once
from bayesrob.inference.hmc import HMC
from bayesrob.inference.nuts import NUTS
from bayesrob.inference.replicates import Replicates
from bayesrob.inference.sdr import SDR
from bayesrob.inference.sgd import SGD
from bayesrob.inference.svi import SVI
from bayesrob.inference.trades import TRADES

METHODS: dict[str, type[Inference]] = {
    method.__name__: method
    for method in (
        HMC,
        NUTS,
        SDR,
        SGD,
        SVI,
        TRADES,
        AdvBNN,
        AdversarialTraining,
        DefensiveDistillation,
        DropConnect,
        Ensemble,
        MCDropout,
    )
}

__all__ = [
    "HMC",
    "METHODS",
    "NUTS",
    "SDR",
    "SGD",
    "SVI",
    "TRADES",
    "AdvBNN",
    "AdversarialTraining",
    "DefensiveDistillation",
    "DropConnect",
    "Ensemble",
    "Inference",
    "MCDropout",
    "Replicates",
    "fit_once",
]
