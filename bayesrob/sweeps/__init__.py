"""Thousands of settings: a grid, a plan that trains nothing twice, runs that finish, resume and scale out.

`Grid` makes `Cell`s; `plan` groups those that are beginnings of one run; `run` does what is missing; `status` and `collect`
read the folder.
"""

from bayesrob.sweeps.cell import Cell
from bayesrob.sweeps.collect import collect
from bayesrob.sweeps.engine import Status, run, status
from bayesrob.sweeps.estimate import estimate
from bayesrob.sweeps.grid import Grid
from bayesrob.sweeps.local_dask import local_dask
from bayesrob.sweeps.plan import Plan, Run, plan

__all__ = ["Cell", "Grid", "Plan", "Run", "Status", "collect", "estimate", "local_dask", "plan", "run", "status"]
