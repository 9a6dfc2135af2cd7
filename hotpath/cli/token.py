"""`hotpath token`: who may use `hotpath serve`, and for what."""

from __future__ import annotations

import click

from hotpath.cli.options import Given, common

SCOPES = ("read", "run", "admin")
NEVER = "never"
DEFAULT_EXPIRES = "90d"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.group("token")
def command() -> None:
    """Make, list and revoke the tokens that open `hotpath serve`."""


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What it may do: look; put jobs in and act on them; deploy, configure and make tokens. Each "
    "includes those before it. [read]",
)
@click.option(
    "--expires",
    default=DEFAULT_EXPIRES,
    metavar="SPAN",
    help=f"How long it is good: 12h, 30d, 8w, or {NEVER}. [{DEFAULT_EXPIRES}]",
)
@common
def create(given: Given, *, name: str, scopes: tuple[str, ...], expires: str) -> int:
    """Make a token called NAME and print it, once: only its hash is kept."""
    return given.run(_create, given, name, scopes or ("read",), _seconds(expires))


@command.command("list")
@click.option("--all", "revoked", is_flag=True, help="Those that are revoked too.")
@common
def list_(given: Given, *, revoked: bool) -> int:
    """List the tokens, without their secrets."""
    return given.run(_list, given, revoked)


@command.command("revoke")
@click.argument("token", metavar="ID|NAME")
@common
def revoke(given: Given, *, token: str) -> int:
    """Revoke a token: within 5 seconds it opens nothing, and ends the sessions that it began."""
    return given.run(_revoke, given, token)


async def _create(given: Given, name: str, scopes: tuple[str, ...], expires: float | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.tokens import create_token, token_document
    from hotpath.words import clock

    async with open_database(given.config) as database, database.connection() as connection:
        text, token = await create_token(connection, name, scopes, expires)
    if given.json:
        print_json(token_document(token) | {"token": text})
    else:
        until = "never" if token.expires_at is None else clock(token.expires_at)
        click.echo(
            f"hotpath: this is shown once; scopes {', '.join(token.scopes)}; expires {until}", err=True
        )
        print(text)
    return 0


async def _list(given: Given, revoked: bool) -> int:  # noqa: FBT001 - called by `given.run`
    from hotpath.cli.output import print_json, print_table
    from hotpath.store.database import open_database
    from hotpath.store.tokens import list_tokens, token_document
    from hotpath.words import clock

    async with open_database(given.config) as database, database.connection() as connection:
        tokens = await list_tokens(connection, revoked=revoked)
    if given.json:
        for token in tokens:
            print_json(token_document(token))
        return 0
    print_table(
        ("ID", "NAME", "SCOPES", "STATE", "EXPIRES", "LAST USED", "CREATED"),
        [
            (
                token.id,
                token.name,
                ",".join(token.scopes),
                token.state,
                "never" if token.expires_at is None else clock(token.expires_at),
                clock(token.last_used_at),
                clock(token.created_at),
            )
            for token in tokens
        ],
    )
    return 0


async def _revoke(given: Given, token: str) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.store.database import open_database
    from hotpath.store.tokens import revoke_token, token_document

    async with open_database(given.config) as database, database.connection() as connection:
        revoked = await revoke_token(connection, token)
    if given.json:
        print_json(token_document(revoked))
    else:
        print(printable(f"revoked {revoked.id} ({revoked.name}); servers heed it within 5 s"))
    return 0


def _seconds(text: str) -> float | None:
    """A span such as `30d` in seconds; None for `never`. Raises `click.UsageError`."""
    if text == NEVER:
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.replace(".", "", 1).isdecimal() or not number.isascii():
        raise click.UsageError(f"--expires takes a span such as 12h, 30d or 8w, or `{NEVER}`, not {text!r}")
    return float(number) * unit
