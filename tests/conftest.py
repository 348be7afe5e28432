"""Shapes in annotations are checked in the tests, of the modules behind the checks of bad input.

In front of them, a wrong type must reach bayesrob's own error.
"""

import pytest
import torch

from tests import shapes

SHAPED = [
    "bayesrob.attacks.geometry",
    "bayesrob.attacks.projections",
    "bayesrob.attacks.victim",
    "bayesrob.inference.chains.leapfrog",
    "bayesrob.inference.svi",
    "bayesrob.inference.training.batches",
    "bayesrob.inference.training.closed_form",
    "bayesrob.inference.training.delta_rule",
    "bayesrob.inference.variational",
    "bayesrob.models.flat",
    "bayesrob.models.gradient",
    "bayesrob.models.likelihoods",
    "bayesrob.nets.forward",
    "bayesrob.nets.joined",
    "bayesrob.nets.stack",
    "bayesrob.numerics",
    "bayesrob.predictive.fresh",
    "bayesrob.predictive.gaussian",
    "bayesrob.predictive.gradients",
    "bayesrob.predictive.held",
    "bayesrob.predictive.kinds",
    "bayesrob.predictive.masked",
    "bayesrob.predictive.objectives",
    "bayesrob.predictive.standard_error",
    "bayesrob.predictive.weight_function",
]

shapes.install(SHAPED)


def pytest_configure(config: pytest.Config) -> None:
    """With a process for each core, threads would only wait for each other."""
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def shapes_are_checked():
    shapes.begin_again()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What is measured in the tests is not kept among the user's own, and what the user set does not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESROB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("BAYESROB_NUMERICS", raising=False)
        yield
