"""The text formats of Prometheus: 0.0.4, and OpenMetrics 1.0 for those who ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})

Labels = Mapping[str, str]


@attrs.define(eq=False)
class Family:
    """All samples of one metric."""

    name: str
    """Of a counter, without `_total`."""
    kind: str
    """`counter`, `gauge` or `histogram`."""
    help: str
    _lines: list[tuple[str, Labels, float]] = attrs.field(factory=list)

    def add(self, value: float | None, **labels: str) -> None:
        """One sample; None: nothing is known, and nothing said."""
        if value is not None:
            self._lines.append(("_total" if self.kind == "counter" else "", labels, value))

    def add_histogram(
        self, counts: Sequence[int], bounds: Sequence[float], total: float, **labels: str
    ) -> None:
        """A histogram: how many in each bucket (one more than there are bounds), and the sum of all."""
        so_far = 0
        for count, bound in zip(counts, (*bounds, float("inf")), strict=True):
            so_far += count
            self._lines.append(("_bucket", {**labels, "le": _number(bound)}, so_far))
        self._lines.append(("_sum", labels, total))
        self._lines.append(("_count", labels, so_far))

    def lines(self, *, openmetrics: bool) -> Iterable[str]:
        """The family as text; nothing if it has no samples."""
        if not self._lines:
            return
        name = self.name + ("_total" if self.kind == "counter" and not openmetrics else "")
        text = self.help.translate(_LABEL if openmetrics else _HELP)
        yield f"# HELP {name} {text}\n"
        yield f"# TYPE {name} {self.kind}\n"
        for suffix, labels, value in self._lines:
            yield f"{self.name}{suffix}{_labels(labels)} {_number(value)}\n"


def expose(families: Iterable[Family], *, openmetrics: bool) -> str:
    """All of it as one text."""
    text = "".join(line for family in families for line in family.lines(openmetrics=openmetrics))
    return text + "# EOF\n" if openmetrics else text


def wants_openmetrics(accept: str) -> bool:
    """Whether this Accept header asks for OpenMetrics at least as much as for anything else."""
    qualities: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        quality = 1.0
        for name, _, value in (each.partition("=") for each in parameters):
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        kind = kind.lower()
        qualities[kind] = max(qualities.get(kind, 0.0), quality)
    mine = qualities.get("application/openmetrics-text", 0.0)
    return mine > 0 and mine >= qualities.get("text/plain", 0.0)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_clean(value)}"' for name, value in labels.items()) + "}"


def _clean(value: str) -> str:
    return value.translate(_LABEL).encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(value)
