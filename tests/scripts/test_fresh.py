"""What runs is what the file holds, also where Python's bytecode of another content seems to fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import sys
from pathlib import Path
from hotpath.scripts.load import load
name, file = sys.argv[1:]
print(load(name, Path(file), Path.cwd()).main())
"""


def run(workspace: Path, name: str, file: Path) -> str:
    """What `main` returns in a process that may read and write bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = subprocess.run(
        [sys.executable, "-c", LOAD, name, str(file)],
        cwd=workspace, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return found.stdout.strip()


def put(file: Path, text: str) -> None:
    """Write it as if in the same second as ever."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (1_700_000_000, 1_700_000_000))


@pytest.mark.parametrize("name", ["f/team/score", "my-script"])
def test_a_script_saved_twice_in_a_second(tmp_path: Path, name: str) -> None:
    """The second content runs: of scripts that are imported by name, and of those loaded from their file."""
    file = tmp_path / f"{name}.py"
    put(file, "def main(): return 1\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tmp_path)], check=True)
    put(file, "def main(): return 2\n")
    assert list(tmp_path.rglob("*.pyc"))
    assert run(tmp_path, name, file) == "2"


def test_a_module_that_the_script_imports(tmp_path: Path) -> None:
    """It is compiled from its file as well, and installed packages are not: theirs may be written."""
    script = tmp_path / "job.py"
    put(script, "import helper, extra\ndef main(): return helper.N, extra.N\n")
    put(tmp_path / "helper.py", "N = 1\n")
    package = tmp_path / ".venv" / "site-packages"
    put(package / "extra.py", "N = 5\n")
    put(script, f"import sys\nsys.path.append({str(package)!r})\n" + script.read_text())
    assert run(tmp_path, "job", script) == "(1, 5)"
    put(tmp_path / "helper.py", "N = 2\n")
    assert run(tmp_path, "job", script) == "(2, 5)"
    assert [each.parent.parent.name for each in tmp_path.rglob("extra*.pyc")] == ["site-packages"]
    assert not list(tmp_path.glob("__pycache__/*"))
