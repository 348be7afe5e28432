"""Shapes in annotations are checked in the tests: jaxtyping rewrites bayesrob's functions as they are imported."""

import jaxtyping

jaxtyping.install_import_hook("bayesrob", "beartype.beartype")
