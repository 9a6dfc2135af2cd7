"""Runs of flows in a worker: the runtime, and JavaScript for the expressions that need it."""
