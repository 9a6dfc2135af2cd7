"""Which of the names that a flow gives its expressions one of them uses.

JavaScript is handed only these, and of `results` only the steps that are named. So a name too many costs
time, a name too few would be an error: where the text cannot be told for sure, every word in it counts.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

ROOTS = frozenset(
    (
        "approvers", "error", "flow_env", "flow_input", "previous_result", "result", "results", "resume",
        "resumes",
    )
)  # fmt: skip
"""The names that expressions may use, each where it is there: see the semantics in `core.flow.engine`."""


class _Token(NamedTuple):
    kind: str
    """`word`, `number`, `text`, `regex` or `mark`."""
    text: str


_WORD = re.compile(r"[A-Za-z_$\u0080-\uffff][\w$]*")
_PIECE = re.compile(
    r"""(?P<space>[\s\ufeff]+|//[^\r\n\u2028\u2029]*|/\*.*?\*/)
      | (?P<text>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
      | (?P<number>(?:\d|\.\d)(?:[eE][+-]\d|[\w.])*)
      | (?P<word>[^\W\d][\w$]*|\$[\w$]*)
      | (?P<mark>\.\.\.|\?\.(?!\d)|\+\+|--|=>|[^\s\w"'`])
    """,
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:[^/\\\[\r\n]|\\[^\r\n]|\[(?:[^\]\\\r\n]|\\[^\r\n])*\])+/\w*")
_TEMPLATE = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?P<end>`|\$\{)", re.DOTALL)
_OPERATORS = frozenset(
    (
        "return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "instanceof", "do", "else",
        "await", "yield",
    )
)  # fmt: skip
"""Words behind which a slash begins a regular expression."""
_DYNAMIC = frozenset({"eval", "Function", "constructor", "arguments", "with"})
"""Words with which an expression can come to names that do not stand in it."""


@functools.lru_cache(maxsize=1024)
def _tokens(text: str) -> tuple[_Token, ...] | None:
    """The parts of an expression, without comments; None where they cannot be told for sure."""
    found: list[_Token] = []
    nested: list[int] = []  # open braces within each template that is open
    at = 0
    while at < len(text):
        character = text[at]
        if character == "`" or (character == "}" and nested and nested[-1] == 0):
            if character == "}":
                nested.pop()
            template = _TEMPLATE.match(text, at + 1)
            if template is None:
                return None
            if template["end"] == "${":
                nested.append(0)
                found.append(_Token("mark", "${"))
            else:
                found.append(_Token("text", "``"))
            at = template.end()
            continue
        piece = _PIECE.match(text, at)
        if piece is None:
            return None
        kind = piece.lastgroup or ""
        if piece[0] == "/":
            begins = _begins_regex(found, text, at)
            if begins is None:
                return None
            if begins:
                piece, kind = _REGEX.match(text, at), "regex"
                if piece is None:
                    return None
        if nested and piece[0] in ("{", "}"):
            nested[-1] += 1 if piece[0] == "{" else -1
        if piece[0] == "\\" or (kind == "word" and piece[0] in _DYNAMIC):
            return None
        if kind != "space":
            found.append(_Token(kind, piece[0]))
        at = piece.end()
    return None if nested else tuple(found)


def _begins_regex(before: list[_Token], text: str, at: int) -> bool | None:
    """Whether the slash at `at` begins a regular expression; None where that takes a parser."""
    if not before:
        return True
    last = before[-1]
    if last.kind == "mark":
        if last.text in (")", "}", "++", "--"):
            return None if "/" in re.split(r"[\r\n]", text[at + 1 :], maxsplit=1)[0] else False
        return last.text != "]"
    # a word behind a dot is a property, whatever it is called
    is_property = len(before) > 1 and before[-2].text in (".", "?.")
    return last.kind == "word" and last.text in _OPERATORS and not is_property


def words(text: str) -> frozenset[str]:
    """All names that an expression may use, and maybe some that it does not."""
    tokens = _tokens(text)
    if tokens is None:
        return frozenset(_WORD.findall(text))
    return frozenset(
        token.text
        for at, token in enumerate(tokens)
        if token.kind == "word" and not (at and tokens[at - 1].text in (".", "?."))
    )


def roots_used(text: str) -> frozenset[str]:
    """Those of `ROOTS` that an expression may use."""
    return words(text) & ROOTS


def steps_used(text: str) -> frozenset[str] | None:
    """The steps whose results an expression uses, as in `results.a` or `results["a"]`.

    None if it uses `results` in another way: then it may use any of them.
    """
    if "results" not in words(text):
        return frozenset()
    tokens = _tokens(text)
    if tokens is None:
        return None
    steps = set()
    for at, token in enumerate(tokens):
        if token != ("word", "results") or (at and tokens[at - 1].text in (".", "?.")):
            continue
        step = _step_at(tokens[at + 1 : at + 6])
        if step is None:
            return None
        steps.add(step)
    return frozenset(steps)


def _step_at(behind: tuple[_Token, ...]) -> str | None:
    """The step that is named behind `results`; None if none is."""
    match behind:
        case (("mark", "." | "?."), ("word", name), *rest):
            # `results.hasOwnProperty("a")` names no step
            called = rest and (rest[0].text == "(" or [token.text for token in rest[:2]] == ["?.", "("])
            return None if called else name
        case (("mark", "?."), *rest) | rest:
            match rest:
                case (("mark", "["), ("text", key), ("mark", "]"), *_) if key[0] != "`" and "\\" not in key:
                    return key[1:-1]
    return None
