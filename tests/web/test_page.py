"""The page in a real browser, with a real server, real workers and real jobs behind it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))
from page_stage import CHROMIUM, SECONDS, Browser, looker, on_screens, site, until

from hotpath import asyncpg_trio

pytest.importorskip("playwright", reason="Playwright is not installed: the page is not looked at")
pytestmark = [
    pytest.mark.skipif(not os.access(CHROMIUM, os.X_OK), reason=f"no Chromium at {CHROMIUM}"),
    pytest.mark.slow,
]
NAMELESS = """[...document.querySelectorAll('button, a[href], input, select, textarea')].filter((each) =>
    each.offsetParent && !(each.innerText?.trim() || each.getAttribute('aria-label') || each.labels?.length)
).map((each) => each.outerHTML)"""
"""Markup of what can be used and has no name for who does not see it."""
AT_ROW = """[...document.querySelectorAll('[data-row]')].findIndex((each) =>
    each.contains(document.activeElement))"""
NDJSON = {"content-type": "application/x-ndjson"}
HTTP_ERROR = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def browser(served):
    """One Chromium for all tests here."""
    browser = Browser(served.url)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def served(module_database_url, tmp_path_factory):
    """One server for all tests here."""
    with site(module_database_url, tmp_path_factory.mktemp("site")) as it:
        yield it


@pytest.fixture
def look(browser, served):
    """Opens a page and looks at it; fails for what goes wrong in it."""
    return looker(browser, served)


@pytest.fixture(scope="module")
def failed(served):
    """A job that has failed with all that may be hostile in a text."""
    id = served.put(what="hostile")
    served.until(id, "failure")
    return id


@pytest.fixture(scope="module")
def waiting(served):
    """A job that nobody is there to run."""
    return served.put("nobody", x=1)


def shown(page, text):
    """Wait until the text is on the screen."""
    page.get_by_text(text).first.wait_for()


def becomes(page, expression):
    """Wait until the expression is true in the page (the page's policy forbids Playwright's own way)."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def test_every_view_shows_what_there_is(look, served, failed, waiting):
    """Each view loads with real data, fits the screen, be it small or large, dark or light, has one heading,
    and says nothing of errors.
    """
    views = {
        "/": "Failed last",
        "/jobs": "work",
        f"/jobs/{failed}": "PaymentRefused",
        f"/jobs/{waiting}": "Why is this waiting?",
        "/flows": "trip",
        "/flows/trip": "Run it",
        "/scripts": "nobody",
        "/scripts/nobody": "Run it",
        "/workers": "lab",
    }

    def see(page):
        for path, text in views.items():
            page.goto(path)
            shown(page, text)
            becomes(page, "!document.querySelector('.loading, .boot')")
            for _ in on_screens(page):
                assert page.locator("h1").count() == 1, path
                troubles = page.locator(".trouble").all_inner_texts()
                assert troubles == [], (path, troubles)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
                nameless = page.evaluate(NAMELESS)
                assert nameless == [], path

    look(see)


def test_filters_are_the_address_and_outlive_a_reload(look, served, failed, waiting):
    """What is chosen stands in the URL; the reloaded page shows the same, and back takes it away."""
    served.put("nobody", x=2)  # on the first page, whatever other tests have put in since `waiting`

    def see(page):
        page.goto("/jobs")
        shown(page, "nobody")
        page.get_by_label("State").select_option("failure")
        page.wait_for_url("**/jobs?state=failure")
        page.get_by_text("PaymentRefused").first.wait_for()
        becomes(page, "!document.querySelector('.state.queued')")
        page.get_by_label("Script").fill("work")
        page.wait_for_url("**/jobs?state=failure&script=work")
        page.reload()
        shown(page, "PaymentRefused")
        assert page.get_by_label("State").input_value() == "failure"
        assert page.get_by_label("Script").input_value() == "work"
        page.go_back()
        page.go_back()
        page.wait_for_url(re.compile(r"/jobs$"))
        shown(page, "nobody")

    look(see)


def test_a_new_job_appears_in_the_list(look, served, waiting):
    """The list is live: what is put in elsewhere is seen without a reload."""

    def see(page):
        page.goto("/jobs")
        page.locator("tbody tr").first.wait_for()
        id = served.put(what="ok")
        page.locator(f"a[href='/jobs/{id}']").wait_for()
        page.locator("tr", has=page.locator(f"a[href='/jobs/{id}']")).get_by_text("success").wait_for()

    look(see)


def test_a_list_goes_on_to_older_jobs(look, served):
    """A page of 50 is followed by the next, by the key of the last, and the way back is one click."""
    lines = '{"what": "ok"}\n' * 55
    answer = served.http.post("/api/v1/jobs/batch?script=work", content=lines, headers=NDJSON)
    assert answer.json()["enqueued"] == 55, answer.text

    def see(page):
        page.goto("/jobs")
        page.get_by_text("Older »").click()
        page.wait_for_url("**/jobs?before=*")
        page.locator("tbody tr").first.wait_for()
        page.get_by_text("« Newest").click()
        page.wait_for_url(re.compile(r"/jobs$"))

    look(see)


def test_a_log_appears_while_the_job_runs(look, served, tmp_path):
    """A line is on the screen while its job runs; at the end come its state and its result."""
    gate = tmp_path / "gate"
    id = served.put(gate=str(gate), lines=3)

    def see(page):
        page.goto(f"/jobs/{id}")
        page.locator(".log").get_by_text("before the gate").wait_for()
        page.locator("h1 .state.running").wait_for()
        gate.touch()
        page.locator(".log").get_by_text("behind the gate").wait_for()
        page.locator("h1 .state.success").wait_for()
        page.get_by_label("Result", exact=True).get_by_text('"what"').wait_for()
        assert page.locator(".log .f-2").first.inner_text() == "line"

    look(see)


def test_hostile_text_stays_text(look, failed):
    """Markup is shown, escapes other than colours and characters that turn text around are made visible."""

    def see(page):
        page.goto(f"/jobs/{failed}")
        page.locator(".log").get_by_text("<script>window.pwned=1</script>").wait_for()
        said = json.dumps(r"\x1b]0;title\x07\x1b[2J a\u202eb")  # in one row, once the width is known
        becomes(page, f"document.querySelector('.log').innerText.includes({said})")
        assert page.locator(".log .f-1").first.inner_text() == "red"
        assert "<script>" in page.locator(".message").inner_text()
        assert "<script>" in page.locator(".traceback").inner_text()
        assert page.evaluate("window.pwned") is None
        assert page.title().startswith("Job ")
        assert page.locator("main script, main img").count() == 0
        page.goto("/jobs?state=failure")
        shown(page, "<script>window.pwned=1</script>")
        assert page.evaluate("window.pwned") is None

    look(see)


def test_rows_are_as_long_as_letters_are_wide(look, failed):
    """Letters that become wider or narrower, as when a font has loaded, make other rows of the same lines."""
    longest = (
        "Math.max(...[...document.querySelectorAll('.log .rows .said')].map((each) => each.innerText.length))"
    )

    def see(page):
        page.goto(f"/jobs/{failed}")
        page.locator(".log .row .said").first.wait_for()
        page.evaluate("document.querySelector('.log').style.letterSpacing = '90px'")
        becomes(page, f"{longest} <= 20")
        page.evaluate("document.querySelector('.log').style.letterSpacing = ''")
        becomes(page, f"{longest} > 30")

    look(see)


def test_a_long_log_is_as_quick_as_a_short_one(look, served):
    """Of 100,000 lines only those on the screen are in the document, wherever one scrolls; search finds the
    last.
    """
    id = served.put(lines=100_000)
    served.until(id, "success")

    def see(page):
        page.goto(f"/jobs/{id}")
        page.locator(".log .row .said").first.wait_for()
        page.get_by_text("100,000 lines").wait_for()
        for share in (0.0, 0.5, 1.0):
            page.evaluate(f"(l => l.scrollTop = l.scrollHeight * {share})(document.querySelector('.log'))")
            line = round(share * 99_999)
            page.locator(".log").get_by_text(re.compile(rf"^line {line}$")).wait_for()
            assert page.locator(".log .row").count() < 150
        page.keyboard.press("/")
        page.keyboard.type("line 77777")
        page.get_by_text("1 of 1 line").wait_for()
        page.locator(".log mark").first.wait_for()
        assert "".join(page.locator(".log mark").all_inner_texts()) == "line 77777"
        assert page.locator(".log .row").count() < 150

    look(see)


def test_a_job_can_be_canceled_retried_and_run_again(look, served):
    """Each button does what it says, and the page shows it."""
    id = served.put(seconds=60, what="late")

    def see(page):
        page.goto(f"/jobs/{id}")
        page.locator("h1 .state.running").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.locator("h1 .state.canceled").wait_for()
        page.get_by_role("button", name="Retry").click()
        page.locator("h1 .state:is(.queued, .running)").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.locator("h1 .state.canceled").wait_for()
        page.get_by_role("button", name="Run again").click()
        dialog = page.get_by_role("dialog")
        assert dialog.locator("#arg-what").input_value() == "late"
        assert dialog.locator("#arg-seconds").input_value() == "60"
        dialog.locator("#arg-what").fill("ok")
        dialog.locator("#arg-seconds").fill("0")
        dialog.get_by_role("button", name="Run", exact=True).click()
        becomes(page, f"!location.pathname.endsWith('{id}')")
        page.locator("h1 .state.success").wait_for()
        return page.url.rpartition("/")[2]

    again = look(see)
    assert served.job(again)["args"] == {"what": "ok", "seconds": 0}


def test_what_is_not_kept_any_more_is_said(look, served, module_database_url):
    """Args and result that retention has taken away are said to be; the job cannot be retried, but a new one
    be put in.
    """
    id = served.put(what="ok", lines=1)
    served.until(id, "success")

    async def take_away():
        connection = await asyncpg_trio.connect(module_database_url)
        await connection.execute(
            "update hotpath.job_done set args = null, result = null where id = $1::text::uuid", id
        )
        await connection.close()

    trio.run(take_away)

    def see(page):
        page.goto(f"/jobs/{id}")
        shown(page, "Not kept any more")
        assert page.get_by_text("Not kept any more").count() == 2
        assert page.get_by_role("button", name="Retry").count() == 0
        page.get_by_role("button", name="Run again").click()
        assert page.get_by_role("dialog").locator("#arg-what").input_value() in ("", "ok")

    look(see)


def test_a_form_says_what_is_wrong_beside_the_field(look, served):
    """What is missing or of the wrong kind is named where it was typed; what is right runs."""

    def see(page):
        page.goto("/scripts/nobody")
        form = page.locator("form.schema")
        form.get_by_role("button", name="Run", exact=True).click()
        form.get_by_text("is needed").wait_for()
        becomes(page, "document.activeElement.id === 'arg-x'")
        form.locator("#arg-x").fill("one")
        form.get_by_role("button", name="Run", exact=True).click()
        form.get_by_text("is not a whole number").wait_for()
        form.locator("#arg-x").fill("12345678901234567890")
        form.locator("#arg-tags").fill('["a"')
        form.get_by_role("button", name="Run", exact=True).click()
        form.get_by_text("is not JSON").wait_for()
        form.locator("#arg-tags").fill("[1]")
        form.get_by_role("button", name="Run", exact=True).click()
        form.get_by_text("expected str, got int").wait_for()
        form.locator("#arg-tags").fill('["a"]')
        form.get_by_role("button", name="As JSON").click()
        form.get_by_role("button", name="As a form").click()
        form.locator("#arg-x").fill("12345678901234567890")
        form.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_url("**/jobs/*")
        page.locator("h1 .state.queued").wait_for()
        return page.url.rpartition("/")[2]

    id = look(see, fine=HTTP_ERROR)
    assert served.job(id)["args"]["x"] == 12345678901234567890


def test_a_queued_job_says_why_it_waits(look, waiting):
    """Nobody listens to its tag: the page says so."""

    def see(page):
        page.goto(f"/jobs/{waiting}")
        panel = page.get_by_label("Why is this waiting?")
        panel.get_by_text(re.compile("worker")).first.wait_for()

    look(see)


def test_a_run_is_approved_in_the_page(look, served):
    """Its graph shows where it stands; the form's answer lets it go on, and the flow sees it."""
    id = served.put("trip")

    def see(page):
        page.goto(f"/runs/{id}")
        page.get_by_text("Waits for an approval").wait_for()
        page.locator(".graph .node.success").first.wait_for()
        page.locator(".graph .node.waiting").wait_for()
        page.locator(".tree").get_by_text("legs").click(trial=True)
        page.get_by_role("button", name="Approve").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Approve").click()
        dialog.get_by_text("is needed").wait_for()
        dialog.locator("#say-comment").fill("have a nice <b>trip</b>")
        dialog.get_by_label("Your name").fill("Ada")
        dialog.get_by_role("button", name="Approve").click()
        page.locator("h1 .state.success").wait_for()
        page.get_by_text('"have a nice <b>trip</b>"').wait_for()

    look(see)


def test_a_failed_run_shows_its_step_and_goes_on_from_there(look, served):
    """The step that failed is marked in graph and tree, with the iteration; it can be retried from."""
    id = served.put("trip", bad=2)
    served.until(id, "failure")

    def see(page):
        page.goto(f"/runs/{id}")
        page.locator(".graph .node.failure").wait_for()
        page.locator(".tree").get_by_text("leg 2 is booked out").wait_for()
        page.locator(".tree").get_by_text("iteration 1").wait_for()
        row = page.locator(".tree tr:has(+ tr.error)")
        row.get_by_role("button", name="Retry from here").click()
        until(lambda: served.job(id)["attempt"] == 2)

    look(see)


def test_a_secret_is_typed_unseen_and_never_shown(look, served):
    """Its field is a password's; the job's page masks it, and running it again asks for it anew."""

    def see(page):
        page.goto("/scripts/nobody")
        field = page.locator("#arg-key")
        assert field.get_attribute("type") == "password"
        page.locator("#arg-x").fill("7")
        field.fill("hunter2hunter2")
        page.locator("form.schema").get_by_role("button", name="Run", exact=True).click()
        page.wait_for_url("**/jobs/*")
        page.get_by_label("Args", exact=True).get_by_text("••••••").wait_for()
        assert "hunter2" not in page.content()
        page.get_by_role("button", name="Run again").click()
        again = page.get_by_role("dialog").locator("#arg-key")
        again.wait_for()
        assert (again.get_attribute("type"), again.input_value()) == ("password", "")
        page.get_by_role("dialog").get_by_role("button", name="As JSON").click()
        text = page.get_by_role("dialog").locator("textarea")
        text.fill('{"x": 7, "key": "••••••"}')
        page.get_by_role("dialog").get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("A secret is masked in it").wait_for()

    look(see)


NO_SOCKET = """window.WebSocket = class {
    static OPEN = 1;
    constructor() { setTimeout(() => this.onclose(), 5); }
};"""
SOCKETS = """window.sockets = [];
const Real = WebSocket;
window.WebSocket = class extends Real {
    constructor(...all) { super(...all); window.sockets.push(this); }
};"""


def test_without_a_socket_the_page_asks(look, served, tmp_path):
    """Where no WebSocket gets through, the header says so, and a job is followed all the same."""
    gate = tmp_path / "gate"
    id = served.put(gate=str(gate))

    def see(page):
        page.add_init_script(NO_SOCKET)
        page.goto(f"/jobs/{id}")
        page.get_by_text("Every 2 s").wait_for()
        page.get_by_text("Without a live connection").wait_for()
        gate.touch()
        page.locator(".log").get_by_text("behind the gate").wait_for()
        page.locator("h1 .state.success").wait_for()

    look(see)


def test_a_lost_socket_comes_back_to_where_it_was(look, served, tmp_path):
    """What was printed meanwhile is there, once, when the connection is made again."""
    gate = tmp_path / "gate"
    id = served.put(gate=str(gate), lines=2)

    def see(page):
        page.add_init_script(SOCKETS)
        page.goto(f"/jobs/{id}")
        page.locator(".log").get_by_text("before the gate").wait_for()
        page.locator(".connection.live").wait_for()
        page.evaluate("window.sockets[0].close()")
        gate.touch()
        becomes(page, "window.sockets.length > 1")
        page.locator(".connection.live").wait_for()
        page.locator(".log").get_by_text("behind the gate").wait_for()
        page.locator("h1 .state.success").wait_for()
        said = page.locator(".log .rows .said").all_inner_texts()
        assert said == ["line 0", "line 1", "before the gate", "behind the gate"]

    look(see)


def test_the_keyboard_is_enough(look, served, failed, waiting):
    """Views, rows, search, help and theme without a mouse."""

    def see(page):
        page.goto("/")
        shown(page, "Failed last")
        page.keyboard.press("g")
        page.keyboard.press("j")
        page.wait_for_url("**/jobs")
        page.locator("tbody tr").nth(1).wait_for()
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        page.keyboard.press("j")
        becomes(page, f"({AT_ROW}) === 1")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/(jobs|runs)/"))
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Keyboard").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        page.keyboard.press("t")
        becomes(page, "document.documentElement.dataset.theme === 'dark'")
        page.keyboard.press("g")
        page.keyboard.press("s")
        page.wait_for_url("**/scripts")
        page.keyboard.press("/")
        page.keyboard.type("nob")
        becomes(page, "document.querySelectorAll('[data-row]').length === 1")
        page.keyboard.press("Escape")
        page.reload()
        becomes(page, "document.documentElement.dataset.theme === 'dark'")

    look(see)


def test_what_is_not_there_is_said_kindly(look, served):
    """Unknown jobs, scripts, addresses and filters say so, and where to go."""

    def see(page):
        page.goto("/jobs/00000000-0000-7000-8000-000000000000")
        shown(page, "There is no such job")
        page.goto("/jobs/nonsense")
        shown(page, "There is no such job")
        page.goto("/scripts/no/such")
        shown(page, "There is no script no/such")
        page.goto("/jobs?state=canceled&tag=none")
        shown(page, "No job fits these filters")

    look(see, fine=HTTP_ERROR)


PIECES = r"""async () => {
    const {LogText} = await import('/static/app/logtext.js');
    const colours = ['\x1b[31m', '\x1b[0m', '\x1b[1;44m'];
    const words = ['a', 'b\u{1f600}', '\n', '\r', '\n\n', 'text', '\u202e', ...colours];
    const any = (n) => Math.floor(Math.random() * n);
    const lines = (log) => log.lines.map((line) => [line.plain, line.style]);
    const seen = (log) => JSON.stringify([lines(log), log.position]);
    for (let round = 0; round < 300; round += 1) {
        const text = Array.from({length: 30}, () => words[any(words.length)]).join('');
        const points = [...text];
        const whole = new LogText();
        whole.append({attempt: 1, at: 0, text, times: []});
        const parts = new LogText();
        for (let at = 0; at < points.length;) {
            const from = Math.max(at - any(4), 0);
            const to = Math.min(at + 1 + any(5), points.length);
            parts.append({attempt: 1, at: from, text: points.slice(from, to).join(''), times: []});
            at = to;
        }
        if (seen(whole) !== seen(parts)) return text;
    }
    return null;
}"""


def test_logs_read_in_any_pieces_are_the_same(look):
    """However a log is cut, and however often a part comes again, its lines and colours are the same."""

    def see(page):
        page.goto("/scripts")
        return page.evaluate(PIECES)

    assert look(see) is None


BAR = r"""async () => {
    const {LogText} = await import('/static/app/logtext.js');
    const log = new LogText();
    const say = (text) => log.append({attempt: 1, at: log.position, text, times: []});
    for (let k = 0; k < 20000; k += 1) say(`\r\x1b[32m${k} of 20000`);
    const bar = log.lines[0];
    say('\n');
    for (let k = 0; k < 20000; k += 1) say('.'.repeat(50));
    return [bar.plain, bar.text.length, log.lines[1].plain.length];
}"""


def test_a_line_that_goes_on_for_hours_costs_what_is_new(look):
    """A progress bar that is written over is as long as it looks, and a line of dots is not read again for
    each dot.
    """

    def see(page):
        page.goto("/scripts")
        begun = time.monotonic()
        return page.evaluate(BAR), time.monotonic() - begun

    (bar, kept, dots), took = look(see)
    assert (bar, dots) == ("19999 of 20000", 1_000_000)
    assert kept < 40
    assert took < 10
