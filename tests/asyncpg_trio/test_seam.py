"""The few names that the protocol takes from asyncio are answered by us under Trio, and only there."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, sys, asyncpg, trio
from hotpath import asyncpg_trio
dsn = sys.argv[1]

async def on_trio():
    connection = await asyncpg_trio.connect(dsn)
    await connection.execute("create temp table t(a int, b text)")
    await connection.executemany("insert into t values($1, $2)", [(i, "x" * 100) for i in range(20000)])
    total = await connection.fetchval("select count(*) from t")
    await connection.close()
    return total

async def on_asyncio():
    connection = await asyncpg.connect(dsn)
    await connection.execute("create temp table t(a int, b text)")
    await connection.executemany("insert into t values($1, $2)", [(i, "x" * 100) for i in range(20000)])
    async def chunks():
        for i in range(10):
            yield b"1\\tq\\n"
    await connection.copy_to_table("t", source=chunks())
    async def sink(data):
        await asyncio.sleep(0)
    await connection.copy_from_query("select * from t", output=sink)
    try:
        await asyncio.wait_for(connection.execute("select pg_sleep(10)"), 0.1)
    except TimeoutError:
        pass
    total = await connection.fetchval("select count(*) from t")
    await connection.close()
    return total

print(trio.run(on_trio), asyncio.run(on_asyncio()), trio.run(on_trio))
"""


def test_asyncpg_on_asyncio_still_works(cluster):
    """In one process, asyncpg runs on asyncio as ever, before and after this package has run on Trio."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, cluster.dsn()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["20000", "20010", "20000"]


def test_nothing_of_the_package_it_is_in():
    """The package can be lifted out: it imports nothing of hotpath but itself."""
    from pathlib import Path

    from hotpath import asyncpg_trio

    for module in Path(asyncpg_trio.__file__).parent.glob("*.py"):
        for line in module.read_text().splitlines():
            assert not line.lstrip().startswith(("import hotpath", "from hotpath", "from ..")), (module, line)


NO_LOOP = """
import asyncio, asyncio.events

def refuse(*_, **__):
    raise AssertionError("somebody wants an asyncio loop")

asyncio.BaseEventLoop.__init__ = refuse
names = "new_event_loop get_event_loop get_running_loop _get_running_loop _set_running_loop"
for module in (asyncio, asyncio.events):
    for name in names.split():
        setattr(module, name, refuse)
"""


def test_readme_example_runs_without_any_loop(cluster):
    """The example in README.md works as it is written, where whoever makes or asks for a loop is refused."""
    from pathlib import Path

    from hotpath import asyncpg_trio

    readme = Path(asyncpg_trio.__file__).with_name("README.md").read_text()
    example = readme.split("```python\n")[1].split("```")[0]
    address = "postgresql://postgres@localhost/postgres"
    assert address in example
    program = NO_LOOP + example.replace(address, cluster.dsn())
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PGHOST": "127.0.0.1",
            "PGPORT": str(cluster.port),
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
