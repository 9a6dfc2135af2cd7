"""Local receivers of alerts: an HTTP server and a mail server that do what a test tells them to."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@attrs.define(eq=False)
class HttpReceiver:
    """What an HTTP receiver got, and how it answers."""

    port: int = 0
    statuses: list[int] = attrs.field(factory=list)
    """Of the answers to come; 200 when there are no more."""
    slow: float = 0.0
    """Seconds until it answers."""
    headers: dict[str, str] = attrs.field(factory=dict)
    """Of its answers."""
    got: list[tuple[str, dict[str, str], bytes]] = attrs.field(factory=list)
    """Path, headers in small letters and body of each request that was answered with 2xx."""
    refused: int = 0
    """Requests that were answered otherwise."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def http_receiver(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[HttpReceiver]:
    """An HTTP server in threads of its own."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(receiver.slow)
            status = receiver.statuses.pop(0) if receiver.statuses else 200
            if status < 300:
                named = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append((self.path, named, body))
            else:
                receiver.refused += 1
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: Any) -> None:
            pass  # who asked has gone

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@attrs.define(eq=False)
class MailReceiver:
    """What a mail server got, and what it wants."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    """What it speaks TLS with: after STARTTLS, or at once."""
    at_once: bool = False
    password: str | None = None
    """Of any user, who has to log in; None: nobody has to."""
    refuses: str = ""
    """Address that it takes no mail for."""
    got: list[tuple[str, list[str], str, bool]] = attrs.field(factory=list)
    """Sender, receivers, message, and whether it came encrypted."""


@contextmanager
def mail_receiver(**options: Any) -> Iterator[MailReceiver]:
    """A mail server in threads of its own."""
    receiver = MailReceiver(**options)

    class Handler(socketserver.BaseRequestHandler):
        def finish(self) -> None:
            self.request.close()

        def handle(self) -> None:
            is_secure = receiver.at_once
            if is_secure:
                assert receiver.tls is not None
                self.request = receiver.tls.wrap_socket(self.request, server_side=True)
            lines = self.request.makefile("rb")
            logged_in = receiver.password is None
            sender, to = "", []

            def say(text: str) -> None:
                self.request.sendall(text.encode() + b"\r\n")

            say("220 here")
            while line := lines.readline():
                words = line.decode().strip()
                verb = words.upper().partition(" ")[0]
                if verb == "EHLO":
                    say("250-here")
                    if receiver.tls is not None and not is_secure:
                        say("250-STARTTLS")
                    say("250 AUTH PLAIN")
                elif verb == "STARTTLS":
                    assert receiver.tls is not None
                    say("220 go on")
                    self.request = receiver.tls.wrap_socket(self.request, server_side=True)
                    lines, is_secure = self.request.makefile("rb"), True
                elif verb == "AUTH":
                    _, user, password = base64.b64decode(words.split()[2]).decode().split("\0")
                    logged_in = bool(user) and password == receiver.password
                    say("235 welcome" if logged_in else f"535 no {password}")
                elif verb == "MAIL" and logged_in:
                    sender, to = words[10:].strip("<> "), []
                    say("250 well")
                elif verb == "RCPT" and logged_in:
                    address = words[8:].strip("<> ")
                    if address == receiver.refuses:
                        say("550 nobody")
                        continue
                    to.append(address)
                    say("250 well")
                elif verb == "DATA" and logged_in:
                    say("354 go on")
                    text = b""
                    while (part := lines.readline()) not in (b".\r\n", b""):
                        text += part
                    receiver.got.append((sender, to, text.decode(), is_secure))
                    say("250 well")
                elif verb == "QUIT":
                    say("221 bye")
                    return
                else:
                    say("250 well" if verb in ("RSET", "NOOP") else "503 no")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: Any) -> None:
            pass  # who asked has gone

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
