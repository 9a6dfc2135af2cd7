"""The command as a user runs it: a subprocess, with a fresh database and a workspace of its own."""

import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import attrs
import pytest
from warm import run_hotpath

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

SCRIPTS = {
    "add.py": '''
        """Numbers."""
        def main(x: int, y: int = 1) -> int:
            """Add two numbers."""
            print("adding", x, y)
            return x + y
    ''',
    "fail.py": """
        def helper(x):
            raise ValueError(f"no {x}")

        def main(x: int, name: str = "", maybe: list[int] | None = None):
            print("trying", repr(name), maybe)
            return helper(x)
    """,
    "echo.py": """
        def main(**kwargs):
            return kwargs
    """,
    "broken.py": """
        import no_such_module

        def main(): ...
    """,
    "helper.py": """
        def clean(text):
            return text
    """,
}


@attrs.frozen
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def documents(self):
        """The JSON documents it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self):
        """Its one line of error, without `hotpath: `."""
        (line,) = self.err.splitlines()
        assert line.startswith("hotpath: ")
        return line.removeprefix("hotpath: ")


@pytest.fixture
def workspace(tmp_path):
    """A directory with scripts."""
    directory = tmp_path / "workspace"
    directory.mkdir()
    for name, source in SCRIPTS.items():
        (directory / name).write_text(textwrap.dedent(source))
    return directory


@pytest.fixture
def environment(database_url, workspace):
    """The environment of a user with this database and workspace."""
    return os.environ | {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(workspace)}


@pytest.fixture
def hotpath(environment, tmp_path):
    """Runs `hotpath ARGUMENTS` to its end."""

    def run(*arguments, stdin=b"", **changes):
        given = stdin.encode() if isinstance(stdin, str) else stdin
        arguments = [str(each) for each in arguments]
        done = run_hotpath(*arguments, stdin=given, env=environment | changes, cwd=tmp_path)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """What a shell puts in the background has SIGINT ignored, and its children inherit that: not here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
