"""The OpenAPI 3.1 document, made from the table of endpoints: what it says is what is done."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from hotpath import __version__
from hotpath.web.endpoints import Answer, Endpoint
from hotpath.web.problem import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{name}"
_CONVERTOR = re.compile(r":\w+}")

_GROUPS = {
    "jobs": "Jobs: put in, found, looked at, canceled, run again.",
    "scripts": "Scripts, and the schemas of their args.",
    "flows": "Flows, their runs, and what people say to those that wait.",
    "schedules": "Scripts that run at times of their own.",
    "status": "How the queue is doing.",
    "tokens": "API tokens.",
    "server": "The server itself.",
}
_WHY = {
    400: "The request is wrong: `detail` says how, `field` which field, `line` which line of the body.",
    401: "There are no credentials, or they are not good (any more).",
    403: "The credentials are good, but not for this; or the token opens nothing.",
    404: "What is asked for is not there.",
    408: "The body stopped coming.",
    409: "What it is asked for does not fit the state that it is in.",
    410: "The token was good once.",
    413: "The body, or a line of it, is too large.",
    415: "The body is not of the type that is read here.",
    422: "It was understood, and cannot be done.",
    429: "Too many requests: `Retry-After` says when to come again.",
    500: "The server failed; its log says more.",
    503: "The database is away, or too much goes on at once: `Retry-After` says when to come again.",
}
_DESCRIPTION = """\
Put jobs in, wait for them, look at them. Errors are `application/problem+json` (RFC 9457); `field` names
the field of the request that is wrong. Unknown fields and parameters are refused. Times are ISO 8601, in UTC.
Answers are not to be cached. A server that only this machine can reach asks for no credentials; any other
wants a token (`hotpath token create`) in `Authorization: Bearer`, or the cookie of a session (/login), with
one of the scopes that an operation names: `read`, `run` (includes `read`) or `admin` (includes both).
"""


def document(table: Sequence[Endpoint]) -> dict[str, Any]:
    """The document for these endpoints."""
    schemas = _Schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        path = _CONVERTOR.sub("}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    used = {endpoint.group for endpoint in table}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hotpath", "version": __version__, "summary": "A for-loop with a queue around it.",
            "description": _DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": said} for name, said in _GROUPS.items() if name in used],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {f"Problem{status}": _problem(status) for status in _WHY},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`hotpath token create`."},
                "cookie": {
                    "type": "apiKey", "in": "cookie", "name": "hotpath_session",
                    "description": "Set by /login; behind TLS its name begins with `__Host-`.",
                },
            },
        },
    }  # fmt: skip


class _Schemas:
    """JSON Schemas of all the types that the table names."""

    def __init__(self, table: Iterable[Endpoint]) -> None:
        asked = [endpoint.asked for endpoint in table if endpoint.asked is not None]
        bodies = [endpoint.body for endpoint in table if endpoint.body is not None]
        answers = [
            answer.type
            for endpoint in table
            for answer in endpoint.answers.values()
            if answer.type is not None
        ]
        types = list(dict.fromkeys([*asked, *bodies, *answers, Problem]))
        made, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._of: dict[Any, dict[str, Any]] = dict(zip(types, made, strict=True))
        self._asked = {kind: self.components.pop(kind.__name__) for kind in dict.fromkeys(asked)}
        self.components = dict(sorted(self.components.items()))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type; of a struct, a reference to it."""
        return self._of[kind]

    def parameters(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """What stands in the path and in the query string."""
        if endpoint.asked is None:
            return []
        schema = self._asked[endpoint.asked]
        path = endpoint.path
        return [
            _parameter(name, each, is_path=f"{{{name}}}" in path or f"{{{name}:" in path,
                       required=name in schema.get("required", ()))
            for name, each in schema["properties"].items()
        ]  # fmt: skip


def _parameter(name: str, schema: dict[str, Any], *, is_path: bool, required: bool) -> dict[str, Any]:
    schema = dict(schema)
    description = schema.pop("description", "")
    if schema.get("default", 0) is None:
        del schema["default"]
    if "anyOf" in schema:  # left out is none: there is no way to write null
        members = [member for member in schema.pop("anyOf") if member != {"type": "null"}]
        schema |= members[0] if len(members) == 1 else {"anyOf": members}
        description = schema.pop("description", description)
    examples = schema.pop("examples", [])
    found: dict[str, Any] = {
        "name": name, "in": "path" if is_path else "query", "required": required or is_path,
        "description": description, "schema": schema,
    }  # fmt: skip
    if examples:
        found["example"] = examples[0]
    return found


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    headers = [
        {"name": name, "in": "header", "required": False, "description": said,
         "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"}}
        for name, said in endpoint.headers.items()
    ]  # fmt: skip
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "tags": [endpoint.group],
        "summary": endpoint.summary,
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if parameters := schemas.parameters(endpoint) + headers:
        operation["parameters"] = parameters
    has_body = endpoint.body is not None or endpoint.has_lines
    if has_body:
        schema = {"type": "string"} if endpoint.has_lines else schemas.of(endpoint.body)
        content: dict[str, Any] = {"schema": schema}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        operation["requestBody"] = {"required": True, "content": {endpoint.takes: content}}
    operation["responses"] = {
        str(status): _answer(answer, schemas) for status, answer in endpoint.answers.items()
    } | {
        str(status): {"$ref": f"#/components/responses/Problem{status}"}
        for status in _may_fail(endpoint, has_body=has_body)
    }
    operation["security"] = (
        [{"bearer": [endpoint.scope]}, {"cookie": [endpoint.scope]}] if endpoint.scope else []
    )
    return operation


def _may_fail(endpoint: Endpoint, *, has_body: bool) -> list[int]:
    """Statuses of the problems that may come."""
    found = {400, 403, 429, 500, 503, *endpoint.problems}
    if endpoint.scope:
        found.add(401)
    if has_body:
        found |= {408, 413, 415}
    return sorted(found)


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        found["headers"] = _headers(answer.headers)
    schema = {"type": "string"} if answer.type is None else schemas.of(answer.type)
    if answer.media_type:
        found["content"] = {answer.media_type: {"schema": schema}}
    return found


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": said, "schema": {"type": "string"}, "required": True}
        for name, said in headers.items()
    }


def _problem(status: int) -> dict[str, Any]:
    found = _answer(Answer(f"{HTTPStatus(status).phrase}. {_WHY[status]}", media_type=""), _NO_SCHEMAS)
    found["content"] = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name=Problem.__name__)}}}
    if status in (429, 503):
        found["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "string"}, "required": False}
        }
    return found


_NO_SCHEMAS: Any = None


@functools.cache
def encoded() -> bytes:
    """The document for all that this server has, as JSON."""
    from hotpath.web.api import TABLE

    return msgspec.json.encode(document(TABLE))
