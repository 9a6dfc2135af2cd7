"""A strict reader of the text formats of Prometheus, written by their grammar and not by our writer."""

from __future__ import annotations

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
NUMBER = r"[+-]?(?:Inf|[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)|NaN"
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? ({NUMBER})")
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
SUFFIXES = {
    False: {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]},
    True: {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]},
}


def parse(text: str, *, openmetrics: bool = False) -> dict[str, dict[frozenset, float]]:
    """Samples by name and labels. Fails on whatever the format does not allow: families that are not
    together, samples twice, wrong suffixes, histograms that do not add up.
    """
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    if openmetrics:
        assert lines.pop() == "# EOF"
    samples: dict[str, dict[frozenset, float]] = {}
    seen: dict[str, str] = {}
    family = kind = helped = ""
    for line in lines:
        if line.startswith("#"):
            comment = COMMENT.fullmatch(line)
            assert comment, line
            what, name, rest = comment.groups()
            if what == "HELP":
                assert name not in seen, f"{name} comes twice"
                helped = name
            else:
                assert name == helped, f"{name} has no help"
                assert rest in SUFFIXES[openmetrics], line
                family, kind = name, rest
                seen[family] = kind
                if kind == "counter" and not openmetrics:
                    assert family.endswith("_total"), line
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        assert any(name == family + suffix for suffix in SUFFIXES[openmetrics][kind]), line
        pairs = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"', labels or "")
        assert len({key for key, _ in pairs}) == len(pairs), line
        key = frozenset((k, re.sub(r"\\.", lambda found: UNESCAPED[found[0]], v)) for k, v in pairs)
        assert key not in samples.setdefault(name, {}), f"twice: {line}"
        samples[name][key] = float(value)
    for name in (name for name, kind in seen.items() if kind == "histogram"):
        _check_histogram(name, samples)
    return samples


def _check_histogram(name: str, samples: dict[str, dict[frozenset, float]]) -> None:
    buckets: dict[frozenset, list[tuple[float, float]]] = {}
    for key, count in samples[name + "_bucket"].items():
        labels = dict(key)
        bound = float(labels.pop("le"))
        buckets.setdefault(frozenset(labels.items()), []).append((bound, count))
    assert set(buckets) == set(samples[name + "_count"]) == set(samples[name + "_sum"])
    for labels, found in buckets.items():
        assert found == sorted(found), "bounds in order, counts that do not fall"
        assert [count for _, count in found] == sorted(count for _, count in found)
        assert found[-1] == (float("inf"), samples[name + "_count"][labels])
