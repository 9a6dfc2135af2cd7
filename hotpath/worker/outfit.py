"""The environment of a group's processes: what the group says, what it has passed on, and little else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hotpath.core.groups import GroupConfig
from hotpath.core.secrets import Masker, masker_of
from hotpath.errors import UsageError
from hotpath.model import Description
from hotpath.scripts.describe import describe, environment
from hotpath.scripts.load import SECRETS
from hotpath.scripts.locate import Located
from hotpath.worker.kit import Outfit

KEPT = frozenset(
    {
        "HOME", "HOSTNAME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "SSL_CERT_DIR",
        "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
    }
)  # fmt: skip
"""What is passed on without being asked for: a program that does not have these does not run."""
KEPT_FIRST = ("LC_", "PYTHON", "HOTPATH_", "OTEL_", "COVERAGE_")
"""How names begin that are passed on likewise: what Python, Hotpath and its telemetry are told."""
_SECRET = re.compile(r"(?i)pass|secret|token|key|credential|auth|dsn|url")


def make_outfit(name: str, config: GroupConfig, workspace: Path, host: Mapping[str, str]) -> Outfit:
    """What processes of this group are started with on this host. Raises `UsageError` that names a variable
    that the host does not have.
    """
    missing = [each for each in config.env_from_host if each not in host]
    if missing:
        raise UsageError(
            f"field `env_from_host`: {', '.join(missing)} is not set in the environment of this host"
        )
    found = {
        key: value
        for key, value in host.items()
        if (key in KEPT or key.startswith(KEPT_FIRST)) and key not in SECRETS
    }
    found |= {each: host[each] for each in config.env_from_host}
    found |= dict(config.env)
    found["WORKER_GROUP"] = name
    if config.path:
        before = found.get("PYTHONPATH")
        places = [str(workspace / Path(each).expanduser()) for each in config.path]
        found["PYTHONPATH"] = os.pathsep.join([*places, *([before] if before else [])])
    return Outfit(found, config.init)


async def describe_in(outfit: Outfit, located: Located) -> Description:
    """What a script is, in the environment that its workers will have. Raises `ScriptError`."""
    token = environment.set(outfit.environment)
    try:
        return await describe(located)
    finally:
        environment.reset(token)


def masker(config: GroupConfig, host: Mapping[str, str]) -> Masker:
    """Takes out of a log what its name says is a secret."""
    given = {each: host.get(each, "") for each in config.env_from_host} | dict(config.env)
    return masker_of(tuple(value for key, value in given.items() if value and _SECRET.search(key)))
