"""What manifests for Kubernetes and for Compose have in common: groups, names, the image, how files are
written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from hotpath.core.groups import DEFAULT_GROUP
from hotpath.core.scaling import Scale, check_group
from hotpath.errors import UsageError
from hotpath.version import __version__

HEAD = f"# Written by `hotpath deploy` {__version__}"
"""First line of every file: what begins otherwise is somebody else's, and is not overwritten."""
GRACE = 30.0
"""Seconds that jobs get at SIGTERM, where the group does not say otherwise."""
SLACK = 15
"""Seconds more until the platform kills: the flush, and the last words to the database."""
USER = 10001
"""Whom the image runs as: nobody that the host knows."""
WORKSPACE, HOME, PROBES = "/workspace", "/home/hotpath", "/run/hotpath"
PORT = 8765
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_TAKEN = frozenset({"serve"})
"""Labels of what is no group."""
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}")

Document = dict[str, Any]


@attrs.frozen
class PlatformGroup:
    """A worker group as manifests need it."""

    name: str
    scale: Scale = attrs.field(factory=Scale)
    grace: float = GRACE
    is_configured: bool | None = None
    """By `hotpath group set`; None: no database says."""

    @property
    def label(self) -> str:
        """The name as the platforms take it: a DNS label, another one for each group."""
        if _NAME.fullmatch(self.name) and self.name not in _TAKEN:
            return self.name
        short = re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")[:30].strip("-") or "group"
        return f"{short}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"

    @property
    def stop_seconds(self) -> int:
        """How long after SIGTERM the platform kills: later than the grace."""
        return int(self.grace + 0.999) + SLACK

    def command(self) -> list[str]:
        """What runs in a container of the group."""
        return ["hotpath", "worker", "--group", self.name]


def default_image() -> str:
    """The image that the Dockerfile is built as, if nobody says otherwise."""
    return f"hotpath:{__version__}"


def check_image(image: str) -> str:
    """The same, if it can be the name of an image. Raises `UsageError`."""
    if not _IMAGE.fullmatch(image):
        raise UsageError(
            f"--image takes a name such as registry.example/team/hotpath:1.2, not {image[:60]!r}"
        )
    return image


def check_namespace(namespace: str) -> str:
    """The same, if it can be a namespace. Raises `UsageError`."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise UsageError(
            f"--namespace takes a DNS label (a-z, 0-9, -; 63 characters at most), not {namespace[:70]!r}"
        )
    return namespace


async def find_groups(config: Any, names: Sequence[str]) -> list[PlatformGroup]:
    """These groups, or all that the database knows, with their scale and their grace; with the defaults
    where no database is named.
    """
    for name in names:
        check_group(name)
    if config.database_url is None:
        return [PlatformGroup(name) for name in dict.fromkeys(names)] or [PlatformGroup(DEFAULT_GROUP)]
    from hotpath.store.database import open_database
    from hotpath.store.groups import find_group
    from hotpath.store.scaling import read_groups, read_scaling

    found = []
    async with open_database(config) as database, database.connection() as connection:
        for name in dict.fromkeys(names or await read_groups(connection) or [DEFAULT_GROUP]):
            group = await find_group(connection, name)
            grace = group.config.grace if group is not None else None
            scale = (await read_scaling(connection, name)).scale
            found.append(
                PlatformGroup(name, scale, GRACE if grace is None else grace, is_configured=group is not None)
            )
    return found


def note_unconfigured(groups: Sequence[PlatformGroup]) -> str | None:
    """What is to be said of groups whose workers will not start; None: nothing."""
    lacking = [one for one in groups if not one.is_configured and one.name != DEFAULT_GROUP]
    if not lacking:
        return None
    which = ", ".join(one.name for one in lacking)
    known = "not configured" if lacking[0].is_configured is False else "to be configured first"
    return f"{known}, or no worker of it starts: {which}; hotpath group set {lacking[0].name} --tags A,B"


def to_yaml(documents: Iterable[tuple[str, Document]]) -> str:
    """Documents, each with what is to be said of it above it."""
    texts = []
    for comment, document in documents:
        lines = [f"# {line}".rstrip() for line in comment.splitlines()]
        text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        texts.append("\n".join([*lines, text]))
    return HEAD + "\n" + "---\n".join(texts)


class _Dumper(yaml.SafeDumper):
    """Lists stand within what they belong to, texts of several lines as they are, nothing by reference."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002
        super().increase_indent(flow, False)


# Texts that other readers of YAML take for something else, and PyYAML does not: y and n are truths to YAML
# 1.1, 1e3 and 0o17 are numbers to YAML 1.2. A resolver has them quoted.
for _tag, _text, _first in (
    ("bool", r"[yYnN]", "yYnN"),
    ("float", r"[-+]?[0-9][0-9.]*[eE][-+]?[0-9]+", "-+0123456789"),
    ("int", r"0o[0-7]+", "0"),
):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_text})\Z"), list(_first))


def write_files(directory: Path, files: Mapping[str, str]) -> list[Path]:
    """Write them. Raises `UsageError` that names a file that is there and was not written by this command."""
    for name in files:
        path = directory / name
        try:
            if path.exists() and not path.read_text(errors="replace").startswith(HEAD.rsplit(" ", 1)[0]):
                raise UsageError(
                    f"{path} was not written by `hotpath deploy`: move it away, or give another -o"
                )
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    written = []
    for name, text in files.items():
        path = directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"-o {directory} cannot be written to: {error.strerror}") from error
        written.append(path)
    return written


def dockerfile(place: str, workspace: Path, image: str | None = None) -> str:
    """How the image is made: the program, the scripts' own requirements, the scripts; no root, no secret."""
    wheel = next((path.name for path in sorted(workspace.glob("hotpath_runtime-*.whl"), reverse=True)), None)
    has_requirements = (workspace / "requirements.txt").is_file()
    first = [name for name in (wheel, "requirements.txt" if has_requirements else None) if name]
    install = "pip install --no-cache-dir --disable-pip-version-check"
    lines = [
        HEAD,
        f"# Build it where the scripts are: docker build -f {place} -t {image or default_image()} .",
        "FROM python:3.12-slim",
        "",
        "# What pip is to install: a release, or a wheel beside the scripts.",
        f"ARG HOTPATH={f'./{wheel}' if wheel else f'hotpath-runtime=={__version__}'}",
        "",
        f"RUN useradd --uid {USER} --user-group --create-home --home-dir {HOME} hotpath \\",
        f"    && mkdir -p {WORKSPACE} {PROBES} && chown {USER}:{USER} {PROBES}",
        f"WORKDIR {WORKSPACE}",
        "",
        "# What scripts import comes before the scripts: it changes less often.",
        *([f"COPY {' '.join(first)} ./"] if first else []),
        f'RUN {install} "$HOTPATH"' + (" -r requirements.txt" if has_requirements else ""),
        "COPY . .",
        "",
        f"ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME={HOME} HOTPATH_WORKSPACE={WORKSPACE} \\",
        f"    HOTPATH_HOME={HOME}/.local/share/hotpath HOTPATH_PROBE_DIR={PROBES}",
        f"USER {USER}:{USER}",
        "# The command is the first process and gets SIGTERM itself.",
        'CMD ["hotpath", "--help"]',
    ]
    return "\n".join(lines) + "\n"


def dockerignore() -> str:
    """What has no business in the image."""
    return (
        f"{HEAD}\n.git\n.venv\n__pycache__\n*.pyc\n.env\n*.env\n*.pem\nhotpath.env\npostgres_password.txt\n"
    )
