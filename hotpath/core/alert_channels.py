"""Where alerts go: channels as people write them. What is secret is never in them, only the name of an
environment variable of whoever sends.

    webhook:https://ops.example/hook signed $HOOK_KEY     JSON by POST, with an HMAC-SHA256 of it
    webhook:$HOOK_URL                                     an address that is a secret itself
    slack:$SLACK_URL                                      {"text": ...}, as Slack and others take it
    email:ann@example.org,bob@example.org via smtp://bot:$SMTP_PASSWORD@mail.example:587 from bot@example.org
    command:/usr/local/bin/page --team ops                JSON on stdin, no shell
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import SplitResult, urlsplit

import attrs

from hotpath.errors import UsageError

FORMS = (
    "webhook:URL [signed $NAME]",
    "slack:$NAME",
    "email:ADDRESS,... via smtp[s]://[USER:$NAME@]HOST[:PORT] [from ADDRESS]",
    "command:/PATH ARGUMENTS",
)
MOST = 2000
"""Characters of one."""
WITHHELD = frozenset({"HOTPATH_DATABASE_URL", "HOTPATH_LISTEN_URL", "DATABASE_URL", "PGPASSWORD"})
"""Environment variables that go to nobody: whoever may set an alert would read the database's password."""
_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_ADDRESS = re.compile(r"[^\s@,<>\"()\\:;\[\]]+@[A-Za-z0-9.-]+")


@attrs.frozen(kw_only=True)
class Channel:
    """Somewhere that alerts go."""

    kind: str
    """`webhook`, `slack`, `email` or `command`."""
    text: str
    """As it was written; it holds no secret."""
    url: str = ""
    """Of a webhook or Slack: an address, or `$NAME`."""
    key: str = ""
    """Of a webhook: `$NAME` of what its messages are signed with; empty: they are not."""
    to: tuple[str, ...] = ()
    """Of e-mail: who gets it."""
    sender: str = ""
    server: str = ""
    """Of e-mail: `smtp://...` or `smtps://...`, or `$NAME`."""
    argv: tuple[str, ...] = ()
    """Of a command."""

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the environment variables that whoever sends has to have."""
        server = check_mail_server(self.server)
        password = "" if server is None else server.password or ""
        texts = (self.url, self.key, self.server, password)
        return tuple(dict.fromkeys(name for text in texts if (name := reference(text)) is not None))


def reference(text: str) -> str | None:
    """The name of the environment variable, if the text is `$NAME`."""
    match = _REFERENCE.fullmatch(text)
    return match[1] if match else None


def parse_channel(text: str) -> Channel:
    """The channel that people write. Raises `UsageError`."""
    words = " ".join(text.split())
    kind, colon, rest = words.partition(":")
    if kind in ("http", "https"):
        kind, rest = "webhook", words
    rest = rest.strip()
    for name in _REFERENCE.findall(words) if kind != "command" else ():
        if name in WITHHELD:
            raise _refused(words, f"would give ${name} away, which is the database's: name another variable")
    if not colon or not rest or not words.isprintable() or len(words) > MOST:
        raise _refused(words, f"is not a channel; write {'; '.join(FORMS)}")
    match kind:
        case "webhook":
            return _webhook(words, rest)
        case "slack":
            if not _REFERENCE.fullmatch(rest):
                raise _refused(
                    "slack:...", "holds a secret: put the address in an environment variable of the "
                    "supervisors and servers, and write slack:$NAME",
                )  # fmt: skip
            return Channel(kind=kind, text=f"slack:{rest}", url=rest)
        case "email":
            return _email(words, rest)
        case "command":
            return _command(words, rest)
    raise _refused(words, f"is not a channel; write {'; '.join(FORMS)}")


def check_web_address(url: str) -> SplitResult | None:
    """The parts of an address that a webhook can have; None if it is none."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", url)
        _ = parts.port
    except ValueError:
        return None
    return parts if good and url.isprintable() and url.isascii() else None


def check_mail_server(url: str) -> SplitResult | None:
    """The parts of a mail server's address; None if it is none."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.path in ("", "/")
        good = (
            good and not parts.query and not parts.fragment and bool(parts.username) == bool(parts.password)
        )
        _ = parts.port
    except ValueError:
        return None
    return parts if good and url.isprintable() and url.isascii() else None


def _webhook(words: str, rest: str) -> Channel:
    url, signed, key = rest.partition(" signed ")
    if signed and not _REFERENCE.fullmatch(key):
        raise _refused(
            "webhook:... signed ...",
            "names its key by an environment variable of whoever sends: signed $NAME",
        )
    if not _REFERENCE.fullmatch(url):
        parts = check_web_address(url)
        if parts is None:
            raise _refused(words, "needs an address such as https://ops.example/hook, or $NAME of one")
        if "@" in parts.netloc:
            raise _refused(
                "webhook:...", "holds a password: put the address in an environment variable of the "
                "supervisors and servers, and write webhook:$NAME",
            )  # fmt: skip
    return Channel(kind="webhook", text=f"webhook:{url}{signed}{key}", url=url, key=key)


def _email(words: str, rest: str) -> Channel:
    receivers, via, rest = rest.partition(" via ")
    server, says_sender, sender = rest.partition(" from ")
    to = tuple(each.strip() for each in receivers.split(","))
    if not via or not server:
        raise _refused(words, "names no mail server: email:ADDRESS via smtp://HOST:587")
    for address in (*to, *((sender,) if says_sender else ())):
        if not _ADDRESS.fullmatch(address) or not address.isascii():
            raise _refused(
                words if "://" not in address else "email:...", f"{address[:80]!r} is no e-mail address"
            )
    if not _REFERENCE.fullmatch(server):
        parts = check_mail_server(server)
        if parts is not None and parts.password is not None and not _REFERENCE.fullmatch(parts.password):
            raise _refused(
                "email:...",
                "holds a password: write smtp://USER:$NAME@HOST, with the name of an environment variable",
            )
        if parts is None:
            raise _refused(
                "email:...",
                "needs a server such as smtp://USER:$NAME@mail.example:587, smtps://..., or $NAME of one",
            )
    text = f"email:{','.join(to)} via {server}{says_sender}{sender}"
    return Channel(kind="email", text=text, to=to, sender=sender, server=server)


def _command(words: str, rest: str) -> Channel:
    try:
        argv = tuple(shlex.split(rest))
    except ValueError as error:
        raise _refused(words, f"cannot be taken apart: {error}") from None
    if not argv or not argv[0].startswith("/") or "/../" in argv[0] + "/":
        raise _refused(words, "needs a program by its whole path, such as command:/usr/local/bin/page")
    return Channel(kind="command", text=f"command:{shlex.join(argv)}", argv=argv)


def _refused(words: str, why: str) -> UsageError:
    return UsageError(f"to: {words[:100]!r} {why}")
