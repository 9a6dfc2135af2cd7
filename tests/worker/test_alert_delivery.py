"""A word about an alert gets to real receivers, or it is said why not: in time, and without secrets."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime
from email import message_from_string
from pathlib import Path

import pytest
import trio
from receivers import http_receiver, mail_receiver
from worker_stage import gone

from hotpath.core.alert_channels import parse_channel
from hotpath.core.alert_words import Said
from hotpath.core.alerting import Word
from hotpath.worker import alert_delivery
from hotpath.worker.alert_delivery import COMMANDS, Delivery, DeliveryError, NotHereError

WHEN = datetime(2026, 11, 27, 5, 40, tzinfo=UTC)
SAID = Said(
    id=7, alert="late", word=Word.FIRING, rule="waiting over 5m", finding="it waits",
    fired_at=WHEN, said_at=WHEN,
)  # fmt: skip
SECRET = "hunter2-secret"


async def deliver(channel: str, seconds: float = 20.0, **environ: str) -> None:
    """Try it with this environment."""
    await Delivery(environ, seconds).deliver(parse_channel(channel), SAID)


async def failure(channel: str, seconds: float = 20.0, **environ: str) -> str:
    """Why it cannot be delivered; never with a secret in it."""
    with pytest.raises(DeliveryError) as failed:
        await deliver(channel, seconds, **environ)
    said = str(failed.value)
    assert "\n" not in said
    for name, value in environ.items():
        assert name == COMMANDS or value not in said
    return said


# ---------------------------------------------------------------- HTTP


async def test_webhook():
    """JSON by POST, with an id that is the same at each try; signed if there is a key."""
    with http_receiver() as receiver:
        await deliver(f"webhook:{receiver.url}/hook?a=1 signed $KEY", KEY=SECRET)
        await deliver("webhook:$URL", URL=f"{receiver.url}/other\n")
    (path, headers, body), (other, plain, _) = receiver.got
    assert (path, other) == ("/hook?a=1", "/other")
    assert json.loads(body) == SAID.document
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "hotpath-alert-7"
    stamp = headers["x-hotpath-timestamp"]
    mac = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-hotpath-signature"] == f"sha256={mac}"
    assert abs(int(stamp) - time.time()) < 60
    assert "x-hotpath-signature" not in plain


async def test_slack():
    """A text, to an address that is in the environment alone."""
    with http_receiver() as receiver:
        await deliver("slack:$SLACK", SLACK=f"{receiver.url}/services/{SECRET}")
    assert json.loads(receiver.got[0][2])["text"].startswith("FIRING late: it waits (since 2026-11-27T05:40")


async def test_answers_that_are_not_good():
    """Are failures; one that leads elsewhere is not followed."""
    with http_receiver() as elsewhere, http_receiver() as receiver:
        receiver.headers["location"] = elsewhere.url
        receiver.statuses = [500, 404, 307]
        for status in (500, 404, 307):
            said = await failure("slack:$SLACK", SLACK=f"{receiver.url}/{SECRET}")
            assert said == f"http://127.0.0.1 answered {status}"
        assert elsewhere.got == []


async def test_receivers_that_are_not_there():
    """Nobody listens, or who does says nothing: it ends in its time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        assert await failure(f"webhook:http://127.0.0.1:{port}/", 0.3) == "it took longer than 0.3 s"
        assert await failure(f"email:a@example.org via smtp://127.0.0.1:{port}", 0.3) == (
            "it took longer than 0.3 s"
        )
        assert time.monotonic() - began < 15
    assert "ConnectionRefusedError" in await failure(f"webhook:http://127.0.0.1:{port}/")
    assert "ConnectionRefusedError" in await failure(f"email:a@example.org via smtp://127.0.0.1:{port}")


async def test_a_slow_receiver_gets_it():
    """As long as it answers in time."""
    with http_receiver() as receiver:
        receiver.slow = 0.3
        await deliver(f"webhook:{receiver.url}")
    assert len(receiver.got) == 1


@pytest.mark.parametrize("value", ["no address", f"postgres://{SECRET}@h/", "http://[::1", "http://h/\x01"])
async def test_addresses_from_the_environment_are_checked(value):
    """And not shown."""
    assert (await failure("webhook:$URL", URL=value)).startswith("$URL is not an address")
    assert "$URL is not a mail server" in await failure("email:a@example.org via $URL", URL=value)


async def test_what_is_not_in_the_environment():
    """Is named, and another process may have it."""
    with pytest.raises(NotHereError, match=r"\$KEY is not set"):
        await deliver("webhook:http://127.0.0.1:9/ signed $KEY")
    with pytest.raises(NotHereError, match=r"\$PW is not set on"):
        await deliver("email:a@example.org via smtp://bot:$PW@127.0.0.1", PW="")


# ---------------------------------------------------------------- mail


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the file with its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    directory: Path = tmp_path_factory.mktemp("mail")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert", directory / "key")
    return context, str(directory / "cert")


async def test_mail():
    """One message to all, with a subject that says what it is."""
    with mail_receiver() as receiver:
        await deliver(
            f"email:ann@example.org,bob@example.org via smtp://127.0.0.1:{receiver.port} from bot@example.org"
        )
    ((sender, to, text, is_secure),) = receiver.got
    assert (sender, to, is_secure) == ("bot@example.org", ["ann@example.org", "bob@example.org"], False)
    message = message_from_string(text)
    assert message["subject"] == "[hotpath] FIRING: late"
    assert "hotpath-alert-7" in message["message-id"]
    assert SAID.text in message.get_payload()


@pytest.mark.parametrize("at_once", [False, True])
async def test_mail_is_encrypted(certificate, monkeypatch, at_once):
    """By STARTTLS where it is offered, or from the beginning; the password is right or wrong, and not shown;
    who has no good certificate gets nothing.
    """
    context, file = certificate
    scheme = "smtps" if at_once else "smtp"
    with mail_receiver(tls=context, at_once=at_once, password=SECRET) as receiver:
        channel = f"email:a@example.org via {scheme}://bot:$PW@localhost:{receiver.port}"
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(channel, PW=SECRET)
        assert receiver.got == []
        monkeypatch.setenv("SSL_CERT_FILE", file)
        await deliver(channel, PW=SECRET)
        assert [each[3] for each in receiver.got] == [True]
        said = await failure(channel, PW="another-password")
        assert "SMTPAuthenticationError" in said
        assert "no $PW" in said
        assert len(receiver.got) == 1


async def test_a_webhook_is_encrypted(certificate, monkeypatch):
    """Who has no good certificate gets nothing."""
    context, file = certificate
    with http_receiver(tls=context) as receiver:
        channel = f"webhook:https://localhost:{receiver.port}/"
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(channel)
        monkeypatch.setenv("SSL_CERT_FILE", file)
        await deliver(channel)
    assert len(receiver.got) == 1


async def test_a_password_does_not_go_in_the_clear(monkeypatch):
    """To another machine that offers no STARTTLS."""
    with mail_receiver(password=SECRET) as receiver:
        channel = f"email:a@example.org via smtp://bot:$PW@127.0.0.1:{receiver.port}"
        await deliver(channel, PW=SECRET)
        monkeypatch.setattr(alert_delivery, "_LOOPBACK", ())
        assert "offers no STARTTLS" in await failure(channel, PW=SECRET)
    assert len(receiver.got) == 1


async def test_mail_that_is_refused():
    """By one of its receivers."""
    with mail_receiver(refuses="bob@example.org") as receiver:
        channel = f"email:ann@example.org,bob@example.org via smtp://127.0.0.1:{receiver.port}"
        assert await failure(channel) == "127.0.0.1 refused bob@example.org"


# ---------------------------------------------------------------- commands


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that writes down what it gets."""
    file = tmp_path / "page"
    file.write_text(
        '#!/bin/sh\ncat > "$2"\nprintf "%s|" "$@" "$HOTPATH_ALERT" "$DATABASE_URL" > "$2.args"\nexit "$3"\n'
    )
    file.chmod(0o755)
    return file


async def test_command(program, tmp_path):
    """It is run as it stands, without a shell, with JSON on stdin and without the database's address."""
    channel = f"command:{program} '$(id) ;' {tmp_path}/out 0"
    await deliver(channel, DATABASE_URL="postgres://x", PATH="/usr/bin:/bin", **{COMMANDS: str(tmp_path)})
    assert json.loads((tmp_path / "out").read_bytes()) == SAID.document
    assert (tmp_path / "out.args").read_text() == f"$(id) ;|{tmp_path}/out|0|late||"
    said = await failure(
        f"command:{program} x {tmp_path}/out 3", PATH="/usr/bin:/bin", **{COMMANDS: f"/x:{program}"}
    )
    assert said.endswith("ended with exit code 3")


async def test_commands_have_to_be_allowed(program, tmp_path):
    """By the environment of whoever runs them, by name or by directory."""
    for allowed in ("", "/usr", str(program)[:-1], "page"):
        with pytest.raises(NotHereError, match=f"not allowed by {COMMANDS}"):
            await deliver(f"command:{program} x {tmp_path}/out 0", **{COMMANDS: allowed})
    assert not (tmp_path / "out").exists()


async def test_commands_that_fail(tmp_path):
    """One that is not there, and one that does not end, whose children end with it."""
    assert "FileNotFoundError" in await failure("command:/opt/nothing", **{COMMANDS: "/opt"})
    pid = tmp_path / "pid"
    shell = f"command:/bin/sh -c 'sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; wait'"
    seconds = 0.2
    while not pid.exists():  # a busy machine may take longer to start it
        said = await failure(shell, seconds, **{COMMANDS: "/bin", "PATH": "/usr/bin:/bin"})
        assert said == f"it took longer than {seconds:g} s"
        seconds *= 2
    while not gone(int(pid.read_text())):  # noqa: ASYNC110 - of another process
        await trio.sleep(0.01)
