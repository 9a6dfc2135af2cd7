"""The page's files as the server sends them: their names, how they are kept, and what is not sent."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files

import httpx
import pytest
from starlette.applications import Starlette

from hotpath.web import pages

BYTES = 200_000


@pytest.fixture(scope="module")
def page():
    """The files, read once."""
    return pages.Page()


@pytest.fixture
async def http():
    """A client of an application that has nothing but the page."""
    transport = httpx.ASGITransport(Starlette(routes=pages.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
        yield client


def test_all_files_are_small_enough():
    """The document, its modules, styles, libraries and their licences are at most 200 KB, not packed."""
    found = dict(pages._files(files("hotpath.web") / "static", ""))
    assert sum(map(len, found.values())) <= BYTES
    assert {"index.html", "style.css", "app/main.js", "vendor/preact.js", "vendor/LICENSES.md"} <= set(found)


def test_every_library_has_its_licence():
    """LICENSES.md names each file of vendor/, whose it is, and the terms."""
    vendor = files("hotpath.web") / "static" / "vendor"
    said = (vendor / "LICENSES.md").read_text()
    for each in vendor.iterdir():
        assert f"`{each.name}`" in said or each.name == "LICENSES.md"
    assert said.count("Copyright") == 2
    assert "Permission is hereby granted, free of charge" in said
    assert "AS IS" in said


def test_no_file_asks_for_another_origin_or_writes_html():
    """Our own modules load nothing from elsewhere and turn no text into HTML."""
    for name, body in pages._files(files("hotpath.web") / "static", ""):
        if name.startswith(("app/", "style", "index")):
            text = body.decode()
            outside = re.findall(r"""(?:src|href|import|from|url\()\s*=?\s*["']?(?:https?:)?//""", text)
            assert not outside, name
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), name
            assert not re.search(r"<[^>]*\sstyle=\"", text), name


def test_imports_name_files_that_exist(page):
    """Every module that is imported or preloaded is there."""
    for name, asset in page.assets.items():
        if name.startswith("app/"):
            for path in re.findall(r"(?:from|import\()\s*'(\.[^']+)'", asset.body.decode()):
                there = path.removeprefix("../") if path.startswith("../") else f"app/{path[2:]}"
                assert there in page.assets, (name, path)
    document = page.document.body.decode()
    for path in re.findall(rf"/static/{page.version}/([^\"]+)", document):
        assert path in page.assets
    assert "{{" not in document


async def test_every_address_of_the_page_gives_the_document(http):
    """A link into the page can be opened, and reloaded."""
    addresses = (
        "/",
        "/jobs",
        "/jobs/x?state=failure",
        "/flows",
        "/flows/a/b",
        "/runs/1",
        "/scripts",
        "/scripts/f/team/x",
        "/schedules",
        "/schedules/nightly",
        "/workers",
        "/groups",
        "/groups/etl",
        "/history?range=1h",
        "/alerts",
        "/retention",
        "/doctor",
    )
    for address in addresses:
        answer = await http.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert '<div id="app">' in answer.text
        assert "app/main.js>; rel=modulepreload" in answer.headers["link"]
    assert (await http.get("/nowhere")).status_code == 404


async def test_files_are_kept_for_ever_under_their_version(http, page):
    """An address with the current version never changes; without it, or with another, it is asked for."""
    for address, caching in (
        (f"/static/{page.version}/app/main.js", "public, max-age=31536000, immutable"),
        ("/static/000000000000/app/main.js", "no-cache"),
        ("/static/app/main.js", "no-cache"),
    ):
        answer = await http.get(address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == caching
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.content == page.assets["app/main.js"].body


async def test_what_is_known_is_not_sent_again(http):
    """A file whose tag the browser has is answered by 304 without a body, packed or not."""
    for encoding in ("identity", "gzip"):
        first = await http.get("/static/style.css", headers={"accept-encoding": encoding})
        tag = first.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]{32}(-gzip)?"', tag)
        for known in (tag, f'"other", W/{tag}', "*"):
            asked = {"accept-encoding": encoding, "if-none-match": known}
            again = await http.get("/static/style.css", headers=asked)
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["etag"] == tag
        other = await http.get("/static/style.css", headers={"if-none-match": '"other"'})
        assert other.status_code == 200


async def test_files_are_packed_for_whom_wants_it(http, page):
    """gzip where it is accepted, plain where it is not, and caches are told that there are two."""
    plain = page.assets["style.css"].body
    for accepted, packed in (
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("gzip;q=x", False),
        ("", False),
    ):
        request = http.build_request("GET", "/static/style.css", headers={"accept-encoding": accepted})
        answer = await http.send(request, stream=True)
        raw = b"".join([each async for each in answer.aiter_raw()])
        assert answer.headers["vary"] == "accept-encoding"
        assert ("content-encoding" in answer.headers) is packed, accepted
        assert (gzip.decompress(raw) if packed else raw) == plain


async def test_browsers_that_ask_for_an_icon_get_one(http):
    """Pages without a link to it, such as the one to log in, cause no error."""
    assert (await http.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"


async def test_a_head_says_what_a_get_would(http, page):
    """HEAD has the length and no body."""
    answer = await http.head("/static/style.css", headers={"accept-encoding": "identity"})
    assert answer.content == b""
    assert int(answer.headers["content-length"]) == len(page.assets["style.css"].body)


async def test_no_path_leads_out(http):
    """Only files of the page are sent, whatever the path looks like."""
    for path in (
        "../pages.py",
        "..%2fpages.py",
        "%2e%2e/pages.py",
        "app/../../pages.py",
        "/etc/passwd",
        "x/../../app.py",
        "index.html",
        "app/",
        "",
        "vendor",
        "app/main.js%00.css",
        "app\\main.js",
    ):
        answer = await http.get(f"/static/{path}")
        assert answer.status_code == 404, path
        assert "python" not in answer.text
