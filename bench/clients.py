"""SQL clients that repeat one statement: pgbench where there is one, else connections of our own.

`python -m bench.clients DSN CLIENTS SECONDS STATEMENT` is that process. pgbench is preferred, because its
own CPU is nearly nothing, and what is compared are statements, not clients.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import trio

from bench.context import environment
from bench.registry import CheckFailed
from hotpath import asyncpg_trio

_PLACES = ("/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt")


@attrs.frozen
class Ran:
    """What the clients did together."""

    statements: int
    seconds: float
    tool: str

    @property
    def per_second(self) -> float:
        """Statements a second, each its own transaction."""
        return self.statements / self.seconds


def find_pgbench() -> str | None:
    """The newest pgbench of this machine."""
    if found := shutil.which("pgbench"):
        return found
    installed = sorted(path for place in _PLACES for path in Path(place).glob("*/bin/pgbench"))
    return str(installed[-1]) if installed else None


async def run_clients(url: str, statement: str, clients: int, seconds: float) -> Ran:
    """Repeat `statement`, with a random number in place of `{n}`, from that many clients for that long."""
    pgbench = find_pgbench()
    if pgbench is not None:
        return await _with_pgbench(pgbench, url, statement, clients, seconds)
    command = [sys.executable, "-m", "bench.clients", url, str(clients), str(seconds), statement]
    done = await trio.run_process(command, env=environment(url), capture_stdout=True)
    said = json.loads(done.stdout)
    return Ran(said["statements"], said["seconds"], "own clients")


async def _with_pgbench(pgbench: str, url: str, statement: str, clients: int, seconds: float) -> Ran:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    env = {
        **environment(url),
        "PGHOST": query.get("host", [parts.hostname or "localhost"])[0],
        "PGPORT": query.get("port", [str(parts.port or 5432)])[0],
        "PGUSER": unquote(parts.username or "postgres"),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path[1:],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("\\set n random(1, 1000000)\n" + statement.format(n=":n") + ";\n")
        script.flush()
        command = [pgbench, "-n", "-M", "prepared", "-f", script.name, "-c", str(clients), "-j", "1"]
        command += ["-T", str(max(1, round(seconds)))]
        done = await trio.run_process(command, env=env, capture_stdout=True, capture_stderr=True, check=False)
    text = done.stdout.decode(errors="replace")
    count = re.search(r"transactions actually processed: (\d+)", text)
    rate = re.search(r"tps = ([\d.]+) \(without", text)
    failed = re.search(r"failed transactions: ([1-9]\d*)", text)
    if done.returncode or count is None or rate is None or failed:
        raise CheckFailed(f"pgbench failed: {done.stderr.decode(errors='replace').strip() or text}")
    return Ran(int(count[1]), int(count[1]) / float(rate[1]), "pgbench")


async def _client(dsn: str, statement: str, until: float, counts: list[int]) -> None:
    connection = await asyncpg_trio.connect(dsn)
    prepared = await connection.prepare(statement)
    count = 0
    while time.perf_counter() < until:
        await prepared.fetchval(count)
        count += 1
    counts.append(count)
    await connection.close()


async def main(dsn: str, clients: int, seconds: float, statement: str) -> None:
    """Be the clients, and print what they did."""
    counts: list[int] = []
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(_client, dsn, statement.format(n="$1"), began + seconds, counts)
    json.dump({"statements": sum(counts), "seconds": time.perf_counter() - began}, sys.stdout)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
