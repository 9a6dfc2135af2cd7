"""Groups, schedules, history, alerts, the doctor and paused tags in a real browser, down to the database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from page_stage import CHROMIUM, Browser, end, looker, on_screens, site, until

pytest.importorskip("playwright", reason="Playwright is not installed: the page is not looked at")
pytestmark = [
    pytest.mark.skipif(not os.access(CHROMIUM, os.X_OK), reason=f"no Chromium at {CHROMIUM}"),
    pytest.mark.slow,
]
HTTP_ERROR = "Failed to load resource: the server responded with a status of 4"
MASK = "••••••"
HOSTILE = "<img src=x onerror='window.pwned=1'>"
NAMELESS = """[...document.querySelectorAll('button, a[href], input, select, textarea')].filter((each) =>
    each.offsetParent && !(each.innerText?.trim() || each.getAttribute('aria-label') || each.labels?.length)
).map((each) => each.outerHTML)"""
"""Markup of what can be used and has no name for who does not see it."""


@pytest.fixture(scope="module")
def environ(module_database_url, tmp_path_factory):
    """The environment of commands in the workspace."""
    workspace = tmp_path_factory.mktemp("site")
    return {**os.environ, "HOTPATH_DATABASE_URL": module_database_url, "HOTPATH_WORKSPACE": str(workspace)}


@pytest.fixture(scope="module")
def served(environ):
    """One server for all tests here, with something of everything, and a normal worker."""
    url, workspace = environ["HOTPATH_DATABASE_URL"], Path(environ["HOTPATH_WORKSPACE"])
    with site(url, workspace) as it:
        put(it, "/groups/any", {"tags": ["spare"], "slots": 1, "init": "echo ready"})
        worker = subprocess.Popen(
            [sys.executable, "-m", "hotpath", "worker", "--group", "any", "--json", "--grace", "0"],
            env=environ, cwd=workspace, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            put(it, "/groups/etl", {"tags": ["etl-*:5"], "dedicated": ["work"], "env": {"REGION": "eu-1"}})
            schedule = {"script": "work", "cron": "30 2 * * MON-FRI", "timezone": "Europe/Berlin"}
            put(it, "/schedules/nightly", schedule)
            put(it, "/alerts/stuck", {"when": "stranded", "to": ["slack:$SLACK_URL"]})
            put(it, "/tags/pauses", {"tag": "quiet", "reason": HOSTILE})
            it.put("nobody", x=1)
            it.put("work", what="no stock")
            job = {"script": "work", "args": {}, "tag": "spare"}
            spare = it.http.post("/api/v1/jobs", json=job).json()["id"]
            quiet = it.http.post("/api/v1/jobs", json=job | {"tag": "quiet"})
            assert quiet.status_code == 201, quiet.text
            it.until(spare, "success")
            yield it
        finally:
            worker.terminate()
            end(worker)


def put(it, path, body):
    """Set something over HTTP."""
    answer = it.http.put(f"/api/v1{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def browser(served):
    """One Chromium for all tests here."""
    browser = Browser(served.url)
    yield browser
    browser.close()


@pytest.fixture
def look(browser, served):
    """Opens a page and looks at it; fails for what goes wrong in it."""
    return looker(browser, served)


def get(served, path):
    """What the API says."""
    return served.http.get(f"/api/v1{path}").json()


VIEWS = {
    "/": "Jobs that nobody will run",
    "/schedules": "nightly",
    "/schedules/nightly": "Next ticks",
    "/workers": "kept warm for a normal worker",
    "/groups": "etl-*:5",
    "/groups/etl": "it fits no tag known here",
    "/groups/any": "Init and periodic scripts",
    "/groups/lab": "Not configured",
    "/history?range=1h": "By tag",
    "/alerts": "slack:$SLACK_URL",
    "/retention": "all others",
    "/scripts/work": "Versions",
    "/doctor": "hotpath dedicate nobody",
}


@pytest.mark.parametrize("paths", [list(VIEWS)[::2], list(VIEWS)[1::2]], ids=["some", "others"])
def test_every_view_shows_what_there_is(look, served, paths):
    """Each view loads with real data, fits the screen, be it small or large, dark or light, has one heading
    and a title, and names what can be used; text of others stays text.
    """
    until(lambda: get(served, "/history")["tags"])  # the page asks every 30 s

    def see(page):
        for path in paths:
            page.goto(path)
            page.get_by_text(VIEWS[path]).first.wait_for()
            if path == "/":
                page.get_by_text(HOSTILE).wait_for()
            page.locator(".loading, .boot").first.wait_for(state="detached")
            assert page.title() != "Hotpath"
            for _ in on_screens(page):
                assert page.locator("h1").count() == 1, path
                assert page.locator(".trouble:not(.warn)").count() == 0, path
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
                assert page.evaluate(NAMELESS) == [], path
                nav = "(n => n.scrollWidth <= n.clientWidth)(document.querySelector('.top nav'))"
                assert page.evaluate(nav), "all views can be seen in the navigation"
            assert page.evaluate("window.pwned") is None, path

    look(see, fine=HTTP_ERROR)


def test_the_keyboard_leads_to_each_view(look):
    """g and a letter."""

    def see(page):
        page.goto("/jobs")
        page.locator("h1").wait_for()
        keys = {
            "g": "groups",
            "c": "schedules",
            "h": "history",
            "a": "alerts",
            "r": "retention",
            "d": "doctor",
        }
        for key, path in keys.items():
            page.keyboard.press("g")
            page.keyboard.press(key)
            page.wait_for_url(f"**/{path}")

    look(see)


def test_a_group_is_edited_down_to_the_database(look, served, environ):
    """What is saved is the configuration; a value that stayed masked is the one that was there."""

    def see(page):
        page.goto("/groups/etl")
        assert page.locator("#group-env").input_value() == f"REGION={MASK}"
        page.locator("#group-tags").fill("etl-*:5\nvip\n!etl-slow")
        page.locator("#group-env").fill(f"REGION={MASK}\nMODE=a=b")
        page.locator("#group-processes").fill("2")
        page.locator("#group-max_rss").fill("2G")
        page.locator("#group-init").fill("#!/bin/sh\necho one\necho two")
        page.get_by_role("button", name="Another script").click()
        script = page.locator(".periodic")
        script.locator("[name=name]").fill("clean")
        script.locator("[name=every]").fill("10m")
        page.get_by_role("button", name="Save").click()
        script.locator("[id$=text-fault]").get_by_text("is needed").wait_for()
        script.locator("[name=text]").fill("rm -rf scratch")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved as revision").wait_for()
        page.get_by_role("button", name="Save").click()
        page.get_by_text("It was like that already").wait_for()
        page.get_by_text("dedicated to 'work' as well").first.wait_for(state="detached")

    look(see)
    shown = subprocess.run(
        [sys.executable, "-m", "hotpath", "group", "show", "etl", "--reveal", "--json"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)["config"] == {
        "tags": [{"tag": "etl-*", "priority": 5}, "vip", "!etl-slow"],
        "dedicated": ["work"],
        "processes": 2,
        "env": {"REGION": "eu-1", "MODE": "a=b"},
        "init": "#!/bin/sh\necho one\necho two",
        "periodic": [{"name": "clean", "every": 600.0, "text": "rm -rf scratch"}],
        "max_rss": 2 << 30,
    }


def test_what_is_wrong_with_a_group_is_said_at_its_field(look, served):
    """By the form, and by the server."""
    before = get(served, "/groups/etl")["revision"]

    def see(page):
        page.goto("/groups/etl")
        for field, text, said in (
            ("processes", "x", "is not a whole number"),
            ("processes", "0", ">= 1|from 1"),
            ("env", "no value", "without NAME="),
            ("tags", "a\n!a", "has both"),
            ("grace", "soon", "must be a time"),
        ):
            was = page.locator(f"#group-{field}").input_value()
            page.locator(f"#group-{field}").fill(text)
            page.get_by_role("button", name="Save").click()
            page.locator(f"#group-{field}-fault").get_by_text(re.compile(said)).wait_for()
            page.locator(f"#group-{field}").fill(was)

    look(see, fine=HTTP_ERROR)
    assert get(served, "/groups/etl")["revision"] == before


def test_nobodys_change_is_written_over(look, served):
    """Who saves over a change of somebody else is told, and can look at it."""
    put(served, "/groups/both", {"processes": 2})

    def see(page):
        page.goto("/groups/both")
        page.locator("#group-processes").fill("3")
        put(served, "/groups/both", {"processes": 7})
        page.get_by_role("button", name="Save").click()
        page.get_by_text("read it again, then change it").wait_for()
        page.get_by_role("button", name="Show the newest").click()
        page.locator("#group-processes[value], #group-processes").wait_for()
        until(lambda: page.locator("#group-processes").input_value() == "7" or page.wait_for_timeout(30))
        page.get_by_role("button", name="Delete …").click()
        page.get_by_role("button", name="Delete both").click()
        page.wait_for_url("**/groups")

    look(see, fine=HTTP_ERROR)
    assert served.http.get("/api/v1/groups/both").status_code == 404


def test_a_schedule_is_made_changed_run_paused_and_deleted(look, served):
    """All in the page, with the args of the script's own form; what is wrong is said at its field."""

    def see(page):
        page.goto("/schedules")
        page.get_by_role("button", name="New schedule").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("#set-name").fill("pulse")
        dialog.locator("#set-script").fill("work")
        dialog.locator("#arg-what").fill("ok")
        dialog.locator("#set-cron").fill("61 * * * *")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#set-cron-fault").wait_for()
        until(lambda: page.evaluate("document.activeElement.id") == "set-cron")
        dialog.locator("#set-cron").fill("")
        dialog.locator("#set-every").fill("soon")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#set-every-fault").get_by_text("is a time such as").wait_for()
        dialog.locator("#set-every").fill("1h")
        dialog.get_by_role("button", name="Set it").click()
        page.wait_for_url("**/schedules/pulse")
        page.get_by_role("button", name="Run now").click()
        page.get_by_text("by hand").wait_for()
        page.locator("tbody .state.success").wait_for()
        page.get_by_role("button", name="Change …").click()
        page.get_by_role("dialog").locator("#set-every").fill("2h")
        page.get_by_role("dialog").get_by_role("button", name="Set it").click()
        page.get_by_text("every 2 h").wait_for()
        page.get_by_role("button", name="Pause").click()
        page.locator("h1").get_by_text("paused").wait_for()
        found = get(served, "/schedules/pulse")
        assert (found["every"], found["enabled"], found["args"]) == (7200, False, {"what": "ok"})
        page.get_by_role("button", name="Resume").click()
        page.locator("h1").get_by_text("active").wait_for()
        page.get_by_role("button", name="Delete …").click()
        page.get_by_role("button", name="Keep it").click()
        page.get_by_role("button", name="Delete …").click()
        page.get_by_role("button", name="Delete pulse").click()
        page.wait_for_url("**/schedules")

    look(see, fine=HTTP_ERROR)
    assert served.http.get("/api/v1/schedules/pulse").status_code == 404


def test_a_tag_is_paused_and_resumed(look, served):
    """From where it is seen to wait."""

    def see(page):
        page.goto("/")
        page.get_by_role("button", name="Pause trip").click()
        page.locator("#pause-reason").fill("the API is down")
        page.get_by_role("dialog").get_by_role("button", name="Pause it").click()
        page.get_by_text("the API is down").wait_for()
        paused = {each["tag"]: each for each in get(served, "/tags/pauses")["paused"]}
        assert paused["trip"]["reason"] == "the API is down"
        row = page.locator("tr", has=page.get_by_text("the API is down"))
        row.get_by_role("button", name="Resume").click()
        page.get_by_text("the API is down").wait_for(state="detached")

    look(see)
    assert "trip" not in {each["tag"] for each in get(served, "/tags/pauses")["paused"]}


def test_the_scale_of_a_group_is_set_and_unset(look, served):
    """Fields as the server says them; what cannot be is said at its field; the defaults come back."""

    def see(page):
        page.goto("/groups/etl")
        page.get_by_role("button", name="Scale …").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("#scale-min_workers").fill("9")
        dialog.locator("#scale-max_workers").fill("4")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#scale-min_workers-fault").get_by_text("more than max_workers 4").wait_for()
        dialog.locator("#scale-min_workers").fill("2")
        dialog.locator("#scale-cooldown_seconds").fill("30")
        dialog.locator("#scale-tags").fill("etl-*\n!etl-slow")
        dialog.get_by_role("button", name="Set it").click()
        dialog.wait_for(state="detached")
        page.get_by_text("2 to 4", exact=True).wait_for()
        said = get(served, "/groups/etl/scaling")["said"]
        assert (said["min_workers"], said["cooldown_seconds"]) == (2, 30)
        assert (said["tags"], said["utilisation"]) == (["etl-*", "!etl-slow"], 0.8)
        page.get_by_role("button", name="Scale …").click()
        assert dialog.locator("#scale-tags").input_value() == "etl-*\n!etl-slow"
        dialog.get_by_role("button", name="Have the defaults again").click()
        page.get_by_text("1 to 10 (by default)").wait_for()

    look(see, fine=HTTP_ERROR)
    assert get(served, "/groups/etl/scaling")["said"] is None


def test_a_scripts_limit_is_set_and_taken_back(look, served):
    """From its own view; a rate is written as by command."""

    def see(page):
        page.goto("/scripts/work")
        page.get_by_role("button", name="Limit …").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("#limit-rate").fill("many")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#limit-rate-fault").get_by_text("such as 10/60s").wait_for()
        dialog.locator("#limit-rate").fill("500/1h")
        dialog.locator("#limit-concurrency").fill("4")
        dialog.locator("#limit-key").fill("same for all")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#limit-key-fault").get_by_text("must name a field").wait_for()
        dialog.locator("#limit-key").fill("$args[what]")
        dialog.get_by_role("button", name="Set it").click()
        page.get_by_text("4 at a time, 500 in 1 h, for each $args[what]").wait_for()
        page.get_by_role("button", name="Limit …").click()
        assert dialog.locator("#limit-rate").input_value() == "500/3600s"
        dialog.get_by_role("button", name="Have what its version says").click()
        page.locator("dd").get_by_text("none", exact=True).wait_for()

    look(see, fine=HTTP_ERROR)
    assert get(served, "/limits")["limits"] == []


def test_retention_is_said_of_all_and_of_a_script(look, served):
    """What is wrong is said at its field, what was said is not unsaid by leaving it out."""

    def see(page):
        page.goto("/retention")
        page.get_by_role("button", name="Change all").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("#keep-logs").fill("soon")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#keep-logs-fault").get_by_text("logs must be").wait_for()
        dialog.locator("#keep-logs").fill("14d")
        dialog.locator("#keep-disk").fill("20G")
        dialog.get_by_role("button", name="Set it").click()
        page.get_by_text("at most 20 GiB").wait_for()
        page.get_by_role("button", name="Change all").click()
        assert dialog.locator("#keep-disk").input_value() == "20G"
        dialog.locator("#keep-logs").fill("")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#keep-logs-fault").get_by_text("say forever").wait_for()
        dialog.get_by_role("button", name="Not now").click()
        page.goto("/scripts/work")
        page.get_by_role("button", name="Keep …").click()
        dialog.locator("#keep-jobs").fill("3d")
        assert dialog.locator("#keep-disk").count() == 0
        dialog.get_by_role("button", name="Set it").click()
        page.get_by_text("jobs 3d").wait_for()
        rules = get(served, "/retention")
        assert (rules["default"]["logs"], rules["default"]["disk"]) == ("14d", 20 << 30)
        assert [each["database"]["jobs"] for each in rules["scripts"] if each["database"]] == ["3d"]
        page.goto("/retention")
        page.get_by_role("button", name="Change work").click()
        dialog.get_by_role("button", name="Say nothing of it any more").click()
        page.get_by_role("button", name="Change work").wait_for(state="detached")
        page.get_by_role("button", name="Change all").click()
        dialog.get_by_role("button", name="Say nothing of it any more").click()
        page.get_by_text("what the disk has").wait_for()

    look(see, fine=HTTP_ERROR)
    assert set(get(served, "/retention")["kept"].values()) == {"forever"}


def test_an_earlier_version_is_gone_back_to(look, served):
    """Who made each and since when it runs; going back asks once more."""
    version = {
        "script": "later",
        "source": "def main(): ...\n",
        "schema": {"type": "object", "properties": {}},
    }
    hashes = []
    for source in ("def main(): return 1\n", "def main(): return 2\n"):
        made = served.http.post("/api/v1/versions", json=version | {"source": source})
        hashes.append(made.json()["hash"][:12])

    def see(page):
        page.goto("/scripts/later")
        row = page.locator("tr", has=page.get_by_text(hashes[0]))
        row.get_by_text("by local").first.wait_for()
        row.get_by_role("button", name="Roll back …").click()
        row.get_by_role("button", name="Keep it").click()
        row.get_by_role("button", name="Roll back …").click()
        row.get_by_role("button", name=f"Roll back to {hashes[0]}").click()
        row.get_by_text("current", exact=True).wait_for()

    look(see)
    found = served.http.get("/api/v1/versions", params={"script": "later"}).json()["versions"]
    assert [(each["hash"][:12], each["current"]) for each in found] == [(hashes[1], False), (hashes[0], True)]


def test_a_periodic_script_is_seen_while_it_runs(look, served):
    """Among the runs of its group, with what it prints; it can be canceled there."""
    text = "echo so far; sleep 600"
    put(served, "/groups/any", {"tags": ["spare"], "slots": 1, "init": "echo ready",
                                "periodic": [{"name": "slow", "every": 3600, "text": text}]})  # fmt: skip

    def see(page):
        page.goto("/groups/any")
        row = page.locator("tr", has=page.get_by_text("/slow"))
        row.locator(".state.running").wait_for()
        row.locator("a.id").click()
        page.get_by_role("log", name="Log").get_by_text("so far").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.locator("h1 .state.canceled").wait_for()

    look(see)


def test_an_alert_is_made_silenced_tested_and_deleted(look, served):
    """A rule that means nothing is refused at its field; what this server lacks is said."""

    def see(page):
        page.goto("/alerts")
        page.get_by_role("button", name="New alert").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("#alert-name").fill("slow")
        dialog.locator("#alert-when").fill("waiting over much")
        dialog.locator("#alert-to").fill("slack:$NO_SUCH_URL")
        dialog.get_by_role("button", name="Set it").click()
        dialog.locator("#alert-when-fault").wait_for()
        dialog.locator("#alert-when").fill("waiting over 5m on etl-*")
        dialog.locator("#alert-for").fill("30")
        dialog.get_by_role("button", name="Set it").click()
        page.locator(".trouble.warn").get_by_text("NO_SUCH_URL").wait_for()
        panel = page.get_by_role("region", name="slow")
        panel.get_by_role("button", name="Silence for 1 h").click()
        panel.get_by_text("silent until").wait_for()
        panel.get_by_role("button", name="Let it speak").click()
        panel.get_by_text("silent until").wait_for(state="detached")
        found = get(served, "/alerts/slow")["alert"]
        assert (found["when"], found["for"], found["silent_until"]) == ("waiting over 5m on etl-*", 30, None)
        panel.get_by_role("button", name="Change …").click()
        assert page.locator("#alert-to").input_value() == "slack:$NO_SUCH_URL"
        page.get_by_role("dialog").get_by_role("button", name="Not now").click()
        panel.get_by_role("button", name="Delete …").click()
        panel.get_by_role("button", name="Delete slow").click()
        panel.wait_for(state="detached")

    look(see, fine=HTTP_ERROR)
    assert served.http.get("/api/v1/alerts/slow").status_code == 404


def test_history_has_ranges_and_tags(look, served):
    """They are the address; what ended is told by tag."""
    until(lambda: "work" in {each["tag"] for each in get(served, "/history")["tags"]})

    def see(page):
        page.goto("/history")
        page.get_by_role("link", name="14 days").click()
        page.wait_for_url("**/history?range=14d")
        page.get_by_role("link", name="work", exact=True).click()
        page.wait_for_url("**/history?range=14d&tag=work")
        until(lambda: page.locator("tbody tr").count() == 1 or page.wait_for_timeout(30))
        page.locator("tbody tr").get_by_text("work").wait_for()
        chart = page.get_by_role("img", name=re.compile("Jobs ended a minute, by outcome"))
        chart.focus()
        page.keyboard.press("ArrowLeft")
        page.locator("output", has_text="succeeded").wait_for()
        page.get_by_role("searchbox").fill("no-such-*")
        page.keyboard.press("Enter")
        page.get_by_text("No tag that fits").wait_for()

    look(see)


def test_what_has_only_begun_is_no_slump(look, served):
    """How many jobs ended a minute, of a step that is not over, is told of what is over of it."""
    series = {name: [None, None] for name in ("waiting", "running", "oldest_ms")}
    series |= {
        "success": [600, 300],
        **{name: [0, 0] for name in ("failure", "canceled", "retried", "busy_ms")},
    }
    steps = ["2026-11-27T10:00:00Z", "2026-11-27T11:00:00Z"]
    body = {
        "since": steps[0], "until": "2026-11-27T11:30:00Z", "step_seconds": 3600, "steps": steps,
        "all": series | {"tag": None}, "tags": [series | {"tag": "work"}],
    }  # fmt: skip

    def see(page):
        page.route("**/api/v1/history?*", lambda route: route.fulfill(json=body))
        page.goto("/history")
        for name, said in (("by tag", "10 work"), ("by outcome", "10 succeeded")):
            chart = page.get_by_role("img", name=re.compile(f"Jobs ended a minute, {name}"))
            assert said in chart.get_attribute("aria-label")

    look(see)


def test_a_reader_is_offered_what_it_may(look, served):
    """With the scope `read` all is seen but the doctor, and nothing can be changed."""
    body = {"name": "look", "scopes": ["read"]}
    token = served.http.post("/api/v1/tokens", json=body).json()["token"]

    def see(page):
        page.set_extra_http_headers({"authorization": f"Bearer {token}"})
        page.goto("/groups/etl")
        page.get_by_text("Changing it needs the scope").wait_for()
        assert page.get_by_role("button", name="Delete").count() == 0
        views = {"/alerts": "stuck", "/schedules/nightly": "Next ticks", "/": "by tag"}
        for path, text in (views | {"/retention": "all others", "/scripts/work": "Versions"}).items():
            page.goto(path)
            page.get_by_text(text).first.wait_for()
            names = re.compile("New|Pause|Resume|Run now|Change|Delete|Silence|Test|Limit|Keep|Scale|Roll")
            assert page.get_by_role("button", name=names).count() == 0, path
        page.goto("/doctor")
        page.get_by_text("Only an administrator sees this").wait_for()

    look(see, fine=HTTP_ERROR)


LAYOUTS = r"""async () => {
    const {layout} = await import('/static/app/layout.js');
    let seed = 7;
    const any = (n) => (seed = (seed * 48271) % 2147483647) % n;
    const faults = [];
    for (let round = 0; round < 200; round += 1) {
        const nodes = [], edges = [];
        const fill = (parent, deep) => {
            let before = null;
            for (let k = any(5) + 1; k > 0; k -= 1) {
                const id = `n${nodes.length}`;
                nodes.push({id, parent});
                if (before && any(3)) edges.push({from: before, to: id});
                before = id;
                if (deep < 4 && any(3) === 0) fill(id, deep + 1);
            }
        };
        fill(null, 0);
        const size = () => ({width: 60 + any(150), height: 30 + any(50)});
        const {width, height, at} = layout({nodes, edges}, size, () => ({width: 80, height: 18}));
        const box = ({id}) => ({l: at[id].x - at[id].width / 2, r: at[id].x + at[id].width / 2,
            t: at[id].y - at[id].height / 2, b: at[id].y + at[id].height / 2});
        for (const each of nodes) {
            const a = box(each);
            if (a.l < 0 || a.t < 0 || a.r > width || a.b > height) faults.push('outside');
            if (each.parent) {
                const p = box({id: each.parent});
                if (a.l < p.l || a.r > p.r || a.t < p.t + 18 || a.b > p.b) faults.push('not in its box');
            }
            for (const other of nodes) {
                if (other === each || other.parent !== each.parent) continue;
                const b = box(other);
                if (a.l < b.r && b.l < a.r && a.t < b.b && b.t < a.b) faults.push('upon another');
            }
        }
        for (const {from, to} of edges) {
            if (box({id: from}).b >= box({id: to}).t) faults.push('upwards');
            if (Math.abs(at[from].x - at[to].x) > 0.01) faults.push('askew');
        }
    }
    return [...new Set(faults)];
}"""


def test_graphs_are_laid_out_without_overlaps(look):
    """Boxes hold what is in them, nothing lies upon anything else, and arrows go straight down."""

    def see(page):
        page.goto("/scripts")
        return page.evaluate(LAYOUTS)

    assert look(see) == []
