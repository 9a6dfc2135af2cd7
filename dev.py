#!/usr/bin/env python3
"""Set up this checkout, once, and work in it. Needs Python 3.11 or newer and pip (or uv), and nothing else.

    python3 dev.py demo [...]       the main job on real input, start to finish
    python3 dev.py test [...]       the tests but the slow ones; arguments go to pytest, and choose themselves
    python3 dev.py check [...]      what CI runs: ruff, mypy, import-linter, all tests (few failed: again)
    python3 dev.py bench [...]      the benchmarks; without arguments, their list
    python3 dev.py run CMD [...]    any command in this environment
    python3 dev.py lock [...]       remake requirements/*.txt; arguments (such as --upgrade) go to uv

Everything lands in .venv and .dev beside this file; to start afresh, delete both.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - old Pythons must get this far and no further
    found = ".".join(map(str, sys.version_info[:3]))
    sys.stderr.write(f"dev.py: Hotpath needs Python 3.11 or newer; {sys.executable} is {found}\n")
    sys.exit(2)

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

try:
    import fcntl
except ImportError:
    sys.exit("dev.py: Hotpath runs on Linux and macOS; on Windows, use it inside WSL")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STATE = VENV / "hotpath-setup"  # "LEVEL FINGERPRINT" once set-up is complete; anything else means it is not
SCRATCH = (
    ROOT / ".dev"
)  # uv if the machine has none, the lock between two dev.py, a cache if HOME is unusable
LOCKS = ROOT / "requirements"
UNFINISHED = "unfinished"

# what a level installs; "dev" contains "run"
LEVELS = {"run": LOCKS / "run.txt", "dev": LOCKS / "dev.txt"}
RUN_SOURCES = ["pyproject.toml", "--extra", "embedded", "--group", "build"]
LOCK_SOURCES = {
    "run": RUN_SOURCES,
    "dev": [*RUN_SOURCES, "--extra", "otel", "--extra", "uv", "--group", "test", "--group", "lint"],
    "uv": ["--group", "lock"],
}
QUICK = ["-m", "not slow"]
IMPORT_ALL = """
import contextlib, importlib, pkgutil
import hotpath
names = [found.name for found in pkgutil.walk_packages(hotpath.__path__, "hotpath.")]
more = ["hypothesis", "pytest", "pytest_trio.plugin", "rich.console", "rich.table", "xdist.remote"]
for name in names + more:
    with contextlib.suppress(Exception):
        if not name.endswith("__main__"):
            importlib.import_module(name)
"""


class SetupError(Exception):
    """The environment could not be made; the message says what to do."""


def say(text: str) -> None:
    """Tell the person something, on stderr: stdout belongs to the command."""
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------- environment


def fingerprint() -> str:
    """Hash of all that decides what .venv holds, and of its place: a copied .venv points to the original."""
    digest = hashlib.sha256(os.fsencode(ROOT))
    for path in (*LEVELS.values(), ROOT / "pyproject.toml"):
        digest.update(b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_state() -> str:
    """The state file's text, empty when there is none."""
    try:
        return STATE.read_text()
    except OSError:
        return ""


def is_ready(level: str) -> bool:
    """Whether .venv is complete for `level`, up to date, and usable by this user."""
    ready, _, stamp = read_state().partition(" ")
    return ready in (level, "dev") and stamp == fingerprint() and os.access(PYTHON, os.X_OK)


def ensure(level: str) -> None:
    """Set up .venv unless it is ready; raise SetupError when that cannot be done."""
    if is_ready(level):
        return
    base = os.path.realpath(sys.executable)
    if Path(sys.prefix) == VENV and Path(base).parent != PYTHON.parent:
        os.execv(base, [base, *sys.argv])  # noqa: S606 - .venv cannot replace itself from within
    for place in (ROOT, SCRATCH, VENV):
        if place.exists() and not os.access(place, os.W_OK):
            msg = (
                f"{place} belongs to somebody else (you are uid {os.getuid()}); "
                "clone or copy the checkout to a directory of your own"
            )
            raise SetupError(msg)
    SCRATCH.mkdir(exist_ok=True)
    with alone():
        if not is_ready(level):
            set_up("dev" if read_state().startswith("dev ") else level)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the checkout's set-up lock; the kernel drops it if this process dies."""
    with (SCRATCH / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another dev.py is setting up this checkout; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # a SIGTERM must end the installer too, which an exception through subprocess.run does
        before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def set_up(level: str) -> None:
    """Make or mend .venv, first with uv (fast), else with pip; write the state file last."""
    say(f"setting up {VENV} (once; downloads what {LEVELS[level].relative_to(ROOT)} pins)")
    before = read_state()
    env = installer_environment()
    problems = []
    for install in (install_with_uv, install_with_pip):
        try:
            install(level, env)
        except (SetupError, OSError) as error:
            problems.append(f"{install.__name__.replace('_', ' ')}: {error}")
        else:
            compile_imports(env)
            write_state(f"{level} {fingerprint()}")
            shutil.rmtree(SCRATCH / "cache", ignore_errors=True)
            return
    if before.endswith(fingerprint()):
        write_state(before)  # more was wanted than before, and could not be had: what there was still stands
    raise SetupError("could not install what Hotpath needs\n\n" + "\n\n".join(problems))


def compile_imports(env: dict[str, str]) -> None:
    """Have Python keep the bytecode of all that Hotpath and its tests import, as far as it can.

    uv leaves that to the first import, which may not write where PYTHONDONTWRITEBYTECODE is set: then every
    process of ours compiles some hundred modules as it starts, twice as long as it takes without.
    """
    env = {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([PYTHON, "-c", IMPORT_ALL], env=env, cwd=ROOT, capture_output=True, check=False)


def write_state(text: str) -> None:
    """Replace the state file at once, never half written."""
    draft = STATE.with_suffix(".new")
    draft.write_text(text)
    draft.replace(STATE)


def installer_environment() -> dict[str, str]:
    """The environment for uv and pip: the user's own settings, plus what makes them work everywhere."""
    env = {
        "UV_SYSTEM_CERTS": "1",  # behind a TLS proxy only the system's certificates will do
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",  # hard links into a cache break when either side changes owner
        "UV_NO_PROGRESS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        **os.environ,
        "PIP_USER": "0",  # a global `user = true` contradicts --target
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX"):
        env.pop(name, None)
    home = env.get("HOME", "")
    if not (home and os.path.isabs(home) and os.access(home, os.W_OK | os.X_OK)):
        env["HOME"] = str(SCRATCH)
        env.setdefault("UV_CACHE_DIR", str(SCRATCH / "cache" / "uv"))
        env.setdefault("PIP_CACHE_DIR", str(SCRATCH / "cache" / "pip"))
    return env


def call(command: list[str], env: dict[str, str]) -> str:
    """Run an installer's command and return its stdout; raise SetupError with what it said when it fails."""
    done = subprocess.run(
        command, env=env, cwd=ROOT, text=True, errors="replace", capture_output=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]
        msg = f"{Path(command[0]).name} exited {done.returncode}\n    " + "\n    ".join(said)
        raise SetupError(msg)
    return done.stdout


def make_venv(command: list[str], env: dict[str, str]) -> bool:
    """Run `command`, which makes .venv, unless a working one is there, and mark it unfinished.

    Returns whether the one there was unfinished already: what was being installed may be half there.
    """
    half_done = read_state() == UNFINISHED
    if not is_venv_working():
        shutil.rmtree(VENV, ignore_errors=True)
        call(command, env)
        half_done = False
    write_state(UNFINISHED)
    return half_done


def is_venv_working() -> bool:
    """Whether .venv's interpreter starts, is new enough, and its commands were written for this place."""
    probe = "import sys; print(sys.prefix if sys.version_info >= (3, 11) else '')"
    try:
        done = subprocess.run([PYTHON, "-I", "-c", probe], text=True, capture_output=True, check=False)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        if os.fsencode(PYTHON.parent) not in (VENV / "bin" / "hotpath").read_bytes():
            return False  # the checkout was moved or copied with its .venv
    return done.returncode == 0 and Path(done.stdout.strip()) == VENV


# --------------------------------------------------------------------------------------------- installers


def install_with_uv(level: str, env: dict[str, str]) -> None:
    """Install the locked packages and the checkout itself with uv."""
    env = env | uv_index_settings(env)
    uv = find_uv(env)
    half_done = make_venv([uv, "venv", "--quiet", "--python", sys.executable, str(VENV)], env)
    install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--no-deps"]
    again = ["--reinstall"] if half_done else []
    call([*install, *again, "--require-hashes", "--requirement", str(LEVELS[level])], env)
    call([*install, "--no-build-isolation", "--offline", "--editable", str(ROOT)], env)


def install_with_pip(level: str, env: dict[str, str]) -> None:
    """Install the same with pip, which reads settings that uv does not."""
    if has_pip():
        # --without-pip: Debian's venv has no ensurepip unless python3-venv is installed
        half_done = make_venv([sys.executable, "-m", "venv", "--without-pip", str(VENV)], env)
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    else:
        half_done = make_venv([sys.executable, "-m", "venv", str(VENV)], env)
        pip = [str(PYTHON), "-m", "pip"]
    install = [*pip, "install", "--quiet", "--no-input", "--no-deps"]
    again = ["--force-reinstall"] if half_done else []
    call([*install, *again, "--require-hashes", "--requirement", str(LEVELS[level])], env)
    call([*install, "--no-build-isolation", "--no-index", "--editable", str(ROOT)], env)


def has_pip() -> bool:
    """Whether this interpreter has pip."""
    from importlib.util import find_spec

    return find_spec("pip") is not None


def find_uv(env: dict[str, str]) -> str:
    """uv on PATH, else a copy of our own put into .dev by pip."""
    found = shutil.which("uv")
    if found:
        return found
    own = SCRATCH / "bin" / "uv"
    if not os.access(own, os.X_OK):
        if not has_pip():
            msg = (
                f"{sys.executable} has no pip, and uv is not on PATH; install either "
                "(Debian: apt install python3-pip; or see docs.astral.sh/uv)"
            )
            raise SetupError(msg)
        # --target is allowed where Python is "externally managed" (PEP 668), and leaves the system alone
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--upgrade"]
        lock = ["--require-hashes", "--requirement", str(LOCKS / "uv.txt")]
        call([*pip, "--target", str(SCRATCH), *lock], env)
    return str(own)


def uv_index_settings(env: dict[str, str]) -> dict[str, str]:
    """pip's indexes in uv's terms (uv reads no pip.conf), unless the user has configured uv."""
    own = {"UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"}
    if not has_pip() or own & env.keys():
        return {}
    values: dict[str, list[str]] = {}
    # lines are SECTION.KEY='VALUE'; the last of a key wins, as in pip: files first, then the environment
    for line in call([sys.executable, "-m", "pip", "config", "list"], env).splitlines():
        name, _, value = line.partition("=")
        values[name.rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ").split()
    settings = {
        "UV_DEFAULT_INDEX": "".join(values.get("index-url", [])[:1]),
        "UV_INDEX": " ".join(values.get("extra-index-url", [])),
        "UV_FIND_LINKS": ",".join(values.get("find-links", [])),
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # pip's way; safe: every file's hash is checked
    }
    return {name: value for name, value in settings.items() if value}


# ----------------------------------------------------------------------------------------------- commands


def command_environment() -> dict[str, str]:
    """The environment in which commands run: as after `source .venv/bin/activate`."""
    path = os.environ.get("PATH", os.defpath)
    env = {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": f"{PYTHON.parent}{os.pathsep}{path}"}
    env.pop("PYTHONHOME", None)
    return env


def become(command: list[str]) -> NoReturn:
    """Turn into `command`: its exit code, its signals, its terminal."""
    env = command_environment()
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 - no shell wanted
    except FileNotFoundError:
        say(f"no command {command[0]!r} in .venv or on PATH")
        sys.exit(127)
    except OSError as error:
        say(f"cannot run {command[0]!r}: {error.strerror}")
        sys.exit(126)


def pytest_command(arguments: list[str], *, slow: bool = True) -> list[str]:
    """pytest on the arguments, or on all tests, or all but the `slow` ones: those are shared among processes,
    what arguments choose is not worth their start.

    One more than there are cores: many tests wait, for a lease to end or a server to come back.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = ["-n", str(min(cores + 1, 4)), "--dist", "worksteal"]  # who is done first takes from the others
    return ["pytest", *(arguments or [*([] if slow else QUICK), *(shared if cores > 1 else [])])]


def lock(arguments: list[str]) -> int:
    """Remake the lock files: for every platform, with hashes, without an index's address or a local path."""
    env = installer_environment()  # not with pip's indexes: a partial mirror locks only what it holds
    SCRATCH.mkdir(exist_ok=True)
    LOCKS.mkdir(exist_ok=True)
    uv = find_uv(env)
    env["UV_CUSTOM_COMPILE_COMMAND"] = "python3 dev.py lock"
    for name, sources in LOCK_SOURCES.items():
        target = LOCKS / f"{name}.txt"
        options = ["--quiet", "--universal", "--generate-hashes", "--no-annotate", "--python", sys.executable]
        # dev contains run, version for version, so that going from one to the other only adds
        within = ["--constraint", "requirements/run.txt"] if name == "dev" else []
        command = [uv, "pip", "compile", *options, *within, *sources, *arguments]
        call([*command, "--output-file", str(target.relative_to(ROOT))], env)
        print(f"{target.relative_to(ROOT)}: {sum(line[0].isalnum() for line in target.open())} packages")
    return 0


def main(arguments: list[str]) -> int:
    """Do what the command line says; 2 for wrong usage, 1 when the environment cannot be made."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    try:
        if name == "lock":
            return lock(rest)
        if name == "run" and rest:
            ensure("dev")
            become(rest)  # where the caller stands: it may be any command on any file
        if name in ("demo", "bench", "test", "check"):
            ensure("run" if name in ("demo", "bench") else "dev")
            os.chdir(ROOT)
            if name == "check":
                become(["python", ".ci/check.py", "part" if rest else "whole", *pytest_command(rest)])
            if name == "test":
                become(pytest_command(rest, slow=False))
            become([*(["hotpath", "demo"] if name == "demo" else ["python", "-m", "bench"]), *rest])
    except (SetupError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next dev.py goes on from here")
        return 130
    say("run what?" if name == "run" else f"no command {name!r}; see python3 dev.py --help")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
