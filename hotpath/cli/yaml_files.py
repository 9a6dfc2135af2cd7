"""Files of YAML that commands write and read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from hotpath.errors import UsageError


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as they are read."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


class _TwiceError(yaml.MarkedYAMLError):
    """Something stands twice in a mapping."""


class _Loader(yaml.SafeLoader):
    """What stands twice in a mapping is refused: of the two, YAML would drop the first without a word."""


def _once(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise _TwiceError(
                    problem=f"`{key.value[:80]}` stands there twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, key.value))
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)


def to_yaml(value: Any) -> str:
    """A document as YAML, its fields in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def write_file(name: str, text: str) -> None:
    """Write it whole or not at all, for its owner alone. Raises `UsageError`."""
    file = Path(name)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"--output: {name} cannot be written: {error}") from None


def read_yaml(name: str, kind: str, most: int) -> dict[Any, Any]:
    """What stands below `KINDs:`, the only field of a file (`-`: stdin) of `most` bytes; or UsageError."""
    try:
        raw = sys.stdin.buffer.read(most + 1) if name == "-" else Path(name).read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from None
    if len(raw) > most:
        raise UsageError(f"{name} is longer than {most >> 20} MiB")
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", error)
        if isinstance(error, _TwiceError):
            raise UsageError(f"{name}{where}: {problem}: leave one of them out") from None
        raise UsageError(f"{name}{where}: not YAML: {problem}") from None
    found = content.get(f"{kind}s") if isinstance(content, dict) else None
    if not isinstance(found, dict) or len(content) > 1:
        raise UsageError(f"{name}: expected `{kind}s:`, and below it each {kind} by its name")
    return found
