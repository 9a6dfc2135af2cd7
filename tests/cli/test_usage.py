"""Exit codes and errors: one line on stderr, and nothing heavy for the help."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import uuid

import pytest

COMMANDS = [
    *("demo", "dedicate", "worker", "run", "push", "jobs", "job", "logs", "cancel"),
    *("status", "deploy", "scripts", "migrate", "db"),
]


def test_help_names_every_command(hotpath):
    """`hotpath --help` lists the commands; each has a help of its own."""
    done = hotpath("--help")
    assert done.code == 0
    listed = done.out.partition("Commands:")[2]
    assert [name for name in COMMANDS if f"  {name} " not in listed] == []
    assert hotpath("--version").out.startswith("hotpath ")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_and_json(command):
    """Every command explains itself and, but for the group `db`, has `--json`."""
    from click.testing import CliRunner

    from hotpath.cli.app import app
    from hotpath.cli.options import Given

    result = CliRunner().invoke(app, [command, "--help"], obj=Given())
    assert result.exit_code == 0
    assert command == "db" or "--json" in result.output


def test_help_imports_nothing_heavy():
    """Parsing the command line needs neither Trio nor the driver nor rich."""
    code = (
        "import sys; from hotpath.cli.app import run; run(['--help']);"
        "sys.exit(', '.join({'trio', 'asyncpg', 'rich', 'msgspec'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


USAGE = {
    "command": (["pusch"], "hotpath push"),
    "flag": (["jobs", "--bogus"], "--bogus"),
    "argument": (["run"], "NAME"),
    "state": (["jobs", "--state", "done"], "--state"),
    "id": (["job", "17"], "'17' is not the id of a job"),
    "time": (["jobs", "--since", "yesterday"], "yesterday"),
    "workspace": (["scripts", "--workspace", "/no/such/place"], "--workspace"),
    "pair": (["run", "add", "-a", "x"], "KEY=VALUE"),
    "priority": (["push", "add", "--priority", "40000"], "priority"),
    "file": (["push", "add", "/no/such/file"], "No such file"),
    "processes": (["dedicate", "add", "--processes", "0"], "--processes"),
    "slots": (["worker", "--slots", "0"], "--slots must be from 1"),
    "warm": (["worker", "--slots", "4", "--warm", "2"], "--warm must be from 4"),
    "memory": (["worker", "--warm-memory", "1K"], "--warm-memory must be 16M or more"),
    "tags": (["worker", "--tags", "a,,b"], "--tags: '' is no tag"),
    "url": (["scripts", "--database-url", "mysql://x"], "--database-url"),
}


def test_wrong_usage(hotpath, subtests):
    """Wrong usage is exit code 2 and one line that names what is wrong."""
    for name, (arguments, said) in USAGE.items():
        with subtests.test(name):
            done = hotpath(*arguments)
            assert (done.code, done.out) == (2, "")
            assert said in done.error


@pytest.mark.slow
def test_no_database(hotpath):
    """No database is exit code 3 and one line that names the place and never the password."""
    url = "postgresql://me:s3cret@127.0.0.1:1/db"
    for command in (["jobs"], ["status"], ["push", "add"], ["run", "add"], ["deploy"], ["migrate"]):
        done = hotpath(*command, HOTPATH_DATABASE_URL=url)
        assert (done.code, done.out) == (3, "")
        assert "127.0.0.1:1" in done.error
        assert "s3cret" not in done.err


def test_unknown_job(hotpath):
    """A job that is not there is exit code 1 and one line."""
    job_id = uuid.uuid4()
    for command in ("job", "logs", "cancel"):
        done = hotpath(command, job_id)
        assert (done.code, done.out) == (1, "")
        assert str(job_id) in done.error


def test_interrupt(environment):
    """Ctrl-C ends a command with 130 and one line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "run", "add", "-a", "x=1"],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "no live worker listens" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (130, "hotpath: interrupted\n")


def test_broken_pipe(hotpath, environment):
    """A reader that has seen enough is no error to speak of."""
    assert hotpath("push", "add", stdin='{"x": 1}\n' * 2000).code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "jobs", "--json", "--limit", "2000"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=50) in {0, 1}


def test_migrate(hotpath, empty_database_url):
    """`migrate` creates the schema and then has nothing to do."""
    first = hotpath("migrate", "--json", HOTPATH_DATABASE_URL=empty_database_url)
    again = hotpath("migrate", "--json", HOTPATH_DATABASE_URL=empty_database_url)
    assert (first.code, again.code) == (0, 0)
    assert first.documents[0]["applied"][0].startswith("0001")
    assert again.documents[0] == {"applied": [], "version": first.documents[0]["version"]}


def test_control_characters_do_not_reach_a_terminal(hotpath, environment):
    """On a terminal colours pass and other control characters are shown as escapes; a pipe gets the bytes."""
    evil = "\x1b[31mred\x1b[0m \x1b]0;title\x07"
    assert hotpath("push", "echo", "--ids", "-", stdin=b'{"a": "\\u001b]0;title\\u0007"}\n').code == 0
    from hotpath.cli.output import safe

    assert safe(evil) == "\x1b[31mred\x1b[0m \\x1b]0;title\\x07"
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "jobs"], env=environment, stdout=writer, stdin=subprocess.DEVNULL
    )
    assert process.wait(timeout=50) == 0
    os.close(writer)
    shown = b""
    with contextlib.suppress(OSError):  # that nobody has the other side any more
        while part := os.read(reader, 65536):
            shown += part
    os.close(reader)
    assert b"\x07" not in shown
    assert b"queued" in shown
