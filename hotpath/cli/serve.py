"""`hotpath serve`: the HTTP API, the WebSocket and the page."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.web.options import Network

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:]+\]")


@click.command("serve", context_settings={"auto_envvar_prefix": "HOTPATH_SERVE"})
@click.option(
    "--host", default="127.0.0.1", metavar="ADDRESS", help="Address to bind to; 0.0.0.0: all. [127.0.0.1]"
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, metavar="N", help="Port; 0: any free. [8765]"
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=5.0,
    metavar="S",
    help="Seconds for requests at SIGTERM. [5]",
)
@click.option("--certfile", type=_FILE, metavar="FILE", help="Certificate and its chain (PEM), for TLS.")
@click.option("--keyfile", type=_FILE, metavar="FILE", help="The certificate's key, if not in the same file.")
@click.option("--require-token", is_flag=True, help="Ask for a token on loopback too.")
@click.option("--public-url", metavar="URL", help="Where browsers find it, with a proxy before it.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    envvar="HOTPATH_SERVE_ALLOWED_HOST",
    metavar="NAME",
    help="Name to answer to; may be repeated. [any, with tokens]",
)
@click.option(
    "--trust-forwarded",
    multiple=True,
    metavar="ADDRESS",
    help="Proxy (or 10.0.0.0/8) whose X-Forwarded-* headers are believed; may be repeated. [none]",
)
@click.option("--access-log", is_flag=True, help="Log each request on stderr.")
@click.option("--max-body", default="32M", metavar="SIZE", help="Largest body of a request. [32M]")
@click.option("--max-batch", default="1G", metavar="SIZE", help="Largest body of many jobs. [1G]")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1e6),
    default=500.0,
    metavar="N",
    help="Requests a second for one caller; 0: any. [500]",
)
@click.option(
    "--burst", type=click.IntRange(1, 10**6), default=1000, metavar="N", help="Requests at once. [1000]"
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 10**6),
    default=4096,
    metavar="N",
    help="Connections at a time. [4096]",
)
@common
def command(
    given: Given,
    *,
    host: str,
    port: int,
    grace: float,
    certfile: Path | None,
    keyfile: Path | None,
    require_token: bool,
    public_url: str | None,
    allowed_hosts: tuple[str, ...],
    trust_forwarded: tuple[str, ...],
    access_log: bool,
    max_body: str,
    max_batch: str,
    rate: float,
    burst: int,
    max_connections: int,
) -> int:
    """Serve the HTTP API, the WebSocket and the page until stopped.

    On loopback it is open to this machine. On any other address, or with one of --require-token,
    --public-url, --allowed-host and --trust-forwarded, callers need a token (`hotpath token create`). Each
    option has its environment variable: HOTPATH_SERVE_PORT, HOTPATH_SERVE_PUBLIC_URL, and so on.
    """
    from hotpath.worker.leaving import leave_quietly

    leave_quietly()
    from hotpath.web.options import ServeOptions
    from hotpath.web.serve import serve
    from hotpath.worker.options import parse_size

    if keyfile is not None and certfile is None:
        raise click.UsageError("--keyfile needs its --certfile")
    options = ServeOptions(
        host=host.strip("[]"),
        port=port,
        grace=grace,
        certfile=certfile,
        keyfile=keyfile,
        require_token=require_token,
        public_url=None if public_url is None else _url(public_url),
        allowed_hosts=tuple(_name(name) for name in allowed_hosts),
        trust_forwarded=tuple(_network(text) for text in trust_forwarded),
        access_log=access_log,
        max_body=parse_size(max_body, "--max-body"),
        max_batch=parse_size(max_batch, "--max-batch"),
        rate=rate,
        burst=burst,
        max_connections=max_connections,
    )

    async def run() -> int:
        return await serve(given.config, options, json=given.json)

    return given.run(run)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        good = good and parts.path in ("", "/") and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise click.UsageError(f"--public-url takes an address such as https://hotpath.example, not {text!r}")
    return text


def _name(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise click.UsageError(f"--allowed-host takes a name without scheme and port, not {text!r}")
    return text.lower()


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise click.UsageError(
            f"--trust-forwarded takes an address or a network such as 10.0.0.0/8, not {text!r}"
        ) from None
