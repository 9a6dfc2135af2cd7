"""What `import hotpath` gives, and what it costs a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import hotpath
from hotpath.runtime.protocol import Runtime
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate

HEAVY = {
    "trio",
    "asyncpg",
    "asyncio",
    "click",
    "rich",
    "yaml",
    "hotpath.store",
    "hotpath.worker",
    "hotpath.client",
}


@pytest.mark.parametrize("name", hotpath.__all__)
def test_public_names(name):
    """Every public name is there."""
    assert getattr(hotpath, name) is not None
    assert name in dir(hotpath)


def test_unknown_name():
    """A name that is not public is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hotpath.nothing


def test_import_is_light():
    """Importing the package, and what a script calls at module level, loads no Trio and no driver."""
    code = (
        "import hotpath, sys, json; hotpath.settings(retry=hotpath.Retry(attempts=2));"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=Path(hotpath.__file__).parents[1],
    )
    assert HEAVY & set(json.loads(done.stdout)) == set()


async def test_description_is_light(tmp_path, cold):
    """The process that describes a script loads nothing heavy either: it runs once for each version of each
    script.
    """
    seen = tmp_path / "seen"
    script = trio.Path(tmp_path / "job.py")
    await script.write_text(
        f"import json, sys\nopen({str(seen)!r}, 'w').write(json.dumps(list(sys.modules)))\ndef main(): ...\n"
    )
    await describe(locate("job", tmp_path))
    assert HEAVY & set(json.loads(seen.read_text())) == set()


def test_builtin_runtimes_fit_the_protocol():
    """The built-in runtimes are what the protocol asks for."""
    assert isinstance(hotpath.SyncRuntime(), Runtime)
    assert isinstance(hotpath.AsyncRuntime(), Runtime)
