"""What `hotpath deploy compose` writes: PostgreSQL, the schema, the server, a service for each worker group.

No secret is in it: they come from `hotpath.env` and from a file with the password, which somebody makes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from hotpath.cli.platform import HEAD, HOME, PORT, PROBES, USER, Document, PlatformGroup, to_yaml
from hotpath.core.scaling import commands
from hotpath.worker.signs import ALIVE

ENV, PASSWORD = "hotpath.env", "postgres_password.txt"
_POSTGRES = "postgres:17-alpine"


def compose(groups: Sequence[PlatformGroup], image: str, context: str, dockerfile: str) -> dict[str, str]:
    """Files by name. `context` is the directory of the scripts, seen from that of the files; `dockerfile` is
    seen from there.
    """
    program = functools.partial(_program, image, {"context": context, "dockerfile": dockerfile})
    services: Document = {
        "postgres": {
            "image": _POSTGRES,
            "environment": {
                "POSTGRES_USER": "hotpath",
                "POSTGRES_DB": "hotpath",
                "POSTGRES_PASSWORD_FILE": "/run/secrets/postgres_password",
            },
            "secrets": ["postgres_password"],
            "volumes": ["postgres:/var/lib/postgresql/data"],
            "shm_size": "256m",
            "healthcheck": _health(["CMD-SHELL", "pg_isready -U hotpath -d hotpath"], start="60s"),
            "restart": "unless-stopped",
        },
        "migrate": program(["hotpath", "migrate"])
        | {"depends_on": {"postgres": {"condition": "service_healthy"}}, "restart": "no"},
        "serve": program(["hotpath", "serve", "--host", "0.0.0.0", "--port", str(PORT)])
        | {
            "depends_on": _after_migration(),
            "ports": [f"127.0.0.1:{PORT}:{PORT}"],
            "healthcheck": _health(["CMD", "python", "-c", _ask("/readyz")], start="60s"),
            "stop_grace_period": "20s",
        },
    }
    for group in groups:
        alive = f"{PROBES}/{ALIVE}"
        services[f"worker-{group.label}"] = program(group.command()) | {
            "depends_on": _after_migration(),
            "deploy": {"replicas": max(commands(group.scale.min_workers, group.scale), 1)},
            "healthcheck": _health(["CMD-SHELL", f'test -n "$$(find {alive} -mmin -1)"'], start="300s"),
            "stop_grace_period": f"{group.stop_seconds}s",
        }
    document: Document = {
        "services": services,
        "secrets": {"postgres_password": {"file": f"./{PASSWORD}"}},
        "volumes": {"postgres": {}},
    }
    comment = (
        f"Before the first start: make {PASSWORD} and {ENV} (like {ENV}.example), and with them a token,\n"
        "as callers of the server need one:\n"
        "docker compose run --rm serve hotpath token create admin --scope admin\n"
        "More workers: docker compose up -d --scale worker-default=4"
    )
    return {
        "docker-compose.yaml": to_yaml([(comment, document)]),
        f"{ENV}.example": (
            f"{HEAD}\n# Copy it to {ENV}, with the password that is in {PASSWORD}.\n"
            "# Both stay out of version control.\n"
            "HOTPATH_DATABASE_URL=postgresql://hotpath:PASSWORD@postgres:5432/hotpath\n"
            "HOTPATH_LOG_FORMAT=json\nHOTPATH_LOG_LEVEL=info\n"
        ),
    }


def _program(image: str, build: Document, command: list[str]) -> Document:
    return {
        "image": image,
        "build": build,
        "command": command,
        "env_file": [ENV],
        "user": f"{USER}:{USER}",
        "read_only": True,
        "tmpfs": ["/tmp", f"{HOME}:exec,uid={USER},gid={USER}", f"{PROBES}:uid={USER},gid={USER},mode=755"],  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
    }


def _after_migration() -> Document:
    return {"migrate": {"condition": "service_completed_successfully"}}


def _health(test: list[str], *, start: str) -> Document:
    return {"test": test, "interval": "10s", "timeout": "5s", "retries": 3, "start_period": start}


def _ask(path: str) -> str:
    return f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}{path}', timeout=4)"
