"""What the environment and the flags add up to, and which databases are refused and how."""

import asyncpg
import pytest
import trio

from hotpath.config import read_config, redact
from hotpath.errors import DatabaseUnavailableError, SchemaError, UsageError
from hotpath.store.database import open_database, translated

URL = "postgresql://me:s3cret@host:5433/db"


def test_rules(tmp_path):
    """Flags win over HOTPATH_DATABASE_URL, that over DATABASE_URL, and `embedded` asks for Hotpath's own."""
    environ = {"DATABASE_URL": URL + "1", "HOTPATH_DATABASE_URL": URL + "2", "HOTPATH_HOME": str(tmp_path)}
    assert read_config(tmp_path, environ).database_url == URL + "2"
    assert read_config(tmp_path, environ, database_url=URL).database_url == URL
    assert read_config(tmp_path, environ, database_url="embedded").database_url is None
    assert read_config(tmp_path, {"DATABASE_URL": URL}).database_url == URL
    assert (
        read_config(tmp_path, {"HOTPATH_DATABASE_URL": "embedded", "DATABASE_URL": URL}).database_url is None
    )
    assert read_config(tmp_path, {}).database_url is None
    assert read_config(tmp_path, environ).home == tmp_path
    assert read_config(None, {"HOTPATH_WORKSPACE": str(tmp_path)}).workspace == tmp_path


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://a@b/c", "postgresql://a:s3cret@h:port/x", "postgresql://[::1", "x\0"]
)
def test_malformed_url(tmp_path, url):
    """A URL that is none is refused with the name of its variable, and without its password."""
    with pytest.raises(UsageError, match="HOTPATH_DATABASE_URL") as caught:
        read_config(tmp_path, {"HOTPATH_DATABASE_URL": url})
    assert "s3cret" not in str(caught.value)


def test_missing_workspace(tmp_path):
    """A workspace that is not a directory is refused with the flag's or the variable's name."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--workspace"):
        read_config(tmp_path / "nowhere", {})
    with pytest.raises(UsageError, match="HOTPATH_WORKSPACE"):
        read_config(None, {"HOTPATH_WORKSPACE": str(tmp_path / "file")})


def test_password_is_not_shown(tmp_path):
    """Neither the repr of a configuration nor a redacted URL holds the password."""
    config = read_config(tmp_path, {"HOTPATH_DATABASE_URL": URL + "?password=s3cret&sslpassword=s3cret"})
    assert "s3cret" not in repr(config)
    assert redact(URL) == "postgresql://me@host:5433/db"


async def refused(tmp_path, url):
    """The error for this database: one line, without the password."""
    with pytest.raises(DatabaseUnavailableError) as caught, trio.fail_after(30):
        async with open_database(read_config(tmp_path, {}, database_url=url)):
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert "s3cret" not in message
    return caught.value


async def test_no_server(tmp_path):
    """Where no server listens, the error names the place."""
    assert "127.0.0.1:1" in str(await refused(tmp_path, "postgresql://me:s3cret@127.0.0.1:1/db"))
    assert "nowhere" in str(await refused(tmp_path, f"postgresql://me:s3cret@/db?host={tmp_path}/nowhere"))
    assert "cannot be found" in str(await refused(tmp_path, "postgresql://me:s3cret@no-such-host.invalid/db"))


async def test_unknown_database(tmp_path, empty_database_url):
    """A database that does not exist is named."""
    url = empty_database_url.replace("hotpath_test_", "absent_", 1)
    assert "does not exist" in str(await refused(tmp_path, url))


async def test_empty_database_is_migrated_and_a_foreign_one_is_not(tmp_path, empty_database_url):
    """The first command migrates an empty database; one with other people's tables is left alone."""
    config = read_config(tmp_path, {}, database_url=empty_database_url)
    async with open_database(config, schema=False) as database, database.connection() as connection:
        await connection.execute("create table theirs ()")
    with pytest.raises(SchemaError, match="hotpath migrate"):
        async with open_database(config):
            pass
    async with open_database(config, schema=False) as database, database.connection() as connection:
        await connection.execute("drop table theirs")
    async with open_database(config) as database, database.connection() as connection:
        assert await connection.fetchval("select version from hotpath.meta") > 0
        await connection.execute("update hotpath.meta set oldest_program = 99")
    error = await refused(tmp_path, empty_database_url)
    assert isinstance(error, SchemaError)
    assert "too new" in str(error)


REFUSALS = {
    "password": (asyncpg.InvalidPasswordError, "refuses this user"),
    "full": (asyncpg.TooManyConnectionsError, "no connection free"),
    "disk": (asyncpg.DiskFullError, "disk"),
    "standby": (asyncpg.ReadOnlySQLTransactionError, "read-only"),
    "rights": (asyncpg.InsufficientPrivilegeError, "grant"),
    "starting": (asyncpg.CannotConnectNowError, "not ready"),
    "stopped": (asyncpg.AdminShutdownError, "was lost"),
    "gone": (asyncpg.ConnectionDoesNotExistError, "was lost"),
    "reset": (ConnectionResetError, "no database at"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_by_the_server(name):
    """What a server refuses becomes one line that names the place and what to do, without the password."""
    kind, said = REFUSALS[name]
    with pytest.raises(DatabaseUnavailableError, match=said) as caught, translated(URL):
        raise kind("it is so\nDETAIL: more")
    assert 'host:5433, database "db"' in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_errors_pass():
    """Errors about a statement or its values, and a user's own files, are not taken for trouble with the
    database.
    """
    for error in (asyncpg.UniqueViolationError("twice"), FileNotFoundError(2, "no", "file"), ValueError("v")):
        with pytest.raises(type(error)) as caught, translated(URL):
            raise error
        assert caught.value is error
