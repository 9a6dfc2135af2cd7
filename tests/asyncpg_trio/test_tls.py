"""``sslmode`` as in libpq, against a server with TLS and one without."""

from __future__ import annotations

import ssl

import asyncpg
import pytest
import trio
from asleep import cancelled_asleep

from hotpath import asyncpg_trio

# mode, authority that is trusted, host name -> whether the connection is encrypted, or the error
WITH_TLS = [
    ("disable", None, "127.0.0.1", False),
    ("allow", None, "127.0.0.1", False),
    ("prefer", None, "127.0.0.1", True),
    ("require", None, "127.0.0.1", True),
    ("require", "right", "127.0.0.1", True),
    ("require", "other", "127.0.0.1", ssl.SSLCertVerificationError),
    ("verify-ca", "right", "127.0.0.1", True),
    ("verify-ca", "other", "127.0.0.1", ssl.SSLCertVerificationError),
    ("verify-ca", None, "127.0.0.1", asyncpg.exceptions.ClientConfigurationError),
    ("verify-full", "right", "localhost", True),
    ("verify-full", "right", "127.0.0.1", ssl.SSLCertVerificationError),
    ("verify-full", "other", "localhost", ssl.SSLCertVerificationError),
]
WITHOUT_TLS = [
    ("disable", None, False),
    ("allow", None, False),
    ("prefer", None, False),
    ("require", None, ConnectionError),
    ("verify-full", "right", ConnectionError),
]


def url(cluster, host, files, mode, authority, user="postgres"):
    """The URL that asks for `mode` and trusts `authority`."""
    trusted = {None: "", "right": files.authority, "other": files.other_authority}[authority]
    root = f"&sslrootcert={trusted}" if trusted else ""
    return f"postgresql://{user}@{host}:{cluster.port}/postgres?sslmode={mode}{root}"


async def encrypted(dsn: str, **options) -> bool:
    """Connect, and say whether the server sees TLS."""
    connection = await asyncpg_trio.connect(dsn, **options)
    try:
        return await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    finally:
        await connection.close()


@pytest.mark.parametrize(("mode", "authority", "host", "expected"), WITH_TLS)
async def test_server_with_tls(tls_cluster, tls_files, mode, authority, host, expected):
    """Each mode encrypts and verifies what libpq's does."""
    dsn = url(tls_cluster, host, tls_files, mode, authority)
    if isinstance(expected, bool):
        assert await encrypted(dsn) is expected
    else:
        with pytest.raises(expected):
            await encrypted(dsn)


@pytest.mark.parametrize(("mode", "authority", "expected"), WITHOUT_TLS)
async def test_server_without_tls(cluster, tls_files, mode, authority, expected):
    """Modes that require TLS refuse a server that has none; the others do without."""
    dsn = url(cluster, "127.0.0.1", tls_files, mode, authority)
    if isinstance(expected, bool):
        assert await encrypted(dsn) is expected
    else:
        with pytest.raises(expected, match="does not offer TLS"):
            await encrypted(dsn)


@pytest.mark.parametrize(
    ("mode", "user", "expected"),
    [
        ("allow", "tls_only", True),
        ("prefer", "plain_only", False),
        ("require", "plain_only", asyncpg.InvalidAuthorizationSpecificationError),
        ("disable", "tls_only", asyncpg.InvalidAuthorizationSpecificationError),
    ],
)
async def test_second_attempt(tls_cluster, tls_files, mode, user, expected):
    """allow and prefer try the other transport when the server refuses the first; others do not."""
    dsn = url(tls_cluster, "127.0.0.1", tls_files, mode, None, user)
    if isinstance(expected, bool):
        assert await encrypted(dsn) is expected
    else:
        with pytest.raises(expected):
            await encrypted(dsn)


async def test_wrong_password_over_tls(tls_cluster, tls_files):
    """A wrong password is what comes up, not that the other transport was refused."""
    dsn = url(tls_cluster, "127.0.0.1", tls_files, "prefer", None, "scram_user")
    assert await encrypted(dsn, password="right")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await encrypted(dsn, password="wrong")


async def test_client_certificate(tls_cluster, tls_files, monkeypatch):
    """A client certificate proves who one is, from the URL or from the environment."""
    dsn = url(tls_cluster, "127.0.0.1", tls_files, "require", None, "cert_user")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await encrypted(dsn)
    assert await encrypted(f"{dsn}&sslcert={tls_files.client_certificate}&sslkey={tls_files.client_key}")
    monkeypatch.setenv("PGSSLCERT", str(tls_files.client_certificate))
    monkeypatch.setenv("PGSSLKEY", str(tls_files.client_key))
    assert await encrypted(dsn)


async def test_environment_and_contexts(tls_cluster, tls_files, monkeypatch):
    """PGSSLMODE and PGSSLROOTCERT count where nothing else is said; a context is taken as it is."""
    plain = f"postgresql://postgres@localhost:{tls_cluster.port}/postgres"
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert not await encrypted(plain)
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(tls_files.authority))
    assert await encrypted(plain)
    assert await encrypted(plain, ssl=ssl.create_default_context(cafile=tls_files.authority))
    with pytest.raises(ssl.SSLCertVerificationError):
        await encrypted(plain, ssl=True)


async def test_unix_sockets_are_not_encrypted(tls_cluster):
    """sslmode does not concern Unix sockets."""
    assert not await encrypted(tls_cluster.dsn() + "&sslmode=require")


async def test_everything_over_tls(tls_cluster, tls_files):
    """Big values both ways, COPY, LISTEN and cancellation work over TLS as they do without."""
    connection = await asyncpg_trio.connect(url(tls_cluster, "localhost", tls_files, "verify-full", "right"))
    text = "x" * 5_000_000
    assert await connection.fetchval("select $1::text || 'y'", text) == text + "y"
    await connection.execute("create temp table t(a int, b text)")
    await connection.copy_records_to_table("t", records=((i, "y" * 50) for i in range(50_000)))
    await connection.executemany("insert into t values ($1, $2)", ((i, "z" * 50) for i in range(20_000)))
    assert await connection.fetchval("select count(*) from t") == 70_000
    async with connection.listen("ch") as notifications:
        await connection.execute("notify ch, 'tls'")
        assert (await notifications.receive()).payload == "tls"
    watcher = await asyncpg_trio.connect(tls_cluster.dsn())
    assert await cancelled_asleep(connection, watcher, "select pg_sleep(50)")
    await watcher.close()
    assert connection.statistics().cancels_sent == 1

    def endless(scope):
        for i in range(10**9):
            if i == 100_000:
                scope.cancel()  # by its progress, not by the clock: the COPY is under way on any machine
            yield i, "y" * 50

    with trio.CancelScope() as scope:
        await connection.copy_records_to_table("t", records=endless(scope))
    assert scope.cancelled_caught
    assert await connection.fetchval("select count(*) from t") == 70_000
    # Whether a request was needed depends on who was quicker: a COPY may have ended by its own word by then.
    assert connection.statistics().cancels_sent in (1, 2)
    await connection.close()


async def test_words_before_tls_are_not_believed(tls_files):
    """What a peer says in answer to the request for TLS, other than yes or no, is not shown to the user."""

    async def serve(stream):
        await stream.receive_some(8)
        await stream.send_all(b"E\x00\x00\x00\x20SFATAL\0Mrun rm -rf\0\0")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConnectionError) as caught:
            await asyncpg_trio.connect(f"postgresql://x@127.0.0.1:{port}/x?sslmode=require")
        assert "rm -rf" not in str(caught.value)
        nursery.cancel_scope.cancel()
