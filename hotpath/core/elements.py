"""The elements of a JSON array of args, however deep one of them is nested.

SQL can put in args that are nested deeper than Python reads: those of their neighbours are read all the same.
"""

from __future__ import annotations

import re

import msgspec

SURE = 200
"""Brackets with which a document cannot be nested too deeply."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]')
"""A text of a JSON document, or what is between values."""


def elements_of(document: bytes) -> list[msgspec.Raw]:
    """The elements of a JSON array, as they are written. Raises `msgspec.DecodeError` if it is none."""
    try:
        return msgspec.json.decode(document, type=list[msgspec.Raw])
    except RecursionError:
        return [msgspec.Raw(element) for element in _scanned(document)]


def is_too_deep(document: bytes) -> bool:
    """Whether a JSON document is nested deeper than Python reads."""
    if document.count(b"[") + document.count(b"{") < SURE:
        return False
    try:
        msgspec.json.decode(document)
    except RecursionError:
        return True
    return False


def _scanned(document: bytes) -> list[bytes]:
    """Those of what is JSON for sure, as the database has read it."""
    found: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(document):
        match token.group():
            case b"[" | b"{":
                depth += 1
                if depth == 1:
                    start = token.end()
            case b"]" | b"}":
                depth -= 1
                if not depth:
                    found.append(document[start : token.start()])
            case b"," if depth == 1:
                found.append(document[start : token.start()])
                start = token.end()
    return found
