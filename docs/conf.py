"""The configuration of Sphinx, which renders the pages of this folder and the docstrings of the package."""

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
