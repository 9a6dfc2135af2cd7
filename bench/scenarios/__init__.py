"""The scenarios; importing this package registers them."""

from bench.scenarios import (
    cpu,
    drain,
    enqueue,
    flat,
    flow_kill,
    flows,
    latency,
    live,
    price,
    sleep,
    startup,
    trouble,
    workers,
)

__all__ = [
    "cpu",
    "drain",
    "enqueue",
    "flat",
    "flow_kill",
    "flows",
    "latency",
    "live",
    "price",
    "sleep",
    "startup",
    "trouble",
    "workers",
]
