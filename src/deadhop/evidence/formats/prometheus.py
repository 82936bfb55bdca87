"""Prometheus samples: the text exposition format, what a graph's legend or ``promtool query instant`` prints, and the API's JSON.

A sample becomes a counter with its labels. Metrics that Envoy and Cilium also print in a listing of their own get that
listing's names, so that a cause knows one name for one thing: ``cluster.NAME.upstream_rq_pending_overflow`` below
``envoy.``, ``cilium_drop`` and ``cilium_forward`` by reason (Prometheus exposition_formats.md; Envoy
source/server/admin/prometheus_stats.cc; Cilium Documentation/observability/metrics.rst).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.kernel import Counter
from deadhop.model.record import Record

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+|Inf|NaN)"
_LABEL = r"[a-zA-Z_]\w*\s*=\s*\"(?:[^\"\\]|\\.)*\""
_SAMPLE = re.compile(
    rf"^\s*(?P<name>[a-zA-Z_:][\w:]*)?(?:\{{\s*(?P<labels>(?:{_LABEL})?(?:\s*,\s*{_LABEL})*)\s*,?\s*\}})?"
    rf"\s*(?:[a-z][\w ]{{0,40}}\s*(?==))?(?:=>|=|:)?\s*(?P<value>{_NUMBER})(?:\s*@\s*\[?[\d.]+\]?|\s+\d{{10,13}})?\s*(?:#.*)?$"
)
_PAIR = re.compile(r"([a-zA-Z_]\w*)\s*=\s*\"((?:[^\"\\]|\\.)*)\"")
#: A function around a selector, as it is typed for an instant query. What keeps a counter's zero a zero is still that counter.
_APPLIED = re.compile(rf"^\s*(?P<call>[a-z_]+\s*\(.*\))\s*(?:=>|=|:)?\s*(?P<value>{_NUMBER})\s*$")
_MONOTONE = frozenset("sum max rate irate increase delta round ceil by".split())
_SELECTOR = re.compile(
    rf"(?P<name>[a-zA-Z_:][\w:]*)\{{\s*(?P<labels>{_LABEL}(?:\s*,\s*{_LABEL})*)\s*,?\s*\}}"
)
#: Without labels a name and a number are too little, except where the name says that it is a metric.
_METRIC = re.compile(
    r"^(?:(?:envoy|cilium|hubble|coredns|istio|node|kube|kubeproxy|felix|apiserver|container|haproxy|nginx|probe|pilot|linkerd|ztunnel)_\w+|\w+_(?:total|bytes|seconds|count|sum|bucket))$"
)
_ENVOY = re.compile(
    r"^envoy_(?P<group>cluster|listener|http|server|cluster_manager|listener_manager)_(?P<rest>\w+)$"
)
_CLUSTER_LABELS = ("envoy_cluster_name", "cluster_name")


def counter(name: str, labels: dict[str, str], value: float, **place: Any) -> Counter:
    return Counter(name=_named(name, labels), value=value, labels=tuple(labels.items()), **place)


def _named(name: str, labels: dict[str, str]) -> str:
    if name.startswith(("cilium_drop_count", "hubble_drop_total")):
        return "cilium_drop" if "reason" in labels else name
    if name.startswith("cilium_forward_count"):
        return "cilium_forward"
    match = _ENVOY.match(name)
    if match is None or name.endswith("_update_failure"):
        return name  # a failed update that is counted since the start is no state
    which = next((labels[k] for k in _CLUSTER_LABELS if labels.get(k)), "")
    return ".".join(part for part in ("envoy", match["group"], which, match["rest"]) if part)


def label_pairs(text: str) -> dict[str, str]:
    return {k: v.replace('\\"', '"').replace("\\\\", "\\") for k, v in _PAIR.findall(text)}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if len(line) > 2000:
        return i, []
    if re.match(r"^# (?:HELP|TYPE|UNIT) [a-zA-Z_:]", line) or line == "# EOF":
        return i + 1, []
    if applied := _APPLIED.match(line):
        return i + 1, _through(applied, lines, i, context)
    match = _SAMPLE.match(line)
    if match is None:
        return i, []
    name, told = match["name"] or "", match["labels"]
    labels = label_pairs(told or "")
    name = name or labels.get("__name__", "")
    if not (labels or _METRIC.match(name)) or not (name or labels):
        return i, []
    value = float(match["value"])
    return i + 1, [counter(name, labels, value, source=lines.source(i), where=context.where)]


def _through(applied: re.Match[str], lines: Lines, i: int, context: Context) -> list[Record]:
    """The counter below functions that leave zero zero and the rest above it; nothing for any other function."""
    selectors = list(_SELECTOR.finditer(applied["call"]))
    called = set(re.findall(r"([a-z_]+)\s*\(", _SELECTOR.sub("", applied["call"])))
    if len(selectors) != 1 or not called <= _MONOTONE:
        return []
    name = selectors[0]["name"]
    if not (name.endswith("_total") or name.startswith("envoy_")):
        return []
    labels = label_pairs(selectors[0]["labels"])
    return [counter(name, labels, float(applied["value"]), source=lines.source(i), where=context.where)]


def _results(value: Any) -> list[Any]:
    data = value.get("data") if isinstance(value, dict) else None
    rows = data.get("result") if isinstance(data, dict) else value
    return rows if isinstance(rows, list) else []


def _sample(row: Any) -> bool:
    return (
        isinstance(row, dict) and isinstance(row.get("metric"), dict) and ("value" in row or "values" in row)
    )


def _match(value: Any) -> bool:
    rows = _results(value)
    return bool(rows) and all(_sample(r) for r in rows[:3])


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    """The answer of ``/api/v1/query``; of a range the last value of each series."""
    for row in _results(value):
        if not _sample(row):
            continue
        points = row.get("values") or [row.get("value")]
        last = points[-1] if isinstance(points, list) and points else None
        if not isinstance(last, list) or len(last) != 2:
            continue
        labels = {str(k): str(v) for k, v in row["metric"].items()}
        try:
            number = float(str(last[1]))
        except ValueError:
            continue
        name = labels.pop("__name__", "")
        yield counter(name, labels, number, source=locate("data/result"), where=context.where)


FORMATS = (
    LineFormat(
        "prometheus",
        re.compile(
            r"^\s*(?:[a-zA-Z_:][\w:]*)?\{[^{}]*=\s*\".*\}|^\s*[a-z_]+\s*\(.*\{.*\}.*\)|^\s*[a-zA-Z_:][\w:]*_\w+\s+[-+\d.]|^# (?:HELP|TYPE|UNIT|EOF)"
        ),
        _read,
        priority=17,
    ),
    ValueFormat("prometheus-json", _match, _read_json, priority=14),
)
