"""The flow `etl.flow` once more, as code: the same steps, the same report.

    hotpath dedicate etl_code --drain
    hotpath run etl_code -a incoming=incoming -a out=/tmp/orders

Each `hotpath.step` is a job of its own, with its args, its result and its log. A run that is interrupted
begins anew with what its steps have given so far; one that waits for somebody is held by no worker.
"""

from __future__ import annotations

from typing import Any

from orders import all_clean, check_rows, list_files, merge, quarantine, read_file, report
from orders import load as load_orders

import hotpath

FORM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "comment": {"type": "string"}},
    "required": ["name"],
}
WEEK = 7 * 24 * 3600


@hotpath.task(retry=hotpath.Retry(attempts=6, delay=0.1))
def load(out: str, orders: list[dict[str, Any]], flaky: int) -> dict[str, Any]:
    """Into the database, which somebody else may have locked: the first `flaky` times, somebody has."""
    return load_orders(out, orders, locked=hotpath.current_job().attempt <= flaky)


async def one_file(incoming: str, name: str) -> dict[str, Any]:
    """A file that cannot be read holds up no other."""
    try:
        read = await hotpath.step(read_file, incoming, name)
        return await hotpath.step(check_rows, **read)
    except hotpath.StepFailed as failed:
        return {"error": failed.error}


async def main(incoming: str, out: str, limit_eur: float = 10_000, flaky: int = 0) -> dict[str, Any]:
    """Read the CSV files in `incoming`, set aside what is broken, load the rest, publish the numbers."""
    files = await hotpath.step(list_files, incoming)
    parts = await hotpath.gather(*(one_file(incoming, name) for name in files), limit=8)
    merged = await hotpath.step(merge, files, parts)
    if merged["rejected"] or merged["unreadable"]:
        aside = await hotpath.step(quarantine, out, merged["rejected"], merged["unreadable"])
    else:
        aside = await hotpath.step(all_clean)
    loaded = await hotpath.step(load, out, merged["orders"], flaky)
    approval = None
    if merged["cents"] > limit_eur * 100:
        print(f"The orders come to {merged['cents'] / 100:,.2f} EUR, more than {limit_eur:,.0f}: publish?")
        approval = await hotpath.approval("ask", timeout=WEEK, form=FORM)
    return await hotpath.step(report, out, merged, aside, loaded, approval)
