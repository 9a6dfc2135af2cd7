"""Flows without I/O: what a flow is (`model`), how it is read (`parse`), how a run advances (`engine`)."""
