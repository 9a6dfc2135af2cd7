"""The scenarios; importing this package registers them."""

from bench.scenarios import cpu, drain, enqueue, flat, flows, latency, price, sleep, startup, trouble, workers

__all__ = [
    "cpu",
    "drain",
    "enqueue",
    "flat",
    "flows",
    "latency",
    "price",
    "sleep",
    "startup",
    "trouble",
    "workers",
]
