"""Environments of scripts that have dependencies of their own (PEP 723), made by uv and kept in a cache.

One is named by what it holds: the dependencies, the Python, this program. Once made it is used as it is: no
network, no uv. uv keeps the wheels once for all of them. Hotpath and what it needs come last on the module
path, so the script's own packages go first; where it wants one of those that Hotpath needs too, it gets a
version that suits both, or is refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import trio

from hotpath.config import Config, read_config
from hotpath.core.inline import Inline, fault_of_python, read_inline, together
from hotpath.errors import ScriptError
from hotpath.scripts.cache import MOST_ENVIRONMENTS, collect, directory, hold, making
from hotpath.scripts.load import SECRETS
from hotpath.scripts.locate import Located
from hotpath.scripts.source import StepSource
from hotpath.version import __version__

MADE = "hotpath.json"
"""Written into an environment when it is whole: what it was made for."""
INSTALL_SECONDS = 600
"""Seconds that uv may take."""
UNREACHABLE = ("Failed to fetch", "error sending request")
"""What uv says of an index that does not answer."""
_ROOT = Path(__file__).resolve().parents[2]
"""Where the package `hotpath` lies."""


async def python_for(located: Located, config: Config | None = None) -> str | None:
    """The interpreter of the environment that a script or, of a flow, all its scripts want; None: this one.

    Made if it is not there. Raises `ScriptError` that names the script and the package.
    """
    return await trio.to_thread.run_sync(_python_for, located, config)


async def python_of(scripts: Iterable[StepSource], config: Config | None = None) -> str | None:
    """The same for scripts that run in one process."""
    return await trio.to_thread.run_sync(_python_of, list(scripts), config)


def wants_own(located: Located) -> bool:
    """Whether the script, by its source, may want an interpreter of its own; of flows that is not known."""
    try:
        return located.is_flow or b"# /// script" in located.file.read_bytes()
    except OSError:
        return True


def _python_for(located: Located, config: Config | None) -> str | None:
    if not located.is_flow:
        return _python_of([StepSource(located.name, located.file, None, located.workspace)], config)
    from hotpath.scripts.flow_file import read_flow  # here: who has no flows need not load it

    loaded, _ = read_flow(located)
    return _python_of(loaded.steps.values(), config)


def _python_of(scripts: Iterable[StepSource], config: Config | None) -> str | None:
    found: dict[str, Inline | None] = {}
    for script in scripts:
        found[script.name] = read_inline(script.read(), script.name)
    inline = together(found.values())
    if inline is None:
        return None
    name = ", ".join(name for name, each in found.items() if each is not None)
    for requires in inline.requires:
        if fault := fault_of_python(requires, sys.version_info[:3], name):
            raise ScriptError(
                f"{name} {fault}, and this is Python {sys.version.split()[0]}: start Hotpath with such a one"
            )
    if not inline.dependencies:
        return None
    return str(_environment(name, inline, read_config() if config is None else config))


def _environment(name: str, inline: Inline, config: Config) -> Path:
    """The interpreter of the environment; made if need be, by one process at a time."""
    python = [sys.implementation.cache_tag, sys.version.split()[0], sysconfig.get_platform(), sys.base_prefix]
    about = {"dependencies": inline.dependencies, "python": python, "hotpath": [__version__, _paths()]}
    key = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    kind = directory(config, "environments")
    entry = kind / key
    interpreter = entry / "bin" / "python"
    if (entry / MADE).is_file():
        hold(entry)
        if (entry / MADE).is_file() and interpreter.exists():
            return interpreter
    with making(entry):
        if not ((entry / MADE).is_file() and interpreter.exists()):
            _make(name, inline, entry, interpreter)
            (entry / MADE).write_text(json.dumps(about | {"for": name}))
            collect(kind, MOST_ENVIRONMENTS)
    return interpreter


def _make(name: str, inline: Inline, entry: Path, interpreter: Path) -> None:
    uv = _find_uv(name)
    shutil.rmtree(entry, ignore_errors=True)
    try:
        _run(
            name,
            entry.parent,
            [uv, "venv", "--no-project", "--quiet", "--python", sys.executable, str(entry)],
        )
        wanted, limits = entry / "wanted.txt", entry / "limits.txt"
        wanted.write_text("\n".join(inline.dependencies) + "\n", "utf-8")
        limits.write_text("\n".join(_own_requirements()) + "\n", "utf-8")
        command = [uv, "pip", "install", "--quiet", "--python", str(interpreter), "-r", str(wanted)]
        command += ["--constraint", str(limits)]
        try:
            _run(name, entry.parent, command)
        except ScriptError as error:
            if not any(sign in str(error) for sign in UNREACHABLE):
                raise
            try:  # what uv has kept for others may be enough
                _run(name, entry.parent, [*command, "--offline"])
            except ScriptError:
                raise error from None
        packages = next(entry.glob("lib/python*/site-packages"))
        # Behind what is installed here: lines of a .pth go to the end of the module path.
        (packages / "zz_hotpath.pth").write_text("\n".join(_paths()) + "\n", "utf-8")
    except BaseException:
        shutil.rmtree(entry, ignore_errors=True)
        raise


def _run(name: str, place: Path, command: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
    environment.pop("VIRTUAL_ENV", None)
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ScriptError(
            f"the dependencies of {name} were not installed within {INSTALL_SECONDS} s (by uv)"
        ) from None
    except OSError as error:
        raise ScriptError(f"the dependencies of {name} cannot be installed: {command[0]}: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.replace("×", "").replace("╰─▶", "").replace("│", "").split())
        raise ScriptError(f"the dependencies of {name} cannot be installed: {said[-1500:] or 'uv failed'}")


def _find_uv(name: str) -> str:
    """uv, by PATH or as a package of this Python. Raises `ScriptError` that says how to get it."""
    if found := shutil.which("uv"):
        return found
    try:
        from uv import find_uv_bin  # the extra `uv`

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise ScriptError(
            f"{name} has dependencies of its own (`# /// script`), which uv installs, and there is no uv: "
            "`pip install hotpath-runtime[uv]`, or put uv on PATH"
        ) from None


def _own_requirements() -> list[str]:
    """What Hotpath itself needs, as limits for what it shares with a script."""
    try:
        needs = importlib.metadata.requires("hotpath-runtime") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # a checkout that is not installed
    return [need for need in needs if "extra ==" not in need]


def _paths() -> list[str]:
    """Where Hotpath and the packages that it needs are."""
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys([*packages, str(_ROOT)]))
