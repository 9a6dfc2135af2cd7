"""The page behind a resume token, and the forms it makes of schemas."""

import re

import pytest
from flow_stage import make_flows, mark, step

from hotpath.store import flows
from hotpath.web import forms

FORM = {
    "type": "object",
    "required": ["amount"],
    "properties": {
        "amount": {"type": "integer", "title": "Amount <EUR>", "description": "how much & why"},
        "note": {"type": "string", "default": 'a"b<c>'},
        "urgent": {"type": "boolean"},
        "colour": {"enum": ["red", "green"]},
        "more": {"type": "object"},
    },
}
HTML = {"accept": "text/html"}


async def waiting(stage, form=None):
    """A run that waits behind its step `m`."""
    flowing = await make_flows(stage)
    session, hand = await flowing.in_hand()
    run = hand.ids[0]
    said = {"required": 1, "until": None, "form": form}
    await flowing.note(session, (hand, 0, step(run, "m")), (hand, 0, mark("suspend:m", said)))
    await flowing.park(session, hand, events={"m": 0})
    return run


async def send(served, path, **fields):
    """Look at the page and send its form."""
    shown = await served.http.get(path, headers=HTML)
    form = re.search(r'name="form" value="([^"]+)"', shown.text)[1]
    return await served.http.post(path, data={"form": form} | fields)


async def test_approve_once(served, stage):
    """The page shows run and step to whoever has the link; the button answers, once."""
    run = await waiting(stage)
    path = f"/resume/{await served.client.resume_token(run)}"
    for _ in range(2):  # looking answers nothing
        shown = await served.http.get(path, headers=HTML)
        assert (shown.status_code, str(run) in shown.text, "flow_x" in shown.text) == (200, True, True)
    assert shown.headers["referrer-policy"] == "same-origin"
    assert "form-action 'self'" in shown.headers["content-security-policy"]
    done = await send(served, path, answer="approve", approver="Ann")
    assert (done.status_code, "You have approved" in done.text) == (200, True)
    (event,) = (await flows.recall(stage.connection, [run]))[run].events["m"]
    assert (event.approved, event.payload, event.approver) == (True, b"null", "Ann")
    again = await served.http.get(path, headers=HTML)
    assert (again.status_code, "was used" in again.text) == (410, True)
    assert (await served.http.post(path, data={"answer": "approve"})).status_code == 410


async def test_form_fields(served, stage):
    """A form's fields are shown escaped, kept when something is wrong, and come as the payload."""
    run = await waiting(stage, FORM)
    path = f"/resume/{await served.client.resume_token(run)}"
    shown = (await served.http.get(path, headers=HTML)).text
    assert "Amount &lt;EUR&gt; *" in shown
    assert "how much &amp; why" in shown
    assert "a&quot;b&lt;c&gt;" in shown
    bad = await send(served, path, answer="approve", **{"field.amount": "<b>many</b>"})
    assert (bad.status_code, "is no integer" in bad.text, "<b>many" in bad.text) == (400, True, False)
    bad = await send(served, path, answer="approve", **{"field.note": "kept"})
    assert (bad.status_code, "amount" in bad.text, 'value="kept"' in bad.text) == (400, True, True)
    fields = {"field.amount": "7", "field.urgent": "on", "field.colour": "red", "field.more": '{"a": [1]}'}
    assert (await send(served, path, answer="approve", **fields)).status_code == 200
    (event,) = (await flows.recall(stage.connection, [run]))[run].events["m"]
    assert event.payload == b'{"amount":7,"urgent":true,"colour":"red","more":{"a":[1]}}'


async def test_disapprove_needs_no_fields(served, stage):
    """Who says no need not fill in what an approval needs."""
    run = await waiting(stage, FORM)
    done = await send(served, f"/resume/{await served.client.resume_token(run)}", answer="disapprove")
    assert "You have disapproved" in done.text
    (event,) = (await flows.recall(stage.connection, [run]))[run].events["m"]
    assert not event.approved


async def test_what_opens_nothing(served, stage):
    """Forged, cut, expired tokens, forms of others and posts without one: a page that says so, no answer."""
    run = await waiting(stage)
    token = await served.client.resume_token(run)
    other = "A" if token[-2] != "A" else "B"
    for bad in (
        token[:-1],
        token[:-2] + other + token[-1],
        "x",
        "%00",
        "<script>alert(1)</script>",
        "a" * 9000,
    ):
        reply = await served.http.get(f"/resume/{bad}", headers=HTML)
        assert reply.status_code == (400 if bad == "%00" else 404), bad
        assert "<script>alert" not in reply.text
    path = f"/resume/{token}"
    assert (await served.http.post(path, data={"answer": "approve"})).status_code == 403
    assert (await served.http.post(path, data={"answer": "approve", "form": "1.2"})).status_code == 403
    elsewhere = await served.http.post(
        path, data={"answer": "approve"}, headers={"origin": "http://evil.example"}
    )
    assert elsewhere.status_code == 403
    assert (await send(served, path, answer="maybe")).status_code == 400
    brief = await served.client.resume_token(run, expires=0.001)
    assert (await served.http.get(f"/resume/{brief}", headers=HTML)).status_code == 410
    assert (await flows.recall(stage.connection, [run]))[run].events == {}
    await served.client.cancel(run)
    reply = await served.http.get(path, headers=HTML)
    assert (reply.status_code, "has ended" in reply.text) == (410, True)


async def test_no_login_is_needed(serve_fixture, stage):
    """On a server that needs tokens, the link alone opens its page, and no other."""
    run = await waiting(stage)
    async with serve_fixture(require_token=True) as served:
        token = await served.client.resume_token(run)
        assert (await served.http.get(f"/resume/{token}", headers=HTML)).status_code == 200
        assert (await served.http.get("/static/plain.css")).status_code == 200
        assert (await served.http.get(f"/api/v1/jobs/{run}")).status_code == 401
        assert (await served.http.get(f"/resume/{token}/../../api/v1/jobs")).status_code in (401, 404)


@pytest.mark.parametrize(
    "schema",
    [None, True, [], {}, {"properties": None}, {"properties": {"a": None}},
     {"properties": {"a": {"type": 7}}},
     {"properties": {"a": {"type": ["null", "integer"], "enum": "x"}}, "required": True}],
)  # fmt: skip
def test_forms_of_any_schema(schema):
    """A schema is whatever a flow's author wrote; no form fails over it."""
    assert "<script" not in forms.render(schema, {})
    assert forms.read(schema, {"field.a": "1"}) in (None, {"a": 1})
