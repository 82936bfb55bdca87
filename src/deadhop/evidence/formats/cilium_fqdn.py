"""``cilium-dbg fqdn cache list`` (text and JSON) and ``fqdn names``."""

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


def _match_cache(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, dict) and "fqdn" in v and "ips" in v for v in value[:5])
    )


def _read_cache(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    rows = [v for v in value if isinstance(v, dict) and v.get("fqdn")]
    yield FqdnCacheListing(source=locate(), where=context.where, rows=len(rows))
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


FORMATS = (
    LineFormat(
        "fqdn-cache-list",
        re.compile(r"^\s*Endpoint\s+(?:Source\s+)?FQDN|^\s*\d+\s+(?:lookup|connection|global)\s+\S+"),
        _read,
        priority=20,
    ),
    ValueFormat("fqdn-cache-json", _match_cache, _read_cache, priority=15),
    ValueFormat("fqdn-names", _match_names, _read_names, priority=15),
)
