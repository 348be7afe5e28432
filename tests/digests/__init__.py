"""Digests of public results: `python -m tests.digests`."""
