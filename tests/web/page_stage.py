"""A browser, a server and workers that the tests of the page share."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpx

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SECONDS = 30.0

HOSTILE = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=2'> \x1b]0;title\x07\x1b[2J a\u202eb"
)
WORK = '''
    """Does what it is told."""
    import trio

    class PaymentRefused(Exception):
        pass

    async def main(what: str = "ok", lines: int = 0, seconds: float = 0.0, gate: str | None = None) -> dict:
        """Do what the args say."""
        for k in range(lines):
            print(f"\\x1b[32mline\\x1b[0m {k}")
        if gate:
            print("before the gate")
            while not await trio.Path(gate).exists():
                await trio.sleep(0.02)
            print("behind the gate")
        await trio.sleep(seconds)
        if what == "hostile":
            print(HOSTILE)
            print("\\x1b[31mred\\x1b[0m plain")
        if what != "ok":
            raise PaymentRefused(HOSTILE if what == "hostile" else what)
        return {"what": what, "lines": lines}

    HOSTILE = %r
'''
SCRIPTS = {
    "work.py": WORK % HOSTILE,
    "nobody.py": """
        import hotpath

        def main(x: int, key: hotpath.Secret | None = None, tags: list[str] = []) -> int:
            '''A script that no worker is for.'''
            return x
    """,
    "trip.flow/flow.yaml": """
        summary: A trip, which somebody has to agree to
        value:
          modules:
            - id: plan
              value: {type: rawscript, language: python3, content: 'def main(): return [1, 2, 3]'}
            - id: legs
              summary: Each leg
              value:
                type: forloopflow
                iterator: {type: javascript, expr: results.plan}
                modules:
                  - id: book
                    value:
                      type: rawscript
                      language: python3
                      content: |
                        def main(n: int, bad: int) -> int:
                            print("booking", n)
                            if n == bad:
                                raise ValueError(f"leg {n} is booked out")
                            return n
                      input_transforms:
                        n: {type: javascript, expr: flow_input.iter.value}
                        bad: {type: javascript, expr: flow_input.bad}
            - id: agree
              suspend:
                required_events: 1
                timeout: 3600
                resume_form:
                  schema: {type: object, properties: {comment: {type: string}}, required: [comment]}
              value: {type: rawscript, language: python3, content: 'def main(): return 0'}
            - id: report
              value:
                type: rawscript
                language: python3
                content: 'def main(said: dict) -> str: return said["comment"]'
                input_transforms:
                  said: {type: javascript, expr: resume}
        schema:
          type: object
          properties: {bad: {type: integer, default: 0}}
    """,
}


def until(look, seconds=SECONDS):
    """What `look()` gives once it is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not so within {seconds:.0f} s"
        time.sleep(0.03)
    return found


@attrs.frozen
class Site:
    """A server that runs, and how to speak to it."""

    url: str
    http: httpx.Client
    workspace: Path

    def put(self, script="work", **args):
        """Put a job in; its id."""
        answer = self.http.post("/api/v1/jobs", json={"script": script, "args": args})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def job(self, id):
        """The job as it is now."""
        return self.http.get(f"/api/v1/jobs/{id}").json()

    def until(self, id, *states):
        """The job, once it is in one of these states."""
        return until(lambda: (job := self.job(id))["state"] in states and job)


@contextmanager
def site(database_url, workspace):
    """The server of a workspace with a few scripts, and workers for two of them."""
    for name, source in SCRIPTS.items():
        file = workspace / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
    environ = {**os.environ, "HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(workspace)}
    with ExitStack() as ends, ExitStack() as stops:

        def start(*command):
            process = subprocess.Popen(
                [sys.executable, "-m", "hotpath", *command],
                env=environ,
                cwd=workspace,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            ends.callback(end, process)
            stops.callback(process.terminate)  # all are told before one is waited for
            return process

        start("deploy", ".")
        start("dedicate", "work", "-c", "10", "-g", "lab", "--json", "--grace", "0")
        start("dedicate", "trip", "-g", "lab", "--json", "--grace", "0")
        server = start("serve", "--port", "0", "--grace", "1", "--json")
        ready = json.loads(server.stdout.readline())
        url = ready["urls"][0]
        http = stops.enter_context(httpx.Client(base_url=url, timeout=40))
        it = Site(url, http, workspace)
        names = {"work", "trip", "nobody"}
        until(lambda: names <= {each["script"] for each in http.get("/api/v1/scripts").json()["scripts"]})
        yield it


def end(process):
    """Wait for the end of a process that was told to, whatever it takes."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


class Browser:
    """Chromium in a thread of its own, since Playwright keeps an event loop there."""

    def __init__(self, url):
        self._url = url
        self._asked = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="browser")
        self._thread.start()

    def run(self, look):
        """What `look(context)` gives, run in the browser's thread."""
        future = Future()
        self._asked.put((look, future))
        return future.result(150)

    def close(self):
        """End it."""
        self._asked.put(None)
        self._thread.join()

    def _run(self):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=90_000)
            # One context for all tests: what it has loaded once it keeps, as a reader's browser does.
            context = browser.new_context(
                base_url=self._url, locale="en-US", timezone_id="Europe/Berlin", reduced_motion="reduce"
            )
            context.set_default_timeout(SECONDS * 1000)
            while (asked := self._asked.get()) is not None:
                look, future = asked
                try:
                    future.set_result(look(context))
                except BaseException as error:
                    future.set_exception(error)
            browser.close()


def on_screens(page):
    """Goes from one screen to the next: a large and light one, a small and dark one."""
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        yield width


def looker(browser, site, allowed=r"^$"):
    """A function that opens a page, lets another look at it, and fails for whatever goes wrong in the
    browser: errors of scripts, what the policy blocks, requests to elsewhere.
    """

    def look(see, *, width=1280, height=900, scheme="light", fine=allowed):
        faults = []

        def visit(context):
            page = context.new_page()
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            page.on("pageerror", lambda error: faults.append(f"{error}\n{error.stack}"))
            page.on("console", lambda said: said.type in ("error", "warning") and faults.append(said.text))
            page.on("request", lambda request: outside(request.url))
            page.on("websocket", lambda socket: outside(socket.url.replace("ws://", "http://")))
            try:
                return see(page)
            finally:
                page.evaluate("try { localStorage.clear() } catch {}")
                page.close()

        def outside(url):
            if not url.startswith((f"{site.url}/", "data:", "blob:")):
                faults.append(f"a request to {url}")

        found = browser.run(visit)
        assert [fault for fault in faults if not re.search(fine, fault)] == []
        return found

    return look
