"""The lock files pin everything by hash, for every platform, and name no index and no machine."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins(lock: Path) -> dict[str, tuple[str, int]]:
    """A lock's packages: name to (version, number of hashes)."""
    entries = re.split(r"\n(?=\S)", lock.read_text())
    found = {}
    for entry in entries:
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry):
            found[canonicalize_name(match[1])] = (match[2], entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock_names_no_index_and_no_path(lock):
    """A lock holds pins, markers, hashes and comments: no option, no address, no local path."""
    for line in lock.read_text().splitlines():
        assert re.fullmatch(r"(#.*|[A-Za-z0-9._-]+==[^/]*|    --hash=sha256:[0-9a-f]{64}( \\)?)", line), line
        assert "://" not in line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_a_hash(lock):
    """Nothing can be installed that was not there when the lock was made."""
    pins = _pins(lock)
    assert pins
    assert not [name for name, (_, hashes) in pins.items() if not hashes]


@pytest.mark.parametrize("name", ["asyncpg", "msgspec", "uuid-utils"])
def test_compiled_packages_are_locked_for_many_platforms(name):
    """A lock made against a mirror of one platform's wheels would leave out all others."""
    _, hashes = _pins(ROOT / "requirements" / "run.txt")[name]
    assert hashes > 20


def test_dev_contains_run():
    """Going from the demo's environment to the tests' only adds packages."""
    run, dev = (_pins(ROOT / "requirements" / name) for name in ("run.txt", "dev.txt"))
    assert run.items() <= dev.items()


def test_locks_satisfy_the_project():
    """Each requirement in pyproject.toml is pinned, within its bounds, in the lock that serves it."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    wanted = {
        "run.txt": [
            *project["dependencies"],
            *project["optional-dependencies"]["embedded"],
            *groups["build"],
        ],
        "dev.txt": [*groups["test"], *groups["lint"]],
        "uv.txt": groups["lock"],
    }
    for name, requirements in wanted.items():
        pins = _pins(ROOT / "requirements" / name)
        for requirement in map(Requirement, requirements):
            version, _ = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{name}: {requirement} is pinned to {version}"


def test_build_requirements_are_the_locked_group():
    """The editable install runs without isolation, so what builds it must be what is locked."""
    assert PROJECT["build-system"]["requires"] == PROJECT["dependency-groups"]["build"]
