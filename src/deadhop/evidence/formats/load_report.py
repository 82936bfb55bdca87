"""How often a load generator got which status: hey, oha, wrk, ApacheBench, vegeta, h2load, bombardier, nighthawk.

Each yields ``load.code.CODE`` as fortio's summary does (``envoy_stats``). Where a tool counts classes alone the code is
``2xx`` or ``5xx``; wrk and ab count what is not 2xx as ``other``, beside all requests (``load.requests``).
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kernel import Counter
from deadhop.model.record import Record

_HEY = re.compile(r"^\s*\[(?P<code>[1-5]\d\d)\]\s+(?P<n>\d+) responses\s*$")
_OTHER = re.compile(r"^\s*Non-2xx(?: or 3xx)? responses:\s+(?P<n>\d+)\s*$")
_ALL = re.compile(r"^\s*(?:Complete requests:\s+(?P<ab>\d+)|(?P<wrk>\d+) requests in [\d.]+m?s\b.*)\s*$")
_VEGETA = re.compile(r"^\s*Status Codes\s+\[code:count\]\s+(?P<pairs>(?:\d{1,3}:\d+\s*)+)$")
_CLASSES = re.compile(r"^\s*(?:status codes:|1xx - )(?P<rest>.*\b[25]xx\b.*)$")
_NIGHTHAWK = re.compile(r"^\s*benchmark\.http_(?P<code>[1-5]xx)\s+(?P<n>\d+)\b")
_START = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", p.pattern) for p in (_HEY, _OTHER, _ALL, _VEGETA, _CLASSES, _NIGHTHAWK)))  # fmt: skip


def _counts(line: str) -> list[tuple[str, str]]:
    """What a line of a report counts: ``(name, number)``, the name a ``code.CODE`` or ``requests``."""
    if match := _HEY.match(line) or _NIGHTHAWK.match(line):
        return [(f"code.{match['code']}", match["n"])]
    if match := _OTHER.match(line):
        return [("code.other", match["n"])]
    if match := _ALL.match(line):
        return [("requests", match["ab"] or match["wrk"])]
    if match := _VEGETA.match(line):
        return [(f"code.{c}", n) for c, _s, n in (pair.partition(":") for pair in match["pairs"].split())]
    if match := _CLASSES.match(line):
        h2load = [(c, n) for n, c in re.findall(r"(\d+) ([1-5]xx)", match["rest"])]
        return [(f"code.{c}", n) for c, n in h2load or re.findall(r"([1-5]xx) - (\d+)", match["rest"])]
    return []


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    found = _counts(lines.text[i])
    return (i + 1 if found else i), [
        Counter(source=lines.source(i), where=context.where, name=f"load.{name}", value=float(n))
        for name, n in found
    ]


FORMAT = LineFormat("load-report", _START, _read, priority=20)
