"""`hotpath doctor` as people call it."""

from __future__ import annotations


def test_the_doctor_says_what_is_wrong(hotpath):
    """A script that was changed after its deployment is a warning; the test's own server is not durable, an
    error; JSON says the same.
    """
    assert hotpath("deploy", "--json").code in (0, 1)
    workspace = hotpath("doctor", HOTPATH_LOG_STORE="")
    assert workspace.code == 1
    assert "ERROR    not-durable: fsync is off" in workspace.out
    assert 'mend: hotpath db psql -c "alter system set fsync = on"' in workspace.out
    (document,) = hotpath("doctor", "--json").documents
    assert document["ok"] is False
    assert {"not-durable"} <= {finding["code"] for finding in document["findings"]}
    assert "workspace" not in {finding["code"] for finding in document["findings"]}


def test_without_a_database(hotpath):
    """That is what is said, with the exit code for it, and no password."""
    done = hotpath("doctor", "--json", HOTPATH_DATABASE_URL="postgresql://x:secret@127.0.0.1:1/y")
    assert done.code == 3
    (document,) = done.documents
    assert [finding["code"] for finding in document["findings"]] == ["no-database"]
    assert "secret" not in done.out + done.err
    assert hotpath("doctor", "--nonsense").code == 2


def test_without_a_schema(hotpath, empty_database_url):
    """An empty database is left empty."""
    for _ in range(2):
        (document,) = hotpath("doctor", "--json", HOTPATH_DATABASE_URL=empty_database_url).documents
        assert "schema" in {finding["code"] for finding in document["findings"]}
