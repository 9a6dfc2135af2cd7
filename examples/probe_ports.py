"""Which of a host's TCP ports accept a connection: an async script, many jobs at a time.

`async` means Trio. Jobs that wait cost little, so one worker process holds a hundred of them, or as many as
`concurrency` says:

    hotpath dedicate probe_ports --concurrency 500
"""

from __future__ import annotations

import trio

import hotpath

hotpath.settings(concurrency=200, tag="network")


async def main(host: str, port: int, wait: float = 2.0) -> dict[str, object]:
    """Try to connect to `host`:`port` for `wait` seconds; say whether it worked, and how many ms it took."""
    began = trio.current_time()
    error = None
    try:
        with trio.fail_after(wait):
            stream = await trio.open_tcp_stream(host, port)
            await stream.aclose()
    except (OSError, trio.TooSlowError) as problem:
        error = type(problem).__name__
        print(f"{host}:{port} did not answer: {error}")
    return {"open": error is None, "error": error, "ms": round((trio.current_time() - began) * 1000, 3)}
