"""Sweeps over thousands of settings: a grid, a plan that trains nothing twice, and runs that resume and scale out.

A `Grid` makes `Cell`s, one for each setting. `plan` groups the cells that can be scored in the course of one training run.
`run` trains and scores the cells whose results are missing. `status` and `collect` read the folder of results.
"""

from bayesrob.sweeps.cell import Cell
from bayesrob.sweeps.collect import collect
from bayesrob.sweeps.engine import Status, run, status
from bayesrob.sweeps.estimate import estimate
from bayesrob.sweeps.grid import Grid
from bayesrob.sweeps.local_dask import local_dask
from bayesrob.sweeps.plan import Plan, Run, plan

__all__ = ["Cell", "Grid", "Plan", "Run", "Status", "collect", "estimate", "local_dask", "plan", "run", "status"]
