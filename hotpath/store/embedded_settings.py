"""How the embedded server is configured: durable first, then fast for a queue, and private to one user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PORT = 5432  # only part of the socket's name: the server listens on no network address

_GiB = 1 << 30
_MiB = 1 << 20


def server_settings(*, socket_dir: Path, name: str, free_bytes: int, wal_lz4: bool) -> dict[str, str]:
    """The settings of a server whose socket is in `socket_dir`, on a disk with `free_bytes` to spare."""
    # WAL may grow to this between checkpoints; a quarter of what is free, so that a small disk is not filled
    # by WAL alone.
    max_wal = max(64 * _MiB, min(4 * _GiB, free_bytes // 4))
    return {
        # A Unix socket in a directory of mode 0700 and nothing else: no port to clash on, no password to
        # keep, nobody else gets in.
        "listen_addresses": "",
        "port": str(PORT),
        # Quoted, because the value is a list split at commas.
        "unix_socket_directories": '"' + str(socket_dir).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        # Shown by ps, and how backends that outlived a killed postmaster are told from everybody else's.
        "cluster_name": name,
        # An acknowledged enqueue survives a power cut (invariant I1). These are the defaults; said here
        # because they are a promise.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Many worker processes of two connections each, and room for people's tools.
        "max_connections": "200",
        # The hot part of a queue is small; what is cold is the operating system's to cache. Modest, for a
        # laptop shared with a browser.
        "shared_buffers": "128MB",
        # Commits of a thousand jobs write 300 kB at once; the default (1/32 of shared_buffers) would make
        # them wait for a write.
        "wal_buffers": "16MB",
        # Sorting and unnesting one claim or one page of a list in memory.
        "work_mem": "16MB",
        # A drain writes 50 MB of WAL a second. With the defaults (1 GB, 5 min) it would checkpoint every 20 s
        # and write full pages again.
        "max_wal_size": f"{max_wal // _MiB}MB",
        "min_wal_size": f"{min(512 * _MiB, max_wal // 2) // _MiB}MB",
        "checkpoint_timeout": "15min",
        # No replica and no archive reads this WAL: less of it, and none for rows copied into a table made in
        # the same transaction.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        # Full pages shrink to a third for little CPU; pglz, the only other choice on every build, costs more
        # than it saves.
        "wal_compression": "lz4" if wal_lz4 else "off",
        # Queue tables turn over completely within minutes: look at them often, and let vacuum work faster
        # than on a shared server.
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_cost_limit": "2000",
        # The statements are short and prepared; compiling one costs more than it can save, and some builds
        # cannot.
        "jit": "off",
        # Solid-state disks, as everywhere now: an index look-up into history is not four times a sequential
        # page.
        "random_page_cost": "1.1",
        # /dev/shm holds 64 MB in a container, keeps the segments of killed servers, and is wiped by logind at
        # log-out (RemoveIPC).
        "dynamic_shared_memory_type": "mmap",
        # 128 MB gain nothing from huge pages, and where a container forbids them the default, `try`, dies of
        # SIGBUS.
        "huge_pages": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


def render_settings(settings: Mapping[str, str]) -> str:
    """The text of a configuration file with these settings.

    Raises `ValueError` when a value cannot be written on one line.
    """
    lines = ["# Written by Hotpath at every start of this server: changes here are lost."]
    for name, value in settings.items():
        if "\n" in value or "\0" in value or not name.replace("_", "").replace(".", "").isalnum():
            raise ValueError(f"not a server setting: {name}")
        lines.append("{} = '{}'".format(name, value.replace("'", "''")))
    return "\n".join(lines) + "\n"
