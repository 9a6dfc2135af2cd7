"""What a script says of its own dependencies: inline metadata by PEP 723, a block of comments that begins
with `# /// script` and ends with `# ///`, and holds TOML: `dependencies` and `requires-python`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence

import attrs

from hotpath.errors import ScriptError

_BLOCK = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
)  # PEP 723's own
_CLAUSE = re.compile(r"(~=|===?|!=|<=|>=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?")


@attrs.frozen
class Inline:
    """The metadata of a script, or of several that run in one process."""

    dependencies: tuple[str, ...] = ()
    """As PEP 508 writes them, sorted."""
    requires: tuple[str, ...] = ()
    """What each says of the Python that it needs, such as `>=3.11`."""


def read_inline(source: bytes, name: str) -> Inline | None:
    """The metadata in a script's source; None if it has none. `ScriptError` that names what is wrong."""
    if b"# /// script" not in source:
        return None
    text = source.decode("utf-8", "replace").replace("\r\n", "\n")
    blocks = [block for block in _BLOCK.finditer(text) if block["type"] == "script"]
    if not blocks:
        return None
    if len(blocks) > 1:
        raise ScriptError(f"{name} has more than one block `# /// script`: keep one")
    lines = blocks[0]["content"].splitlines()
    content = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    try:
        found = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"{name}: its block `# /// script` is not TOML: {error}") from None
    dependencies, requires = found.get("dependencies", []), found.get("requires-python")
    if not isinstance(dependencies, list) or not all(isinstance(each, str) for each in dependencies):
        raise ScriptError(f"{name}: `dependencies` in its block `# /// script` must be a list of texts")
    for each in dependencies:
        if not re.match(r"\s*[A-Za-z0-9]", each) or "\n" in each or "\r" in each:
            raise ScriptError(f"{name}: {each!r} in `dependencies` is not the name of a package")
    if requires is not None and not isinstance(requires, str):
        raise ScriptError(f'{name}: `requires-python` must be a text such as ">=3.11"')
    if requires is not None:
        fault_of_python(requires, (3, 11), name)  # whether it can be read
    return Inline(
        tuple(sorted({each.strip() for each in dependencies})), (requires,) if requires is not None else ()
    )


def together(several: Iterable[Inline | None]) -> Inline | None:
    """What scripts that run in one process need together; None if none says anything."""
    given = [each for each in several if each is not None]
    if not given:
        return None
    dependencies = sorted({each for one in given for each in one.dependencies})
    requires = sorted({each for one in given for each in one.requires})
    return Inline(tuple(dependencies), tuple(requires))


def fault_of_python(requires: str, version: Sequence[int], name: str) -> str | None:
    """Why this version of Python will not do; None if it will. `ScriptError` for what cannot be read."""
    for clause in filter(None, (part.strip() for part in requires.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ScriptError(f'{name}: `requires-python` must be like ">=3.11", not {requires!r}')
        if not _holds(match[1], tuple(map(int, match[2].split("."))), version, wild=match[3] is not None):
            return f"needs Python {requires}"
    return None


def _holds(sign: str, wanted: tuple[int, ...], version: Sequence[int], *, wild: bool) -> bool:
    length = max(len(wanted), len(version))
    have, want = ((*each, *[0] * (length - len(each))) for each in (version, wanted))
    match sign:
        case "==" | "===":
            return tuple(version[: len(wanted)]) == wanted if wild else have == want
        case "!=":
            return tuple(version[: len(wanted)]) != wanted if wild else have != want
        case "~=":
            return have >= want and tuple(version[: len(wanted) - 1]) == wanted[:-1]
        case "<":
            return have < want
        case ">":
            return have > want
        case "<=":
            return have <= want
    return have >= want
