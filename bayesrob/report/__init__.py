"""A results folder, or an audit -> one HTML page."""

from bayesrob.report.audit import render_audit
from bayesrob.report.render import render

__all__ = ["render", "render_audit"]
