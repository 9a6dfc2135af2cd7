"""Ways to say where and who, and what is said when it is wrong."""

from __future__ import annotations

import gc
import socket
import traceback
from pathlib import Path

import asyncpg
import pytest
import trio

from hotpath import asyncpg_trio
from hotpath.asyncpg_trio import _seam
from hotpath.asyncpg_trio._options import read_options


async def test_unix_and_tcp(connection):
    """A connection by either transport runs queries and knows its backend."""
    assert await connection.fetchval("select pg_backend_pid()") == connection.get_server_pid()
    assert connection.get_server_version().major >= 14
    assert connection.get_settings().server_version == await connection.fetchval("show server_version")
    assert not connection.is_closed()


async def test_ipv6(cluster, connect):
    """An IPv6 address in brackets works in a URL."""
    connection = await connect(f"postgresql://postgres@[::1]:{cluster.port}/postgres")
    assert str(await connection.fetchval("select inet_client_addr()")) == "::1"


@pytest.mark.parametrize("user", ["scram_user", "md5_user", "plain_user"])
async def test_passwords(cluster, connect, user):
    """Each password method lets the right password in and refuses the wrong one, without repeating it."""
    url = f"postgresql://{user}@127.0.0.1:{cluster.port}/postgres"
    connection = await connect(url, password="right")
    assert await connection.fetchval("select current_user") == user
    with pytest.raises(asyncpg.InvalidPasswordError) as caught:
        await connect(url, password="wr0ng-secret")
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
    assert "wr0ng-secret" not in shown.replace('password="wr0ng-secret"', "")


async def test_password_is_asked_for_when_needed(cluster, connect):
    """A password may be a function, sync or async."""
    url = f"postgresql://scram_user@127.0.0.1:{cluster.port}/postgres"

    async def ask() -> str:
        await trio.lowlevel.checkpoint()
        return "right"

    assert await (await connect(url, password=lambda: "right")).fetchval("select 1") == 1
    assert await (await connect(url, password=ask)).fetchval("select 1") == 1


async def test_passfile_and_environment(cluster, connect, tmp_path: Path, monkeypatch):
    """A password file and the PG* variables are read as libpq reads them."""
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:{cluster.port}:*:scram_user:right\n")
    passfile.chmod(0o600)
    url = f"postgresql://scram_user@127.0.0.1:{cluster.port}/postgres"
    assert await (await connect(url, passfile=str(passfile))).fetchval("select 1") == 1
    for name, value in {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(cluster.port),
        "PGUSER": "scram_user",
        "PGPASSWORD": "right",
        "PGDATABASE": "postgres",
    }.items():
        monkeypatch.setenv(name, value)
    connection = await asyncpg_trio.connect()
    assert await connection.fetchval("select current_user") == "scram_user"
    await connection.close()


async def test_socket_options(cluster, connect):
    """TCP connections have no delay and keep-alive; libpq's options set the rest, by argument or URL."""
    url = cluster.dsn(host="127.0.0.1") + "&keepalives_idle=33&connect_timeout=10"
    connection = await connect(url, tcp_user_timeout=7000)
    sock = connection._session.wire.sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


async def test_server_settings(cluster, connect):
    """Settings come from the argument and from what the URL has besides libpq's own names."""
    connection = await connect(
        cluster.dsn() + "&application_name=from_url", server_settings={"work_mem": "5MB"}
    )
    assert await connection.fetchval("show application_name") == "from_url"
    assert await connection.fetchval("show work_mem") == "5MB"


async def test_connection_refused(cluster):
    """Where nobody listens, an OSError says so and names each host that was tried."""
    with pytest.raises(OSError) as caught:
        await asyncpg_trio.connect("postgresql://x@127.0.0.1:1,127.0.0.1:2/x")
    notes = "\n".join(caught.value.__notes__)
    assert "127.0.0.1:1" in notes
    assert "while connecting to" in notes


async def test_no_such_database(cluster):
    """The server's refusal is asyncpg's exception for its SQLSTATE."""
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg_trio.connect(cluster.dsn(database="nope"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr/et@localhost/db",
        "postgresql://u:s3cret@localhost:x/db?sslmode=never",
        "mysql://u:s3cret@localhost/db",
        "postgresql://u:s3cret@localhost/db?keepalives_idle=soon",
    ],
)
async def test_bad_urls_do_not_show_passwords(url):
    """A URL that makes no sense is refused as a configuration error, without a piece of the password."""
    with pytest.raises(asyncpg.exceptions.ClientConfigurationError) as caught:
        await asyncpg_trio.connect(url)
    assert "s3cr" not in str(caught.value)


def test_options_do_not_show_passwords():
    """The text of the options shows neither the password nor what may contain it."""
    assert "s3cret" not in repr(read_options("postgresql://u:s3cret@localhost/db", {}))


async def test_first_host_that_answers(cluster, connect):
    """Hosts are tried in turn."""
    connection = await connect(f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{cluster.port}/postgres")
    assert await connection.fetchval("select 1") == 1


async def test_connect_timeout_is_per_host(cluster, connect):
    """A URL's connect_timeout gives up on a host that does not answer and goes on to the next."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        hosts = f"127.0.0.1:{port},127.0.0.1:{cluster.port}"
        connection = await connect(
            f"postgresql://postgres@{hosts}/postgres?connect_timeout=1&sslmode=disable"
        )
    assert await connection.fetchval("select 1") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("any", "read_only"),
        ("primary", "read_only"),
        ("read-write", "primary"),
        ("read-only", "read_only"),
        ("standby", "standby"),
        ("prefer-standby", "standby"),
    ],
)
async def test_target_session_attrs(cluster, read_only_cluster, standby_cluster, wanted, expected):
    """Of a read-only primary, a read-write primary and a standby, in this order, the right one is taken."""
    servers = {"read_only": read_only_cluster, "primary": cluster, "standby": standby_cluster}
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers.values())
    connection = await asyncpg_trio.connect(
        f"postgresql://postgres@{hosts}/postgres", target_session_attrs=wanted
    )
    try:
        assert await connection.fetchval("show port") == str(servers[expected].port)
    finally:
        await connection.close()


async def test_no_host_has_the_role(cluster, connect):
    """When no host is what was asked for, that is the error; prefer-standby takes what there is."""
    url = f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres"
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await asyncpg_trio.connect(url, target_session_attrs="standby")
    assert await (await connect(url, target_session_attrs="prefer-standby")).fetchval("select 1") == 1


async def test_close_is_polite(cluster, connect):
    """A closed connection has told the server, and refuses further use."""
    watcher = await connect()
    connection = await asyncpg_trio.connect(cluster.dsn())
    pid = connection.get_server_pid()
    await connection.close()
    await connection.close()
    assert await watcher.fetchval("select count(*) from pg_stat_activity where pid = $1", pid) == 0
    assert connection.is_closed()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await connection.fetchval("select 1")


async def test_dropped_connection_closes_its_socket(cluster):
    """A connection that nobody refers to any more closes its socket at once and warns of nothing."""
    connection = await asyncpg_trio.connect(cluster.dsn())
    sock = connection._session.wire.sock
    del connection
    assert sock.fileno() == -1


def test_dropped_after_the_run(cluster):
    """Nor does a connection that outlives Trio's run raise or warn when it is dropped."""
    connection = trio.run(asyncpg_trio.connect, cluster.dsn())
    sock = connection._session.wire.sock
    del connection
    gc.collect()  # Trio's own result of the run is part of a cycle
    assert sock.fileno() == -1


def test_other_asyncpg_versions_are_refused():
    """The package does not guess how an asyncpg that it was not tested with works inside."""
    _seam.check_asyncpg_version(asyncpg.__version__)
    with pytest.raises(ImportError, match=r"0\.99\.0"):
        _seam.check_asyncpg_version("0.99.0")
