"""`hotpath serve`: the HTTP API, the WebSocket and the page."""

from __future__ import annotations

import click

from hotpath.cli.options import Given, common


@click.command("serve")
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Address to bind to. [127.0.0.1]")
@click.option("--port", type=int, default=8765, metavar="N", help="Port; 0: any free one. [8765]")
@click.option("--grace", type=float, default=5.0, metavar="S", help="Seconds for requests at SIGTERM. [5]")
@common
def command(given: Given, *, host: str, port: int, grace: float) -> int:
    """Serve the HTTP API, the WebSocket and the page until stopped."""
    from hotpath.web.options import ServeOptions
    from hotpath.web.serve import serve

    async def run() -> int:
        return await serve(given.config, ServeOptions(host=host, port=port, grace=grace), json=given.json)

    return given.run(run)
