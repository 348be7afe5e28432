"""Reports: one HTML page for a folder of results, or for an audit."""

from bayesrob.report.audit import render_audit
from bayesrob.report.render import render

__all__ = ["render", "render_audit"]
