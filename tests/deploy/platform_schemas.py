"""Documents held against the vendored schemas (schemas/README.md): no field passes that they do not know."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

_SCHEMAS = Path(__file__).parent / "schemas"


@functools.cache
def _validators() -> dict[str, Draft202012Validator]:
    found = {}
    for name in ("kubernetes", "keda"):
        document = json.loads((_SCHEMAS / f"{name}.json").read_text())
        for kind, place in document["kinds"].items():
            found[kind] = Draft202012Validator({"$ref": place, "$defs": document["$defs"]})
    return found


@functools.cache
def _compose() -> Draft7Validator:
    return Draft7Validator(json.loads((_SCHEMAS / "compose.json").read_text()))


def refusals(document: dict[str, Any]) -> list[str]:
    """What Kubernetes or KEDA would not take of an object; the apiVersion has to be the kind's own."""
    versions = {
        "Deployment": "apps/v1", "Service": "v1", "ConfigMap": "v1", "ServiceAccount": "v1",
        "PodDisruptionBudget": "policy/v1", "ScaledObject": "keda.sh/v1alpha1",
        "TriggerAuthentication": "keda.sh/v1alpha1",
    }  # fmt: skip
    kind = document.get("kind", "")
    if document.get("apiVersion") != versions.get(kind):
        return [f"no kind {kind!r} of {document.get('apiVersion')!r}"]
    return [_text(error) for error in _validators()[kind].iter_errors(document)]


def compose_refusals(document: dict[str, Any]) -> list[str]:
    """What Compose would not take of a file."""
    return [_text(error) for error in _compose().iter_errors(document)]


def _text(error: Any) -> str:
    place = "/".join(map(str, error.absolute_path))
    return f"{place}: {error.message[:200]}"
