"""What the commands of `hotpath group` read and write: flags, files, differences."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hotpath.cli.yaml_files import read_yaml, to_yaml
from hotpath.core.group_document import check_name, read_config
from hotpath.core.groups import FIELDS, PYTHON, masked
from hotpath.errors import UsageError
from hotpath.model import MASK
from hotpath.store.groups import Group

MAX_BYTES = 4 << 20
_LISTS = ("tags", "dedicated", "env_from_host", "path")
_HEAD = """\
# Worker groups, for `hotpath group import` and `hotpath group diff`. Values of `env` stand here as they are:
# what is secret belongs into the environment of the hosts, and its name into `env_from_host`.
"""


def changes_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that flags of `hotpath group set` change. Raises `UsageError` that names the flag."""
    changes: dict[str, Any] = {}
    for name, value in flags.items():
        if value is None or value == ():
            continue
        if name in _LISTS:
            changes[name] = [part.strip() for part in ",".join(value).split(",") if part.strip()]
        elif name == "env":
            changes[name] = dict(_pair(pair) for pair in value)
        elif name == "init":
            changes[name] = _script("--init", value)
        elif name == "periodic":
            changes[name] = [_periodic(text) for text in value]
        else:
            changes[name] = value
    return changes


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--env takes NAME=VALUE, not {text[:80]!r}")
    return name, value


def _script(flag: str, value: str) -> dict[str, Any]:
    if not value.startswith("@"):
        return {"text": value}
    file = Path(value[1:])
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag}: {file} cannot be read: {error}") from None
    return {"text": text} | ({"language": PYTHON} if file.suffix == ".py" else {})


def _periodic(text: str) -> dict[str, Any]:
    name, found, rest = text.partition("=")
    every, colon, script = rest.partition(":")
    if not found or not colon or not script:
        raise UsageError(f"--periodic takes NAME=EVERY:TEXT or NAME=EVERY:@FILE, not {text[:80]!r}")
    return {"name": name, "every": every} | _script("--periodic", script)


def to_file(documents: Mapping[str, Any]) -> str:
    """Groups as a file."""
    return _HEAD + to_yaml({"groups": dict(documents)})


def read_file(name: str) -> dict[str, Any]:
    """The groups of a file (`-`: stdin), by name, as documents; each is checked. Raises `UsageError` that
    names the group and the field.
    """
    groups = read_yaml(name, "group", MAX_BYTES)
    documents = {}
    for group, document in groups.items():
        try:
            check_name(group)
            documents[group] = document = {} if document is None else document
            if not isinstance(document, dict):
                raise UsageError("expected its fields")
            # A mask stands for what only the database knows: it is looked at again there.
            env = document.get("env")
            known = {key: "" for key, value in env.items() if value == MASK} if isinstance(env, dict) else {}
            read_config(document, read_config({"env": known}))
        except UsageError as error:
            raise UsageError(f"{name}: group {str(group)[:80]}: {error}") from None
    return documents


@attrs.frozen
class Difference:
    """A field of a group that is another in the file."""

    group: str
    field: str
    before: Any
    """In the database; None: it is not set there."""
    after: Any
    """In the file."""

    def text(self) -> str:
        """A unified diff."""
        before, after = (
            [] if each is None else to_yaml({self.field: each}).splitlines()
            for each in (self.before, self.after)
        )
        where = f"{self.group}.{self.field}"
        found = difflib.unified_diff(before, after, f"{where} (database)", f"{where} (file)", lineterm="")
        return "".join(f"{line}\n" for line in found)


def differences(
    groups: Mapping[str, Group], documents: Mapping[str, Any], *, reveal: bool = False
) -> list[Difference]:
    """What importing these documents would change, field by field. Raises `UsageError`."""
    found = []
    for name, document in documents.items():
        known = groups.get(name)
        old = {} if known is None else known.config.document()
        new = read_config(document, None if known is None else known.config).document()
        if known is None and not new:
            found.append(Difference(name, "(the group)", None, "nothing is set"))
        shown_old, shown_new = (old, new) if reveal else (masked(old), masked(new))
        for field in FIELDS:
            if old.get(field) == new.get(field):
                continue
            before, after = shown_old.get(field), shown_new.get(field)
            if field == "env" and not reveal:
                after = _told_apart(old.get(field) or {}, new.get(field) or {}, after)
            found.append(Difference(name, field, before, after))
    return found


def _told_apart(old: Mapping[str, str], new: Mapping[str, str], shown: Any) -> Any:
    """Masked values, those marked that are another."""
    if shown is None:
        return None
    return {
        key: mask if old.get(key, new[key]) == new[key] else f"{mask} (another)"
        for key, mask in shown.items()
    }
