"""The W3C trace context that jobs carry (`traceparent`): who puts a job in is the parent of its span.

OpenTelemetry is not imported here: a program in which nobody else has imported it has no trace to carry.
"""

from __future__ import annotations

import re
import sys

_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def checked(text: str | None) -> str | None:
    """The text if it is a traceparent (version 00); None for anything else, which is to be ignored."""
    return text if text is not None and _FORM.fullmatch(text) else None


def current_traceparent() -> str | None:
    """That of the span that the caller is in; None where there is none, or no OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    return None if trace is None else traceparent_of(trace.get_current_span())


def traceparent_of(span: object) -> str | None:
    """That of a span of OpenTelemetry's; None for one that is none."""
    context = span.get_span_context()  # type: ignore[attr-defined]  # whose type is not at hand here
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
