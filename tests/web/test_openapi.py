"""The OpenAPI document is valid, whole, and true: what schemathesis makes of it is answered as it says."""

import json

import pytest
from openapi_spec_validator import validate

from hotpath.web import openapi
from hotpath.web.access import needed_scope
from hotpath.web.api import TABLE


def test_valid():
    """The document is OpenAPI 3.1."""
    document = json.loads(openapi.encoded())
    assert document["openapi"] == "3.1.0"
    validate(document)


@pytest.mark.parametrize("endpoint", TABLE, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_whole(endpoint):
    """Each endpoint says what it does, what it takes, and what it needs, which is what is asked for."""
    assert endpoint.summary.endswith(".")
    assert endpoint.answers
    path = endpoint.path.replace(":path}", "}").replace("{", "").replace("}", "")
    assert endpoint.scope == needed_scope(endpoint.method, path)
    operation = json.loads(openapi.encoded())["paths"][endpoint.path.replace(":path}", "}")][
        endpoint.method.lower()
    ]
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter
    assert operation["summary"] == endpoint.summary


async def test_served(served):
    """It is where one looks for it."""
    response = await served.http.get("/openapi.json")
    assert response.status_code == 200
    assert response.content == openapi.encoded()
