"""Instructions that the server executes for a job, counted by valgrind: the same however busy the machine is.

`python -m bench.instructions [FILE.sql ...]` prints what putting a job in and claiming it take under the
schema of before there were limits, under the newest, and under the newest with each file of SQL on top, for
trying things out. Needs valgrind, and minutes. The statements run in a backend without a server around it,
some times and then more times; what is between the two counts. `python -m bench cost` has CPU and WAL.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from bench.context import connect
from bench.registry import CheckFailed
from bench.scenarios.cost import BEFORE, TOGETHER, schema_at
from hotpath.store.embedded import EmbeddedPostgres
from hotpath.store.embedded_binaries import OsUser, find_binaries, server_environment, server_user
from hotpath.store.migrate import migrations
from hotpath.store.queries import query

_NOOP = {
    "hash": "h",
    "settings": "{}",
    "schema": '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],'
    ' "order": ["n"], "additionalProperties": false}',
}
_OPTIONS = ("jit=off", "autovacuum=off", "log_min_messages=panic", "log_checkpoints=off")
_WORKER = """set plan_cache_mode = force_generic_plan;

set enable_seqscan = off;

set enable_bitmapscan = off;

"""
_CLAIM = """execute c(1, {want}, hotpath.tag_id('noop'), 1, '{{0}}', '{{-infinity}}',
'{{00000000-0000-0000-0000-000000000000}}', '{{32767,-1}}', '{{1,-32768}}', gen_random_uuid(), {lease},
null, null, null);

"""


def plain(jobs: int) -> str:
    """Jobs one by one, a transaction each."""
    prepare = "prepare e(int) as select hotpath.enqueue('noop', jsonb_build_object('n', $1));\n\n"
    return prepare + "".join(f"execute e({n});\n\n" for n in range(jobs))


def tagged(jobs: int) -> str:
    """The same with a tag, a priority, a time and a time-out."""
    more = "$1), 'noop', 3, now() + interval '1 hour', 1000)"
    return plain(jobs).replace("$1))", more)


def together(jobs: int) -> str:
    """All in one statement."""
    return TOGETHER.replace("$1::int", str(jobs)).strip() + ";\n\n"


def claim(want: int) -> Callable[[int], str]:
    """Claims of `want` loose jobs each."""

    def text(claims: int) -> str:
        prepare = f"{_WORKER}prepare c as {query('claim').rstrip()};\n\n"
        first = int.from_bytes(os.urandom(6))
        return (
            prepare
            + together(want * 100)
            + "".join(_CLAIM.format(want=want, lease=first + k) for k in range(claims))
        )

    return text


ARMS: tuple[tuple[str, Callable[[int], str], int, int], ...] = (
    ("enqueue(), one by one", plain, 20, 120),
    ("enqueue() with a tag and more", tagged, 20, 120),
    ("enqueue(), in one statement", together, 50, 450),
    ("claim of 1 loose job", claim(1), 10, 90),
    ("claim of 20 loose jobs", claim(20), 10, 90),
)


@attrs.frozen
class Counter:
    """A data directory, and who may run a backend on it."""

    postgres: Path
    data: Path
    user: OsUser | None

    def instructions(self, database: str, statements: str) -> int:
        """What a backend executes that is given these statements. Raises CheckFailed when one fails."""
        options = [word for option in _OPTIONS for word in ("-c", option)]
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
                *(str(self.postgres), "--single", "-j", "-D", str(self.data), *options, database),
            ],
            input=statements,
            text=True,
            capture_output=True,
            user=self.user.uid if self.user else None,
            group=self.user.gid if self.user else None,
            extra_groups=[] if self.user else None,
            cwd=self.data,
            env=server_environment(),
            check=False,
        )
        found = re.search(r"Collected : (\d+)", done.stderr)
        if found is None or "ERROR" in done.stdout + done.stderr:
            raise CheckFailed((done.stdout + done.stderr)[-2000:])
        return int(found[1])


async def prepare(server: EmbeddedPostgres, files: list[Path]) -> list[str]:
    """A database for each schema; their names."""
    newest = migrations()[-1][0]
    wanted = [(f"to_{BEFORE}", BEFORE, ""), (f"to_{newest}", newest, "")]
    wanted += [(file.stem, newest, file.read_text(encoding="utf-8")) for file in files]
    for name, last, sql in wanted:
        async with connect(server.dsn("postgres")) as connection:
            await connection.execute(f'create database "{name}" template template0')
        await schema_at(server.dsn(name), last, _NOOP)
        async with connect(server.dsn(name)) as connection:
            await connection.execute(sql)
            await connection.execute("vacuum analyze")
    return [name for name, _, _ in wanted]


def main(arguments: list[str]) -> None:
    """Count and print."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    home = Path(tempfile.mkdtemp(prefix="hotpath-instructions-", dir="/var/tmp"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, linger=1)
    try:
        server.start("postgres")
        names = trio.run(prepare, server, [Path(file) for file in arguments])
        user = server_user(home)
        counter = Counter(
            find_binaries(home, user, data_major=None).directory / "postgres", home / "data", user
        )
        server.stop()
        width = max(map(len, names))
        for arm, text, few, many in ARMS:
            for name in names:
                spent = counter.instructions(name, text(many)) - counter.instructions(name, text(few))
                print(f"{arm:<30}  {name:<{width}}  {spent / (many - few):>10,.0f}", flush=True)
    finally:
        server.stop()
        server.close()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
