"""What a DNS-proxy policy can have learned: each name that was asked, the addresses it got, and where that is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deadhop.model.observed.dns import DnsLookup, DnsQuery
from deadhop.model.observed.policy import Flow, FqdnCacheEntry
from deadhop.model.record import Record
from deadhop.snapshot.entities import WORLD


class Learned(NamedTuple):
    """A name and its addresses; ``expires`` is the RFC 3339 time that a cache listing shows, else empty."""

    name: str
    addresses: tuple[str, ...]
    record: Record
    expires: str = ""
    cnames: tuple[str, ...] = ()


def learned(cache: Iterable[FqdnCacheEntry] = (), flows: Iterable[Flow] = ()) -> list[Learned]:
    """The names that the cache lists and those that answers through the proxy taught."""
    found = [Learned(e.fqdn, e.ips, e, e.expiration) for e in cache]
    found += [
        Learned(f.dns.qname, f.dns.ips, f, "", f.dns.cnames)
        for f in flows
        if f.dns and f.dns.response and f.dns.ips
    ]
    return found


def asked_names(
    queries: Iterable[DnsQuery] = (), flows: Iterable[Flow] = (), lookups: Iterable[DnsLookup] = ()
) -> dict[str, list[Record]]:
    """Names with the records that ask for their addresses."""
    found: dict[str, list[Record]] = {}
    for query in queries:
        if query.qtype in ("A", "AAAA"):
            found.setdefault(query.qname, []).append(query)
    for flow in flows:
        if flow.dns and set(flow.dns.qtypes) & {"A", "AAAA"}:
            found.setdefault(flow.dns.qname, []).append(flow)
    for lookup in lookups:
        if lookup.qname and lookup.qtype in ("", "A", "AAAA"):
            found.setdefault(lookup.qname, []).append(lookup)
    return found


def world_denials(flows: Iterable[Flow]) -> list[Flow]:
    """Denied flows to addresses outside the cluster."""
    return [
        f
        for f in flows
        if f.denied
        and f.dns is None
        and (
            f.dst.identity in WORLD or (f.dst.ip and not f.dst.name) or (f.dst.name and "/" not in f.dst.name)
        )
        and f.dst.port != 53
    ]
