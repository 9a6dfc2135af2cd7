"""Delivering a word about an alert: by HTTP, by SMTP, by a command. Each try has an end, whatever the
receiver does, and no message about one that failed has a secret in it.

The standard library's clients do the talking, in a thread: a word a minute needs no more.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote

import attrs
import trio

from hotpath.core.alert_channels import (
    Channel,
    check_mail_server,
    check_web_address,
    reference,
)
from hotpath.core.alert_words import Said
from hotpath.scripts.load import SECRETS
from hotpath.version import __version__

SECONDS = 20.0
"""That one try may take."""
LAST_SECONDS = 2.0
"""That a command has, once it took too long, to end by itself."""
PATIENCE = 10.0
"""Seconds that a receiver may be silent in one."""
COMMANDS = "HOTPATH_ALERT_COMMANDS"
"""Environment variable that names the programs, or directories of such, which alerts may run here."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_THREADS = 8


class DeliveryError(Exception):
    """It was not delivered; the message is one line without secrets."""


class NotHereError(DeliveryError):
    """This process lacks what it takes; another one may have it."""


@attrs.define(eq=False)
class _Hold:
    """What a thread talks through, for who gives it up to cut off."""

    socket: socket.socket | None = None

    def cut(self) -> None:
        try:
            if self.socket is not None:
                self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def lacking(channel: Channel, environ: Mapping[str, str]) -> list[str]:
    """What this environment lacks to use the channel, in words."""
    missing = [f"${name} is not set" for name in channel.references if not environ.get(name)]
    if channel.kind == "command" and not _may_run(channel.argv[0], environ.get(COMMANDS, "")):
        missing.append(f"{channel.argv[0]} is not allowed by {COMMANDS}")
    return missing


@attrs.define(eq=False)
class Delivery:
    """Delivers words with what one environment has."""

    environ: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ), repr=False)
    seconds: float = SECONDS
    _threads: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_THREADS))

    async def deliver(self, channel: Channel, said: Said) -> None:
        """Try it once. Raises `DeliveryError`."""
        if missing := lacking(channel, self.environ):
            raise NotHereError(f"{', '.join(missing)} on {socket.gethostname()}")
        values = {name: self.environ[name] for name in channel.references}
        try:
            with trio.fail_after(self.seconds):
                match channel.kind:
                    case "email":
                        await self._in_thread(_mail, channel, said, values)
                    case "command":
                        await self._run(channel, said)
                    case _:
                        await self._in_thread(_post, channel, said, values)
        except DeliveryError:
            raise
        except trio.TooSlowError:
            raise DeliveryError(f"it took longer than {self.seconds:g} s") from None
        except Exception as error:  # noqa: BLE001 - whatever a library makes of a receiver
            raise DeliveryError(_clean(error, values)) from None

    async def _in_thread(self, function: Callable[..., None], *values: Any) -> None:
        hold = _Hold()
        try:
            await trio.to_thread.run_sync(
                function, hold, *values, abandon_on_cancel=True, limiter=self._threads
            )
        finally:
            hold.cut()

    async def _run(self, channel: Channel, said: Said) -> None:
        # What it prints is its own: it may be much, and may hold what nobody is to see.
        environ = {name: value for name, value in self.environ.items() if name not in SECRETS}
        environ |= {"HOTPATH_ALERT": said.alert, "HOTPATH_ALERT_STATE": said.word.value}
        done = await trio.run_process(
            channel.argv, stdin=said.json, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environ, check=False, start_new_session=True, deliver_cancel=_end,
        )  # fmt: skip
        if done.returncode:
            raise DeliveryError(f"{channel.argv[0]} ended with exit code {done.returncode}")


async def _end(process: trio.Process) -> None:
    """End a command, and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        await trio.sleep(LAST_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)


def _post(hold: _Hold, channel: Channel, said: Said, values: Mapping[str, str]) -> None:
    import http.client

    name = reference(channel.url)
    url = channel.url if name is None else values[name].strip()
    parts = check_web_address(url)
    if parts is None:
        raise DeliveryError(f"${name} is not an address such as https://ops.example/hook")
    body = said.slack if channel.kind == "slack" else said.json
    headers = {
        "Content-Type": "application/json", "User-Agent": f"hotpath/{__version__}", "Connection": "close",
        "Idempotency-Key": f"hotpath-alert-{said.id}",
    }  # fmt: skip
    if channel.key:
        headers |= signature(values[reference(channel.key) or ""], body, int(time.time()))
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.connect()
        hold.socket = connection.sock
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        answer.close()
        if not 200 <= answer.status < 300:
            # One that leads elsewhere is not followed: the address is what somebody chose.
            raise DeliveryError(f"{parts.scheme}://{host} answered {answer.status}")
    finally:
        connection.close()


def signature(key: str, body: bytes, now: int) -> dict[str, str]:
    """Headers by which a receiver that has the key knows who sent this, and when."""
    mac = hmac.new(key.encode(), f"{now}.".encode() + body, hashlib.sha256)
    return {"X-Hotpath-Timestamp": str(now), "X-Hotpath-Signature": f"sha256={mac.hexdigest()}"}


def _mail(hold: _Hold, channel: Channel, said: Said, values: Mapping[str, str]) -> None:
    import smtplib
    from email.message import EmailMessage

    name = reference(channel.server)
    parts = check_mail_server(channel.server if name is None else values[name].strip())
    if parts is None:
        raise DeliveryError(f"${name} is not a mail server such as smtp://USER:PASSWORD@mail.example:587")
    host = parts.hostname or ""
    message = EmailMessage()
    message["Subject"] = said.subject
    message["From"] = channel.sender or f"hotpath@{_mail_host()}"
    message["To"] = ", ".join(channel.to)
    message["Message-ID"] = f"<hotpath-alert-{said.id}-{int(said.said_at.timestamp())}@{_mail_host()}>"
    message["Date"] = said.said_at
    message.set_content(f"{said.text}\n\nrule: {said.rule}\nalert: {said.alert}\n")
    context = ssl.create_default_context()

    client: smtplib.SMTP
    if parts.scheme == "smtps":
        client = smtplib.SMTP_SSL(host, parts.port or 465, timeout=PATIENCE, context=context)
    else:
        client = smtplib.SMTP(host, parts.port or 587, timeout=PATIENCE)
    hold.socket = client.sock
    try:
        client.ehlo()
        if parts.scheme == "smtp":
            _secure(client, parts, context)
            hold.socket = client.sock
        if parts.username and parts.password:
            secret = reference(parts.password)
            password = unquote(parts.password) if secret is None else values[secret]
            client.login(unquote(parts.username), password)
        refused = client.send_message(message)
        if refused:
            raise DeliveryError(f"{host} refused {', '.join(sorted(refused))}")
        client.quit()
    finally:
        client.close()


def _secure(client: Any, parts: SplitResult, context: ssl.SSLContext) -> None:
    """STARTTLS where it is offered; a password goes nowhere in the clear but to this machine."""
    if client.has_extn("starttls"):
        client.starttls(context=context)
        client.ehlo()
    elif parts.password and parts.hostname not in _LOOPBACK:
        raise DeliveryError(f"{parts.hostname} offers no STARTTLS, and the password would go in the clear")


def _mail_host() -> str:
    name = socket.getfqdn()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


def _may_run(program: str, allowed: str) -> bool:
    path = PurePosixPath(program)
    places = [PurePosixPath(place) for place in allowed.split(":") if place.startswith("/")]
    return any(place == path or place in path.parents for place in places)


def _clean(error: BaseException, values: Mapping[str, str]) -> str:
    """The error in a line, with the names of secrets in their places."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
        for part in {value, value.strip(), unquote(value)} - {""}:
            text = text.replace(part, f"${name}")
    return text
