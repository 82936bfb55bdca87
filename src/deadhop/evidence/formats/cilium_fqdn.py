"""``cilium-dbg fqdn cache list`` (text, JSON, and what awk or cut left of its columns), ``fqdn names``, ``policy selectors``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import fqdn, integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.policy import FqdnCacheEntry, FqdnCacheListing, FqdnSelector
from deadhop.model.record import Record

_HEADER = re.compile(r"^\s*Endpoint\s+(?:Source\s+)?FQDN\s+TTL\s+ExpirationTime\s+IPs")
_ROW = re.compile(
    r"^\s*(?P<ep>\d+)\s+(?:(?P<kind>lookup|connection|global)\s+)?(?P<fqdn>\S+)\s+(?P<ttl>\d+)\s+(?P<exp>\d{4}-\d\d-\d\dT\S+)\s+(?P<ips>[0-9a-fA-F.:,]+)\s*$"
)
_SELECTOR = re.compile(r"MatchName: (?P<name>[^,]*), MatchPattern: (?P<pattern>.*)")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    records: list[Record] = []
    header = bool(_HEADER.match(lines.text[i]))
    i += header
    while i < len(lines.text) and (match := _ROW.match(lines.text[i])):
        records.append(
            FqdnCacheEntry(
                source=lines.source(i),
                where=context.where,
                endpoint=int(match["ep"]),
                kind=match["kind"] or "lookup",
                fqdn=fqdn(match["fqdn"]),
                ttl=int(match["ttl"]),
                expiration=match["exp"],
                ips=tuple(ip for ip in match["ips"].split(",") if is_ip(ip)),
            )
        )
        i += 1
    if not records and not header:
        return start, []
    filtered = bool(context.command and (context.command.filters or "-p" in context.command.argv))
    listing = FqdnCacheListing(
        source=lines.source(start, i - 1),
        where=context.where,
        rows=len(records),
        complete=header and not filtered,
    )
    return i, [listing, *records]


_WORDS = (
    ("fqdn", re.compile(r"(?:[\w*-]+\.)+")),
    ("kind", re.compile(r"lookup|connection|global")),
    ("exp", re.compile(r"\d{4}-\d\d-\d\dT\S+")),
    ("ips", re.compile(r"[0-9a-fA-F]*[.:][0-9a-fA-F.:]+(?:,[0-9a-fA-F.:]+)*")),
    ("number", re.compile(r"\d{1,9}")),
)


def _cut(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """Some columns of the list, told apart by what they hold: only names end with a dot."""
    command = context.command
    if command is None or not {"fqdn", "cache", "list"} <= set(command.argv) or not command.filters:
        return i, []
    start, records = i, list[Record]()
    heading = lines.text[i].split()
    i += bool(heading) and "FQDN" in heading and {*heading} <= {"Endpoint", "Source", "FQDN", "TTL", "ExpirationTime", "IPs"}  # fmt: skip
    columns = heading if i > start else []
    while i < len(lines.text) and (row := _classified(lines.text[i].split(), columns)):
        records.append(
            FqdnCacheEntry(
                source=lines.source(i),
                where=context.where,
                endpoint=integer(row.get("endpoint")),
                kind=row.get("kind", "lookup"),
                fqdn=fqdn(row["fqdn"]),
                ttl=integer(row.get("ttl")),
                expiration=row.get("exp", ""),
                ips=tuple(ip for ip in row.get("ips", "").split(",") if is_ip(ip)),
            )
        )
        i += 1
    if not records:
        return start, []
    listing = FqdnCacheListing(source=lines.source(start, i - 1), where=context.where, rows=len(records), complete=False)  # fmt: skip
    return i, [listing, *records]


def _classified(words: list[str], columns: list[str]) -> dict[str, str] | None:
    """The cells of a row by kind; None where it is none. A number is the TTL, unless the heading says otherwise."""
    row: dict[str, str] = {}
    for k, word in enumerate(words):
        kind = next((name for name, shape in _WORDS if shape.fullmatch(word)), "")
        if kind == "number":
            first = columns[k] == "Endpoint" if len(columns) == len(words) else k < len(words) - 1 and not row
            kind = "endpoint" if first else "ttl"
        if not kind or kind in row:
            return None
        row[kind] = word
    return row if "fqdn" in row else None


_SELECTOR_ROW = re.compile(
    r"^\s*MatchName: (?P<name>[^,\s]*), MatchPattern: (?P<pattern>[^\s]*)(?:\s+(?P<labels>[^\s\d]\S*))?\s+(?P<users>\d+)(?:\s+(?P<identity>\d+))?\s*$"
)


def _selectors(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """A selector of ``policy selectors`` that stands for a name, and the rows of its further identities."""
    match = _SELECTOR_ROW.match(lines.text[i])
    if not match or not (match["name"] or match["pattern"]):
        return i, []
    start = i
    i += 1
    while i < len(lines.text) and re.fullmatch(r"\s{8,}\d{1,10}\s*", lines.text[i]):
        i += 1
    return i, [
        FqdnSelector(source=lines.source(start), where=context.where, match_name=match["name"], match_pattern=match["pattern"])
    ]  # fmt: skip


def _match_cache(value: Any) -> bool:
    """The listing, or one entry of it that jq took out."""
    if isinstance(value, dict):
        return {"fqdn", "ips", "ttl"} <= value.keys() and "expiration-time" in value
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, dict) and "fqdn" in v and "ips" in v for v in value[:5])
    )


def _read_cache(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    one = isinstance(value, dict)
    rows = [v for v in ([value] if one else value) if isinstance(v, dict) and v.get("fqdn")]
    yield FqdnCacheListing(source=locate(), where=context.where, rows=len(rows), complete=not one)
    for i, row in enumerate(rows):
        ips = row.get("ips")
        yield FqdnCacheEntry(
            source=locate(str(i)),
            where=context.where,
            endpoint=integer(str(row.get("endpoint-id", ""))),
            kind=str(row.get("source", "lookup")),
            fqdn=fqdn(str(row["fqdn"])),
            ttl=integer(str(row.get("ttl", ""))),
            expiration=str(row.get("expiration-time", "")),
            ips=tuple(str(ip) for ip in ips) if isinstance(ips, list) else (),
        )


def _match_names(value: Any) -> bool:
    return isinstance(value, dict) and "FQDNPolicySelectors" in value


def _read_names(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    selectors = value.get("FQDNPolicySelectors")
    for i, row in enumerate(selectors if isinstance(selectors, list) else []):
        match = _SELECTOR.match(str(row.get("selectorString", ""))) if isinstance(row, dict) else None
        if match:
            yield FqdnSelector(
                source=locate(f"FQDNPolicySelectors/{i}"),
                where=context.where,
                match_name=match["name"].strip(),
                match_pattern=match["pattern"].strip(),
                regex=str(row.get("regexString", "")),
            )


def _match_selectors(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, dict) and "selector" in v and "users" in v for v in value[:5])
    )


def _read_selectors(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    for i, row in enumerate(value):
        match = _SELECTOR.match(str(row.get("selector", ""))) if isinstance(row, dict) else None
        if match and (match["name"].strip() or match["pattern"].strip()):
            yield FqdnSelector(
                source=locate(str(i)),
                where=context.where,
                match_name=match["name"].strip(),
                match_pattern=match["pattern"].strip(),
            )


FORMATS = (
    LineFormat(
        "fqdn-cache-cut",
        re.compile(r"^\s*(?:\S+\s+){0,4}(?:FQDN\b|(?:[\w*-]+\.)+(?:\s|$))"),
        _cut,
        priority=2,
    ),
    LineFormat("policy-selectors", re.compile(r"^\s*MatchName: "), _selectors, priority=20),
    ValueFormat("policy-selectors-json", _match_selectors, _read_selectors, priority=15),
    LineFormat(
        "fqdn-cache-list",
        re.compile(r"^\s*Endpoint\s+(?:Source\s+)?FQDN|^\s*\d+\s+(?:lookup|connection|global)\s+\S+"),
        _read,
        priority=20,
    ),
    ValueFormat("fqdn-cache-json", _match_cache, _read_cache, priority=15),
    ValueFormat("fqdn-names", _match_names, _read_names, priority=15),
)
