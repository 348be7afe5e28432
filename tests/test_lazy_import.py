"""Importing bayesrob costs nothing, and analyses never need torch. In processes of their own: this one has torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bayesrob

BLOCK_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pyro", "torchvision"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_free():
    code = "import bayesrob, sys; print([m for m in ('torch', 'pyro', 'arviz', 'xarray', 'numpy') if m in sys.modules])"
    assert python(code) == "[]"


def test_a_name_imports_its_room():
    code = "import bayesrob as br, sys; br.evaluate, br.load, br.to_datatree, br.Dataset; print('torch' in sys.modules)"
    assert python(code) == "True"


def test_the_block_works():
    assert python(BLOCK_TORCH + "try:\n    import torch\nexcept ImportError as e:\n    print(e)") == "torch is blocked"


def test_analysis_runs_without_torch():
    code = """
import numpy as np, xarray as xr
import bayesrob as br
a = br.analysis
clean = xr.DataArray(np.log([[0.9, 0.1], [0.2, 0.8]]), dims=("point", "class"))
adversarial = xr.DataArray(np.log([[[0.1, 0.9], [0.2, 0.8]]]), dims=("attack", "point", "class"), coords={"attack": ["a"]})
print(float(a.robustness(clean, adversarial, xr.DataArray([0, 1], dims="point")).adversarial_accuracy[0]))
values = xr.DataArray(np.random.default_rng(0).normal(size=(2, 50, 3)), dims=("chain", "draw", "point"))
print(float(a.chain_diagnostics(values, xr.Dataset()).rhat_max) < 1.2)
"""
    assert python(BLOCK_TORCH + code).split() == ["0.5", "True"]


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'bayesrob' has no attribute 'evalute'"):
        _ = bayesrob.evalute


def test_dir_lists_rooms_and_names():
    listed = dir(bayesrob)
    assert listed == sorted(listed)
    assert {"evaluate", "load", "to_datatree", "Dataset", "inference", "analysis", "__version__"} <= set(listed)
