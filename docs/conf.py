"""Sphinx: the how-to pages, the studies' figures, and the API from its docstrings."""

import bayesrob

project = "bayesrob"
author = "The bayesrob developers"
release = bayesrob.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
autodoc_typehints = "description"
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.xref_missing"]
