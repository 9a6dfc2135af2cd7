"""`hotpath resume`: give or refuse the approval that a run waits for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs
import click

from hotpath.cli.options import Given, common


@click.command("resume")
@click.argument("target", metavar="RUN|TOKEN")
@click.argument("payload", required=False, metavar="[JSON]")
@click.option("--step", metavar="KEY", help="Which step's approval, if the run waits for several.")
@click.option("--disapprove", is_flag=True, help="Refuse it; as a rule the run then fails.")
@click.option("--approver", default="", metavar="NAME", help="Who says so; the flow sees it.")
@click.option(
    "--token", "wants_token", is_flag=True, help="Print a token that lets somebody else answer, once."
)
@click.option("--expires", type=float, metavar="S", help="Seconds the token is good. [while the run waits]")
@common
def command(
    given: Given,
    *,
    target: str,
    payload: str | None,
    step: str | None,
    disapprove: bool,
    approver: str,
    wants_token: bool,
    expires: float | None,
) -> int:
    """Answer the run RUN, which waits for an approval, or the one that TOKEN is for.

    JSON is what the flow gets to see as `resume`; it must fit the step's form, if there is one. Exits 1 if
    the run is not suspended, or the token is forged, expired or used.
    """
    run = _run_id(target)
    if wants_token:
        if run is None:
            raise click.UsageError(f"--token takes the id of a run, not {_short(target)}")
        if payload is not None or disapprove or approver:
            raise click.UsageError("--token takes no JSON, --disapprove or --approver: who has it says those")
        return given.run(_print_token, given, run, step, expires)
    if expires is not None:
        raise click.UsageError("--expires is of a token: give --token too")
    if run is None and step is not None:
        raise click.UsageError("a token is for one step already; leave out --step")
    answer = Answer(payload=read_payload(payload), approve=not disapprove, approver=approver)
    return given.run(_answer, given, run or target, step, answer)


@attrs.frozen
class Answer:
    """What is to be said to the run."""

    payload: Any
    approve: bool
    approver: str


async def _answer(given: Given, target: UUID | str, step: str | None, answer: Answer) -> int:
    from hotpath.cli.output import print_json
    from hotpath.client import open_client

    said = attrs.asdict(answer, recurse=False)
    async with open_client(config=given.config) as client:
        if isinstance(target, UUID):
            run, key = target, await client.resume(target, step=step, **said)
        else:
            token = await client.resume_by_token(target, **said)
            run, key = token.run, token.key
    if given.json:
        print_json({"id": run, "step": key, "approved": answer.approve})
    else:
        print(f"{run} {'approved' if answer.approve else 'disapproved'} behind step {key}")
    return 0


async def _print_token(given: Given, run: UUID, step: str | None, expires: float | None) -> int:
    from datetime import UTC, datetime, timedelta

    from hotpath.cli.output import print_json
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        text, token = await client.new_token(run, step, expires=expires)
    if given.json:
        until = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=token.expires_us)
        print_json({"id": run, "step": token.key, "token": text, "expires": until})
    else:
        print(text)
    return 0


def read_payload(text: str | None) -> Any:
    """The value that the command line means; None for nothing. Raises `BadArgsError`."""
    import msgspec

    from hotpath.errors import BadArgsError

    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadArgsError(f"the payload is not JSON: {error}; text needs quotes: '\"yes\"'") from None


def _run_id(target: str) -> UUID | None:
    try:
        return UUID(target)
    except ValueError:
        return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
