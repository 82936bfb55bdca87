"""The tables and JSON that ``cilium-dbg`` prints, byte for byte.

Tables come from Go's ``text/tabwriter`` (minwidth 5, padding 3, blanks). A cell belongs to a column only where a
tab ends it; most lines end in a tab and so in blanks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import zip_longest
from typing import Any

import msgspec

from deadhop.fqdn.cache import Entry
from deadhop.fqdn.clock import ZERO, rfc3339_milli
from deadhop.fqdn.options import V1_13, V1_14, V1_15, V1_16, V1_17, Version
from deadhop.fqdn.selectors import FQDNSelector

EMPTY_CACHE_CLEAN = "FQDN proxy cache cleared"
CACHE_CLEAN_PROMPT = "Following cache entries are going to be deleted:"


def tabwriter(lines: Sequence[Sequence[str]], minwidth: int = 5, padding: int = 3) -> list[str]:
    """Align lines as ``text/tabwriter`` does. Each line's cells were divided by tabs: the last one has none after it.

    A column is as wide as its widest cell in a run of lines that all have that column.
    """
    out = [""] * len(lines)

    def block(first: int, last: int, column: int, prefix_widths: list[int]) -> None:
        at = first
        while at < last:
            if column >= len(lines[at]) - 1:
                cells = lines[at]
                padded = (text.ljust(width) for text, width in zip(cells, prefix_widths, strict=False))
                out[at] = "".join(padded) + "".join(cells[len(prefix_widths) :])
                at += 1
                continue
            end = at
            while end < last and column < len(lines[end]) - 1:
                end += 1
            width = max(minwidth, *(len(line[column]) + padding for line in lines[at:end]))
            block(at, end, column + 1, [*prefix_widths, width])
            at = end

    block(0, len(lines), 0, [])
    return out


class CacheRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of ``fqdn cache list``. Times in seconds; ``source`` is ``lookup``, ``connection`` or ``global``."""

    endpoint: int
    source: str
    fqdn: str
    ttl: int
    expiration: float
    ips: tuple[str, ...]
    lookup: float = ZERO

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "endpoint-id": self.endpoint,
            "expiration-time": rfc3339_milli(self.expiration),
            "fqdn": self.fqdn,
            "ips": list(self.ips),
            "lookup-time": rfc3339_milli(self.lookup),
            "source": self.source,
            "ttl": self.ttl,
        }
        return {key: value for key, value in found.items() if value or key == "ips"}


def lookup_row(endpoint: int, entry: Entry, source: str = "lookup") -> CacheRow:
    """The row of an entry: all of its addresses, superseded ones too."""
    return CacheRow(
        endpoint=endpoint,
        source=source,
        fqdn=entry.name,
        ttl=entry.ttl,
        expiration=entry.expiration_time,
        ips=entry.ips,
        lookup=entry.lookup_time,
    )


def cache_list(rows: Iterable[CacheRow], offset: timedelta | None = None) -> list[str]:
    """``fqdn cache list``; an empty cache is the header alone."""
    lines = [["Endpoint", "Source", "FQDN", "TTL", "ExpirationTime", "IPs", ""]]
    for row in rows:
        expiration = rfc3339_milli(row.expiration, offset)
        cells = [str(row.endpoint), row.source, row.fqdn, str(row.ttl), expiration, ",".join(row.ips), ""]
        lines.append(cells)
    return tabwriter(lines)


def cache_list_json(rows: Iterable[CacheRow]) -> str:
    """``fqdn cache list -o json``."""
    return json.dumps([row.to_json() for row in rows], indent=2)


def fqdn_names(selectors: Iterable[FQDNSelector], version: Version) -> str:
    """``fqdn names``, always JSON."""
    listed = [{"regexString": s.regex(version), "selectorString": str(s)} for s in selectors]
    return json.dumps({"DNSPollNames": None, "FQDNPolicySelectors": listed}, indent=2)


class Label(msgspec.Struct, frozen=True):
    """A label as the API has it."""

    key: str
    source: str
    value: str

    def __str__(self) -> str:
        return f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"


POLICY_NAME = "io.cilium.k8s.policy.name"
POLICY_NAMESPACE = "io.cilium.k8s.policy.namespace"


class SelectorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One selector of ``policy selectors``; ``labels`` are those of the rules that use it."""

    selector: str
    users: int
    identities: tuple[int, ...] = ()
    labels: tuple[Label, ...] = ()

    def labels_cell(self, *, verbose: bool) -> str:
        """``namespace/policy`` of each using rule (the name alone for a clusterwide one), or every label."""
        if verbose:
            return ",".join(str(label) for label in self.labels)
        namespaces = [label.value for label in self.labels if label.key == POLICY_NAMESPACE]
        names = [label.value for label in self.labels if label.key == POLICY_NAME]
        paired = zip_longest(namespaces[: len(names)], names)
        return ",".join(f"{namespace}/{name}" if namespace else name for namespace, name in paired)


def selectors_header(version: Version) -> list[str]:
    return (
        ["SELECTOR", "LABELS", "USERS", "IDENTITIES"]
        if version >= V1_15
        else ["SELECTOR", "USERS", "IDENTITIES"]
    )


def policy_selectors(rows: Iterable[SelectorRow], version: Version, *, verbose: bool = False) -> list[str]:
    """``policy selectors``, sorted by the selector's text; every identity after the first has a row of its own."""
    header = selectors_header(version)
    lines = [header]
    for row in sorted(rows, key=lambda row: row.selector):
        cells = [row.selector, row.labels_cell(verbose=verbose), str(row.users)]
        if version < V1_15:
            del cells[1]
        first, *rest = row.identities or (None,)
        lines.append([*cells, ""] if first is None else [*cells, str(first), ""])
        lines.extend([*[""] * len(cells), str(identity), ""] for identity in rest)
    return tabwriter(lines)


def policy_selectors_json(rows: Iterable[SelectorRow]) -> str:
    """``policy selectors -o json``."""
    items = [
        {
            "identities": list(row.identities),
            "labels": [{"key": i.key, "source": i.source, "value": i.value} for i in row.labels],
            "selector": row.selector,
            "users": row.users,
        }
        for row in sorted(rows, key=lambda row: row.selector)
    ]
    return json.dumps(items, indent=2)


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of ``endpoint list``."""

    id: int
    ingress: str = "Disabled"
    egress: str = "Disabled"
    identity: int = 0
    labels: tuple[str, ...] = ()
    ipv6: str = ""
    ipv4: str = ""
    status: str = "ready"


def endpoint_list(rows: Iterable[EndpointRow]) -> list[str]:
    """``endpoint list``: the first label on the endpoint's row, each further one on a row of its own, sorted."""
    lines = [
        [
            "ENDPOINT",
            "POLICY (ingress)",
            "POLICY (egress)",
            "IDENTITY",
            "LABELS (source:key[=value])",
            "IPv6",
            "IPv4",
            "STATUS",
            "",
        ],
        ["", "ENFORCEMENT", "ENFORCEMENT", "", "", "", "", "", ""],
    ]
    for row in rows:
        first, *rest = sorted(row.labels) or [""]
        head = [str(row.id), row.ingress, row.egress, str(row.identity), first]
        lines.append([*head, row.ipv6, row.ipv4, row.status, ""])
        lines.extend(["", "", "", "", label, "", "", "", ""] for label in rest)
    return tabwriter(lines)


class IPRow(msgspec.Struct, frozen=True, kw_only=True):
    """One prefix of ``ip list``. FQDN-derived entries have the source ``generated``."""

    cidr: str
    identity: int
    labels: tuple[str, ...] = ()
    source: str = "generated"
    host_ip: str = ""
    encrypt_key: int = 0


def ip_list(rows: Iterable[IPRow], *, numeric: bool = False, verbose: bool = False) -> list[str]:
    """``ip list``: labels one per line, or the identity's number with ``-n``."""
    extra = ["HOST", "ENCRYPT_KEY"] if verbose else []
    lines = [["IP", "IDENTITY", "SOURCE", *extra]]
    for row in rows:
        names = [str(row.identity)] if numeric or not row.labels else sorted(row.labels)
        more = [row.host_ip, str(row.encrypt_key)] if verbose else []
        lines.append([row.cidr, names[0], row.source, *more, ""])
        lines.extend(["", name, ""] for name in names[1:])
    return tabwriter(lines)


class IPCacheRow(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``bpf ipcache list``."""

    prefix: str
    identity: int
    encrypt_key: int = 0
    tunnel_endpoint: str = "0.0.0.0"
    flags: tuple[str, ...] = ()
    node_id: int = 0


def ipcache_value(row: IPCacheRow, version: Version) -> str:
    """The value column of ``bpf ipcache list``, whose layout changed with 1.13, 1.15, 1.16 and 1.17."""
    value = f"identity={row.identity} encryptkey={row.encrypt_key} tunnelendpoint={row.tunnel_endpoint}"
    if version >= V1_16:
        comma = "" if version >= V1_17 else ","
        return f"{value}{comma} flags={','.join(row.flags) or '<none>'}"
    if V1_13 <= version[:2] <= V1_14[:2]:
        return f"{value} nodeid={row.node_id:#x}"
    return value


def bpf_ipcache_list(rows: Iterable[IPCacheRow], version: Version) -> list[str]:
    """``bpf ipcache list``."""
    lines = [["IP PREFIX/ADDRESS", "IDENTITY", ""]]
    lines.extend([row.prefix, ipcache_value(row, version), ""] for row in rows)
    return tabwriter(lines)
