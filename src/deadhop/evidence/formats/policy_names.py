"""Names in the policies of engines other than Cilium, and what Antrea's agent has learned of them.

Antrea: ``fqdn:`` of an egress peer (ClusterNetworkPolicy, NetworkPolicy of crd.antrea.io), ``antctl get fqdncache``. Calico
Enterprise and Cloud: ``domains:`` of a destination or a NetworkSet. GKE: FQDNNetworkPolicy, ``matches`` of an egress rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from deadhop.evidence.fields import fqdn, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.evidence.formats.kube_objects import FORMAT as OBJECTS
from deadhop.model.observed.kube import listing, mapping, mappings
from deadhop.model.observed.policy import FqdnCacheEntry, FqdnCacheListing, FqdnSelector
from deadhop.model.record import Record

_HEADER = re.compile(r"^\s*FQDN\s+ADDRESS(?:ES)?\s+EXPIRATION TIME\s*$")
_ROW = re.compile(r"^\s*(?P<name>\S+\.\S*)\s+(?P<ip>[0-9a-fA-F.:]+)\s+(?P<when>\d{4}-\d\d-\d\d)[ T](?P<clock>\d\d:\d\d:\d\d)\S*(?:\s+\S+)*\s*$")  # fmt: skip


def _names(value: Any) -> Iterator[tuple[str, str]]:
    """Every name that a policy allows, and where it stands."""
    spec = mapping(value, "spec") or (value if isinstance(value, dict) else {})
    for i, rule in enumerate(mappings(spec, "egress")):
        for peer in mappings(rule, "to"):
            if isinstance(peer.get("fqdn"), str):
                yield peer["fqdn"], f"spec/egress/{i}"
        for match in mappings(rule, "matches"):
            for key in ("name", "pattern"):
                if isinstance(match.get(key), str):
                    yield match[key], f"spec/egress/{i}"
        for name in listing(rule, "destination", "domains"):
            yield str(name), f"spec/egress/{i}"
    for name in listing(spec, "allowedEgressDomains"):
        yield str(name), "spec"


def _match(value: Any) -> bool:
    return isinstance(value, dict) and next(_names(value), None) is not None


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    if isinstance(value.get("kind"), str):
        yield from OBJECTS.read(value, locate, context)
    for name, path in _names(value):
        pattern = "*" in name
        yield FqdnSelector(
            source=locate(path),
            where=context.where,
            match_name="" if pattern else name,
            match_pattern=name if pattern else "",
        )


def _cache(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if not _HEADER.match(lines.text[i]):
        return i, []
    start, records = i, list[Record]()
    i += 1
    while i < len(lines.text) and (match := _ROW.match(lines.text[i])) and is_ip(match["ip"]):
        records.append(
            FqdnCacheEntry(
                source=lines.source(i),
                where=context.where,
                fqdn=fqdn(match["name"]),
                expiration=f"{match['when']}T{match['clock']}Z",
                ips=(match["ip"],),
            )
        )
        i += 1
    whole = FqdnCacheListing(source=lines.source(start, i - 1), where=context.where, rows=len(records), complete=True)  # fmt: skip
    return i, [whole, *records]


FORMATS = (
    ValueFormat("policy-names", _match, _read, priority=18),
    LineFormat("antctl-fqdncache", _HEADER, _cache, priority=20),
)
