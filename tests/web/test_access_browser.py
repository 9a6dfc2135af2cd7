"""Logging in, by a real browser: cookies, Origin and the content policy as Chromium has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))
from page_stage import CHROMIUM, Browser, end

from hotpath import asyncpg_trio
from hotpath.store.tokens import create_token

pytest.importorskip("playwright", reason="Playwright is not installed: nobody logs in")
pytestmark = [
    pytest.mark.skipif(not os.access(CHROMIUM, os.X_OK), reason=f"no Chromium at {CHROMIUM}"),
    pytest.mark.slow,
]


async def make_token(database_url):
    """A token's text."""
    connection = await asyncpg_trio.connect(database_url)
    try:
        return (await create_token(connection, "ann <b>", ("run",), None))[0]
    finally:
        await connection.close()


@pytest.fixture
def url(database_url, tmp_path):
    """A server that asks for tokens."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "hotpath",
            "serve",
            "--port",
            "0",
            "--grace",
            "0",
            "--require-token",
            "--json",
        ],
        env=os.environ | {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    (url,) = json.loads(process.stdout.readline())["urls"]
    yield url
    end(process)


@pytest.fixture
def url_after_token(database_url, request):
    """The server, and a token that was there before it started."""
    token = trio.run(make_token, database_url)
    return request.getfixturevalue("url"), token


def test_log_in_from_a_link_elsewhere(database_url, url_after_token):
    """A link on another site leads to the form and on to what it named; once logged in, straight there,
    though the cookie is SameSite=Strict; after the log-out, to the form again.
    """
    url, token = url_after_token
    browser = Browser(url)
    faults = []

    def visit(chromium):
        page = chromium.new_page()
        page.set_default_timeout(40_000)
        page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
        link = f'<a href="{url}/jobs?state=failure">jobs</a>'
        page.route("http://elsewhere.test/", lambda route: route.fulfill(body=link, content_type="text/html"))

        def follow():
            page.goto("http://elsewhere.test/")
            page.get_by_text("jobs").click()

        follow()
        page.get_by_label("Token").fill("hp_wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{url}/jobs?state=failure")
        page.get_by_role("heading", level=1).wait_for()
        status = page.evaluate("fetch('/api/v1/jobs').then((reply) => reply.status)")
        posted = page.evaluate(
            "fetch('/api/v1/jobs', {method: 'POST', body: '{}', headers: {'content-type': "
            "'application/json'}}).then((reply) => reply.status)"
        )
        follow()
        page.wait_for_url(f"{url}/jobs?state=failure")
        # The first answer, which leads on by itself, has that address too; the page has a heading.
        page.get_by_role("heading", level=1).wait_for()
        page.goto(f"{url}/logout")
        page.get_by_text("ann <b>").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(f"{url}/login")
        follow()
        page.get_by_label("Token").wait_for()
        return status, posted

    try:
        status, posted = browser.run(visit)
    finally:
        browser.close()
    assert (status, posted) == (200, 400)  # 400: it got past the door, and names no script
    assert faults == []
