"""What every module of the project has in common."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "hotpath").rglob("*.py"))
LONGEST = 450  # lines; one idea a module


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is(module):
    """Each module opens with a docstring."""
    assert ast.get_docstring(ast.parse((ROOT / module).read_text()))


@pytest.mark.parametrize("module", [*MODULES, "dev.py", ".ci/check.py"])
def test_module_is_short(module):
    """No module outgrows what can be read in one sitting."""
    assert len((ROOT / module).read_text().splitlines()) < LONGEST


def test_distribution_offers_the_command():
    """The installed distribution is `hotpath-runtime`, and gives the command `hotpath`."""
    distribution = importlib.metadata.distribution("hotpath-runtime")
    commands = {
        entry.name: entry.value for entry in distribution.entry_points if entry.group == "console_scripts"
    }
    assert commands == {"hotpath": "hotpath.cli:main"}


def test_readme_commands_exist():
    """Every `dev.py` command that the README shows is one that `dev.py` has."""
    shown = set(re.findall(r"dev\.py ([a-z]+)", (ROOT / "README.md").read_text()))
    known = set(re.findall(r"dev\.py ([a-z]+)", ast.get_docstring(ast.parse((ROOT / "dev.py").read_text()))))
    assert {"demo", "test"} <= shown <= known
