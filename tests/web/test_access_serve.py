"""`hotpath serve` as a process: TLS, tokens, signals, its log, and what it says when it cannot start."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

from hotpath.cli.app import run
from hotpath.store.tokens import create_token, revoke_token
from hotpath.web import access
from hotpath.web.listener import open_sockets, tls_context
from hotpath.web.options import ServeOptions


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


class Process:
    """`hotpath serve` with these arguments; ends with the test."""

    def __init__(self, database_url, workspace, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hotpath", "serve", "--json", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(workspace)},
        )
        (self.url,) = json.loads(self.process.stdout.readline())["urls"]

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    async def ended(self):
        """Exit code, what it wrote to stderr, seconds since the call."""
        started = time.monotonic()
        with trio.fail_after(40):
            while self.process.poll() is None:  # noqa: ASYNC110 - a process tells by its end
                await trio.sleep(0.01)
        return self.process.returncode, self.process.stderr.read(), time.monotonic() - started


@pytest.fixture
def serve(database_url, workspace):
    """Starts servers, and ends those that have not."""
    started = []

    def start(*arguments):
        started.append(Process(database_url, workspace, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


async def test_tls_tokens_log_and_end(serve, certificate, stage):
    """Under TLS: a token opens API and WebSocket, the log tells no secret, and with clients that hang on the
    process ends within its grace and a second. While it is up, the database knows how it listens.
    """
    cert, key = certificate
    token, _ = await create_token(stage.connection, "ann", ("run",), None)
    server = serve("--certfile", cert, "--keyfile", key, "--require-token", "--access-log", "--grace", "1")
    assert server.url.startswith("https://127.0.0.1:")
    port = int(server.url.rpartition(":")[2])
    tls = ssl.create_default_context(cafile=str(cert))
    bearer = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, verify=tls, timeout=30) as http:
        assert (await http.get("/api/v1/jobs?tag=hidden")).status_code == 401
        reply = await http.get("/api/v1/jobs?tag=hidden", headers=bearer)
        assert (reply.status_code, "strict-transport-security" in reply.headers) == (200, True)
        assert "server" not in reply.headers
        await http.get(f"/resume/{'x' * 80}")
        await http.get("/%1b[31m%0aevil", headers=bearer)
    assert tls_context(ServeOptions(certfile=cert, keyfile=key)).minimum_version == ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", port)) as plain:  # plain HTTP gets nothing
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")
    says = "select address, is_loopback, is_open, is_secure, clock_apart is not null from hotpath.server"
    row = (server.url, True, False, True, True)
    with trio.fail_after(20):
        while [tuple(each) for each in await stage.connection.fetch(says)] != [row]:  # noqa: ASYNC110 - another process
            await trio.sleep(0.01)
    async with trio.open_nursery() as nursery:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=tls)
        headers = [(b"authorization", bearer["authorization"].encode())]
        socket_ = await wrap_client_stream(nursery, stream, "127.0.0.1", "/ws", extra_headers=headers)
        await socket_.send_message('{"op":"ping"}')
        assert "pong" in await socket_.get_message()
        deaf = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=tls)
        await deaf.send_all(b"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\n")
        server.signal()
        code, said, seconds = await server.ended()
        assert (code, seconds < 8) == (0, True), seconds  # half a head alone would hold it for 10
        assert await stage.connection.fetch(says) == []
        with pytest.raises(ConnectionClosed):
            await socket_.get_message()
        await trio.aclose_forcefully(deaf)
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()
    lines = [line for line in said.splitlines() if "127.0.0.1" in line]
    assert any(" - GET /api/v1/jobs 401 " in line for line in lines)
    assert any(" ann GET /api/v1/jobs 200 " in line for line in lines)
    assert any(" ann WEBSOCKET /ws 101 " in line for line in lines)
    assert any("GET /resume/*** 404 " in line for line in lines)
    assert any("GET /%1B%5B31m%0Aevil 400" in line for line in lines)
    assert not any(secret in said for secret in ("hidden", token, "xxx", "Traceback"))


async def test_second_signal_ends_at_once(serve):
    """A request gets its grace; a second SIGTERM does not wait for it. A port in use is said in one line."""
    server = serve("--grace", "60")
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    head = b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    head += b"Content-Type: application/json\r\n\r\n"
    await stream.send_all(head)
    done = await trio.run_process(
        [sys.executable, "-m", "hotpath", "serve", "--port", port], capture_stderr=True, check=False
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert f"port {port} of 127.0.0.1 is in use".encode() in done.stderr
    server.signal()
    with pytest.raises(OSError, match="connect"):  # it accepts no more, and waits for the request
        while True:
            await (await trio.open_tcp_stream(host, int(port))).aclose()
    assert server.process.poll() is None
    server.signal()
    code, said, seconds = await server.ended()
    assert (code, said, seconds < 30) == (0, "", True)
    await stream.aclose()


async def test_asked_again_and_again(serve):
    """SIGTERM upon SIGTERM, to the last moment of the process, is no error."""
    server = serve()
    while server.process.poll() is None:
        server.signal()
        await trio.sleep(0.0003)
    code, said, _ = await server.ended()
    assert (code, said) == (0, "")


async def test_revoked_token_ends_its_sockets(serve_fixture):
    """A WebSocket is closed within 5 s of its token's end, and told why."""
    async with serve_fixture(require_token=True) as served, trio.open_nursery() as nursery:
        async with served.client.database.connection() as connection:
            token, _ = await create_token(connection, "ann", ("read",), None)
        stream = await served.connect()
        headers = [(b"authorization", f"Bearer {token}".encode())]
        socket_ = await wrap_client_stream(nursery, stream, "127.0.0.1", "/ws", extra_headers=headers)
        await socket_.send_message('{"op":"ping"}')
        assert "pong" in await socket_.get_message()
        async with served.client.database.connection() as connection:
            await revoke_token(connection, "ann")
        assert access.FRESH_SECONDS + access.RECHECK_SECONDS < 5
        with trio.fail_after(20), pytest.raises(ConnectionClosed) as ended:
            await socket_.get_message()
        assert ended.value.reason.code == 1008
        await stream.aclose()


OUTSIDE = [
    "../serve.py",
    "%2e%2e/serve.py",
    "/etc/passwd",
    "..%2f..%2fserve.py",
    "..\\serve.py",
    "./../../%00",
]


async def test_no_path_leads_out_of_static(served, subtests):
    """Whatever the path, nothing but the page's own files is served."""
    for path in OUTSIDE:
        with subtests.test(ascii(path)[:60]):
            stream = await served.connect()
            await stream.send_all(f"GET /static/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            refused = b"HTTP/1.1 400 " if "%00" in path else b"HTTP/1.1 404 "
            assert (await stream.receive_some()).startswith(refused)
            await stream.aclose()


ORIGINS = ["http://evil.example", "null", None, "same"]


async def test_origin_of_a_socket(served, subtests):
    """A page of another origin gets a 403 for its WebSocket before it is one; ours, and programs, get in."""
    for origin in ORIGINS:
        with subtests.test(ascii(origin)[:60]):
            stream = await served.connect()
            said = f"Origin: {served.url if origin == 'same' else origin}\r\n" if origin else ""
            host = served.url.removeprefix("http://")
            await stream.send_all(
                f"GET /ws HTTP/1.1\r\nHost: {host}\r\n{said}Upgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            answer = await stream.receive_some()
            good = origin in (None, "same")
            assert answer.startswith(b"HTTP/1.1 101 " if good else b"HTTP/1.1 403 ")
            assert good or b"application/problem+json" in answer
            await stream.aclose()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--host", "192.0.2.1"], "--host 192.0.2.1"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--keyfile", __file__], "--certfile"),
        (["--certfile", __file__], "--certfile"),
        (["--certfile", "/no/such/file"], "--certfile"),
        (["--public-url", "ftp://x"], "--public-url"),
        (["--public-url", "https://x/path"], "--public-url"),
        (["--trust-forwarded", "proxy"], "--trust-forwarded"),
        (["--trust-forwarded", "10.0.0.1/8"], "--trust-forwarded"),
        (["--allowed-host", "http://x"], "--allowed-host"),
        (["--max-body", "much"], "--max-body"),
        (["--port", "70000"], "--port"),
        (["--grace", "-1"], "--grace"),
    ],
    ids=" ".join,
)
def test_wrong_options(arguments, named, capsys):
    """What cannot be meant is wrong usage: 2, one line that names the option; no database is needed."""
    assert run(["serve", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hotpath: ")
    assert named in line


def test_options_come_from_the_environment(monkeypatch, capsys):
    """Each option has its variable."""
    monkeypatch.setenv("HOTPATH_SERVE_TRUST_FORWARDED", "10.0.0.0/8 proxy")
    assert run(["serve"]) == 2
    assert "not 'proxy'" in capsys.readouterr().err
    monkeypatch.setenv("HOTPATH_SERVE_TRUST_FORWARDED", "")
    monkeypatch.setenv("HOTPATH_SERVE_ALLOWED_HOST", "http://x")
    assert run(["serve"]) == 2
    assert "--allowed-host" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::"])
def test_addresses(host):
    """A name is bound at all its addresses that are here, by one port; `::` is IPv4 too."""
    sockets = open_sockets(ServeOptions(host=host, port=0))
    ports = {each.getsockname()[1] for each in sockets}
    assert len(ports) == 1
    with socket.create_connection(("127.0.0.1", ports.pop())):
        pass
    for each in sockets:
        each.close()
