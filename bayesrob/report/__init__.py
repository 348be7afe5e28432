"""A results folder -> one HTML page."""

from bayesrob.report.render import render

__all__ = ["render"]
