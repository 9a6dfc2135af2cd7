"""Versions of scripts: deployed, looked at, gone back to.

No code is read or run here. What a version is (its schema, its settings) comes with it, from whoever can run
its code: `hotpath deploy --describe` prints the body that `POST` takes.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import attrs
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.names import check_name, is_pin
from hotpath.core.schema import ArgsValidator
from hotpath.documents import changed_between, seen_version_document
from hotpath.errors import ScriptError, UnknownScriptError
from hotpath.model import Description, Settings
from hotpath.scripts.settings import make_settings
from hotpath.scripts.source import check_size, hash_of
from hotpath.store import choices
from hotpath.store.limits import version_remarks
from hotpath.store.scripts import find_script, register_version, versions_of
from hotpath.web.access import principal_of
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of

_SETTING = re.compile(r"`([\w.]+)`")
# What a schema of somebody else's may make of the code that reads the words of ours.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
Name = Annotated[str, Meta(min_length=1, max_length=255, description="Name of the script.")]
Change = Literal["new", "changed", "unchanged"]
Hash = Annotated[str, Meta(pattern="^[0-9a-fA-F]{4,64}$", description="How the version's hash begins.")]


class WhichScript(msgspec.Struct, forbid_unknown_fields=True):
    """A script by its name."""

    script: Name


class Refusal(msgspec.Struct):
    """A worker that cannot run a version, and why."""

    worker: str
    error: str | None


class SeenVersion(msgspec.Struct, kw_only=True):
    """A version, and what became of it."""

    script: str
    hash: str
    """Hex SHA-256 of its source."""
    current: bool
    """Whether it is the one that runs."""
    kind: str
    is_async: bool
    summary: str
    created_at: datetime | None
    made_by: str | None
    """Who registered it: `user@host`, or a token's name."""
    chosen_at: datetime | None
    """When it last became current; null: it never was."""
    chosen_by: str | None
    rolled_back: bool
    """Whether it became so by a roll back."""
    stored: bool
    """Whether its source is in the database; if not, it cannot be gone back to."""
    pinned: bool
    workers: list[str]
    """Live workers that are dedicated to the script and run it."""
    refused_by: list[Refusal]


class SeenVersions(msgspec.Struct):
    """The versions of a script, the newest first."""

    versions: list[SeenVersion]


class NewVersion(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A version to be deployed, as `hotpath deploy --describe` prints it."""

    script: Name
    source: Annotated[str, Meta(min_length=1, description="Text of its module.")]
    settings_file: Annotated[str, Meta(description="Text of its `NAME.script.yaml`, if it has one.")] = ""
    schema: Annotated[dict[str, Any], Meta(description="JSON Schema of the args.")]
    is_async: Annotated[bool, Meta(description="Whether its `main` is.")] = False
    kind: Annotated[Literal["script", "flow"], Meta(description="`flow`: its source calls steps.")] = "script"
    settings: Annotated[
        dict[str, Any], Meta(description="What it says of itself, that file included; those that are set.")
    ] = {}
    summary: Annotated[str, Meta(max_length=500)] = ""
    hash: Annotated[str, Meta(description="If given, refused unless that is the source's.")] | None = None


class Deployed(msgspec.Struct, kw_only=True):
    """A version that is the current one now."""

    script: str
    hash: str
    change: Change
    remarks: list[str]
    """What else is to be known: of a limit's key, or of jobs that wait with keys made of other texts."""


class RollBack(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A script whose version is to be an earlier one."""

    script: Name
    to: Hash | None = None
    """By default the one that was current before."""


class RolledBack(msgspec.Struct, kw_only=True):
    """The version that is current now, and the one that was."""

    script: str
    hash: str
    before: str
    differ: list[Literal["args", "settings"]]
    """What of the two is not the same."""
    remarks: list[str]


async def list_versions(request: Request, asked: WhichScript) -> Response:
    """A script's versions: who made each and when, since when it runs, and on which workers."""
    async with state_of(request).database.connection() as connection:
        script = (await find_script(connection, asked.script)).version.script
        found = await choices.seen_versions(connection, script)
        workers = await choices.version_workers(connection, script)
    documents = [seen_version_document(asked.script, each, workers) for each in found]
    return reply(msgspec.convert({"versions": documents}, SeenVersions))


async def deploy_version(request: Request, body: NewVersion) -> Response:
    """Store a version and make it the one that runs; workers that are dedicated to the script swap it in.

    The server neither reads nor runs the source: what is said of it is believed, as far as it can be. A
    flow's file is deployed by command.
    """
    description = _described(body)
    async with state_of(request).database.connection() as connection:
        known = await versions_of(connection, description.path)
        before = next((each.version.description for each in known if each.current), None)
        await register_version(connection, description, deploy=True, by=_who(request))
        remarks = await version_remarks(connection, before, description)
    same = before is not None and before.hash == description.hash
    change: Change = "new" if before is None else "unchanged" if same else "changed"
    return reply(Deployed(script=description.path, hash=description.hash, change=change, remarks=remarks))


async def roll_back(request: Request, body: RollBack) -> Response:
    """Make an earlier version the one that runs: that which was it before, or the one that is named."""
    async with state_of(request).database.connection() as connection:
        try:
            done = await choices.roll_back(connection, body.script, body.to, by=_who(request))
        except UnknownScriptError as error:
            field = "script" if body.to is None or str(error).startswith("no script") else "to"
            raise ProblemError(
                404, "No such version", str(error), type="unknown-script", field=field
            ) from None
        except ScriptError as error:
            wrong = "script" if is_pin(body.script) else None if body.to is None else "to"
            raise ProblemError(
                422, "The script cannot be used", str(error), type="bad-script", field=wrong
            ) from None
        before, after = done.before.description, done.after.description
        remarks = await version_remarks(connection, before, after)
    differ = changed_between(before, after)
    return reply(
        RolledBack(script=body.script, hash=after.hash, before=before.hash, differ=differ, remarks=remarks)
    )


def _described(body: NewVersion) -> Description:
    """The version that is meant. Raises `ProblemError` that names the field."""
    try:
        name = check_name(body.script)
    except ScriptError as error:
        raise _refused("script", str(error)) from None
    source, overrides = body.source.encode(), body.settings_file.encode()
    try:
        check_size(name, len(source) + len(overrides))
    except ScriptError as error:
        raise _refused("source", str(error)) from None
    found = hash_of(source, overrides)
    if body.hash not in (None, found):
        raise _refused("hash", f"field `hash`: the source's is {found}: send both as they were described")
    if body.schema.get("type") != "object":
        raise _refused("schema", "field `schema`: args are an object: `type` must be that")
    try:
        ArgsValidator(body.schema)
    except _UNREADABLE as error:
        raise _refused("schema", f"field `schema`: it cannot be read: {error}") from None
    files = [(f"{name}.py", source), *([(f"{name}.script.yaml", overrides)] if overrides else [])]
    return Description(
        path=name, hash=found, is_async=body.is_async, schema=body.schema, settings=_settings(body.settings),
        summary=body.summary, kind=body.kind, files=tuple(files),
    )  # fmt: skip


def _settings(given: dict[str, Any]) -> Settings:
    try:
        # Twice, since texts of programs and of people differ: spans are seconds here.
        made = msgspec.convert(given, Settings)
        _refuse_unknown(given, made, "settings")
        return make_settings(attrs.asdict(made, recurse=False), "settings")
    except msgspec.ValidationError as error:
        raise _refused("settings", f"field `settings`: {error}") from None
    except ScriptError as error:
        named = _SETTING.search(str(error))
        raise _refused(f"settings.{named[1]}" if named else "settings", str(error)) from None


def _refuse_unknown(given: dict[str, Any], made: Any, where: str) -> None:
    """Name a field of these settings that there is none of: the conversion has passed over it."""
    known = [field.name for field in attrs.fields(type(made))]
    for name, value in given.items():
        if name not in known:
            at = f"{where}.{name}"
            raise _refused(at, f"field `{at}` is unknown; known are {', '.join(known)}")
        if isinstance(value, dict):
            _refuse_unknown(value, getattr(made, name), f"{where}.{name}")


def _refused(field: str, detail: str) -> ProblemError:
    return ProblemError(400, "The version is not accepted", detail, field=field)


def _who(request: Request) -> str:
    return principal_of(request).name[:200]


_VERSIONS = f"{PREFIX}/versions"
_EXAMPLE = {
    "script": "f/team/double", "source": "def main(x: int) -> int:\n    return 2 * x\n",
    "schema": {
        "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"],
        "additionalProperties": False,
    },
}  # fmt: skip
TABLE = [
    Endpoint(
        method="GET", path=_VERSIONS, handler=list_versions, scope="read", group="scripts", problems=(404,),
        answers={200: Answer("The versions.", SeenVersions)},
    ),
    Endpoint(
        method="POST", path=_VERSIONS, handler=deploy_version, scope="admin", group="scripts",
        example=_EXAMPLE, answers={200: Answer("It is the current one.", Deployed)},
    ),
    Endpoint(
        method="POST", path=f"{_VERSIONS}/rollback", handler=roll_back, scope="admin", group="scripts",
        problems=(404, 422), example={"script": "f/team/double"},
        answers={200: Answer("It is the current one.", RolledBack)},
    ),
]  # fmt: skip
