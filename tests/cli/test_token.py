"""`hotpath token`: made once, listed without its secret, revoked by name or id."""

import re


def test_a_token_is_shown_once(hotpath):
    """`create` prints the token alone on stdout; nothing shows it again, the database least of all."""
    done = hotpath("token", "create", "ci", "--scope", "read", "--scope", "run", "--expires", "30d")
    assert done.code == 0
    token = done.out.strip()
    assert re.fullmatch(r"hp_[a-z2-7]{12}_[0-9a-f]{64}", token)
    assert "read, run" in done.err
    assert token not in done.err
    listed = hotpath("token", "list", "--json")
    (document,) = listed.documents
    assert (document["name"], document["scopes"], document["state"]) == ("ci", ["read", "run"], "good")
    assert document["id"] == token.split("_")[1]
    assert token.split("_")[2] not in listed.out
    assert "ci" in hotpath("token", "list").out


def test_revoke_by_name_and_by_id(hotpath):
    """A revoked token is gone from the list, and its name is free; one that is not there is named."""
    first = hotpath("token", "create", "ci", "--json").documents[0]
    assert first["token"].startswith(f"hp_{first['id']}_")
    assert first["scopes"] == ["read"]
    assert first["expires_at"] > first["created_at"]
    again = hotpath("token", "create", "ci")
    assert (again.code, again.out) == (2, "")
    assert "already" in again.error
    assert hotpath("token", "revoke", "ci", "--json").documents[0]["state"] == "revoked"
    second = hotpath("token", "create", "ci", "--expires", "never", "--json").documents[0]
    assert second["expires_at"] is None
    assert hotpath("token", "revoke", second["id"]).code == 0
    assert hotpath("token", "list", "--json").out == ""
    assert len(hotpath("token", "list", "--all", "--json").documents) == 2
    missing = hotpath("token", "revoke", "ci")
    assert (missing.code, "no token 'ci'" in missing.error) == (1, True)


def test_wrong_usage(hotpath):
    """Scopes, spans and names that are none are wrong usage: 2, one line that names what is wrong."""
    for arguments, named in {
        ("--scope", "root"): "--scope",
        ("--expires", "soon"): "--expires",
        ("--expires", "0d"): "expires",
        ("--expires", "9999999w"): "expires",
    }.items():
        done = hotpath("token", "create", "x", *arguments)
        assert (done.code, named in done.error) == (2, True), arguments
    for name in (" ", "a\nb", "x" * 101):
        done = hotpath("token", "create", name)
        assert (done.code, "1 to 100 printable" in done.error) == (2, True)
    assert hotpath("token", "list", "--json").out == ""


def test_a_server_for_others_does_not_start_without_a_token(hotpath):
    """`serve --host 0.0.0.0` says which command makes a token, and exits 2."""
    done = hotpath("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.code, "hotpath token create" in done.error) == (2, True)
