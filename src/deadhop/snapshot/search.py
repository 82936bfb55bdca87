"""Names on their walk through a search list: what was meant, the suffix behind it, and what was answered.

Queries and answers of a capture are paired by client, port and id. A suffix is known from resolv.conf, from a name
that some other record gives as the one that was wanted, or from a public top-level domain in the middle of a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from deadhop.model.observed.dns import DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket, DnsSummary
from deadhop.model.observed.policy import Flow
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record

_MIDDLE = re.compile(
    r"^(?P<base>(?:[\w-]+\.)+?(?:com|net|org|io|gov|edu))\.(?P<suffix><?[\w-]+>?(?:\.[\w<>-]+)*)$"
)
#: A Service's or a pod's name in full, and a search suffix behind it: the cluster's zone is the default one, or comes twice.
_DOUBLED = re.compile(
    r"^(?P<base>(?:[\w-]+\.)+?(?:svc|pod)\.cluster\.local)\.(?P<suffix>[\w-]+(?:\.[\w-]+)*)$"
    r"|^(?P<base2>(?:[\w-]+\.)+?svc\.(?P<zone>[\w.-]+?))\.(?P<suffix2>(?:(?:[\w-]+\.)?svc\.)?(?P=zone))$"
)
_CCTLD = re.compile(r"^[a-z]{2}$")


class Tried(NamedTuple):
    """One name asked. ``answers`` is the number of records in the answer, None where not said."""

    client: str
    qname: str
    base: str
    qtype: str
    rcode: str
    answers: int | None
    record: Record

    @property
    def suffix(self) -> str:
        return self.qname[len(self.base) + 1 :]

    @property
    def cluster(self) -> bool:
        return in_cluster(self.qname)

    @property
    def foreign(self) -> bool:
        """Whether a suffix stands behind the name that is not the cluster's."""
        return bool(self.suffix) and not self.cluster


def in_cluster(name: str) -> bool:
    """Whether a name lies in the cluster's zone."""
    name = name.rstrip(".")
    return ".svc." in f".{name}." or name.endswith(("cluster.local", ".svc", ".pod")) or name == "svc"


def wanted(
    dials: Iterable[DialFailure] = (),
    pings: Iterable[Ping] = (),
    lookups: Iterable[DnsLookup] = (),
    attempts: Iterable[Attempt] = (),
    exchanges: Iterable[HttpExchange] = (),
) -> set[str]:
    """Names that clients wanted, as the clients say them."""
    found = (
        {d.host for d in dials}
        | {p.target for p in pings}
        | {a.target for a in attempts}
        | {e.host for e in exchanges}
    )
    found |= {k.qname for k in lookups if k.failed}
    return {name.rstrip(".").lower() for name in found if "." in name and not in_cluster(name)}  # fmt: skip


def base_of(name: str, suffixes: Iterable[str], names: Iterable[str]) -> str:
    """``name`` without the search suffix behind it, itself where there is none."""
    names = names if isinstance(names, (set, frozenset)) else frozenset(names)
    labels = name.split(".")
    for k in range(2, len(labels)) if names else ():
        if (head := ".".join(labels[:k])) in names:
            return head
    for suffix in sorted((s.strip(".").lower() for s in suffixes), key=len, reverse=True):
        if suffix and name.endswith("." + suffix):
            head = name[: -len(suffix) - 1]
            # A bare label in front of a listed domain is a host of that domain, whatever else its tail fits.
            return head if "." in head or in_cluster(suffix) else name
    if len(name) < 256 and (match := _DOUBLED.match(name)):
        return match["base"] or match["base2"]
    match = _MIDDLE.match(name)
    return match["base"] if match and not _CCTLD.match(match["suffix"]) else name


def tried(
    queries: Iterable[DnsQuery] = (),
    packets: Iterable[CapturedPacket] = (),
    lookups: Iterable[DnsLookup] = (),
    resolv: Iterable[ResolvConf] = (),
    names: Iterable[str] = (),
    flows: Iterable[Flow] = (),
) -> list[Tried]:
    """Every question in the records with its answer, in order by kind."""
    suffixes = {s for r in resolv for s in r.search}
    names = set(names)
    raw: list[tuple[str, str, str, str, int | None, Record]] = [
        (q.client, q.qname, q.qtype, q.rcode, counted(q), q) for q in queries
    ]
    packets = list(packets)
    replies = {_exchange(p.dst, p.dport, p.dns): p for p in packets if p.dns and p.dns.response}
    asked = set()
    for packet in packets:
        if packet.dns and not packet.dns.response and packet.dns.qname:
            asked.add(_exchange(packet.src, packet.sport, packet.dns))
            reply = replies.get(_exchange(packet.src, packet.sport, packet.dns))
            rcode, count = (reply.dns.rcode, reply.dns.answers) if reply and reply.dns else ("", None)
            raw.append((packet.src, packet.dns.qname, packet.dns.qtype, rcode, count, packet))
    for key, packet in replies.items():
        if key not in asked and packet.dns and packet.dns.qname:
            raw.append(
                (packet.dst, packet.dns.qname, packet.dns.qtype, packet.dns.rcode, packet.dns.answers, packet)
            )
    for lookup in lookups:
        if lookup.qname and lookup.tool != "zone":
            rcode = "NOERROR" if lookup.status == "NODATA" else lookup.status
            count = 0 if lookup.status == "NODATA" else lookup.answer_count
            raw.append((lookup.where, lookup.last or lookup.qname, lookup.qtype, rcode, count, lookup))
    for flow in flows:
        if flow.dns:
            count = len(flow.dns.ips) + len(flow.dns.cnames) if flow.dns.response else None
            client = flow.dst if flow.dns.response else flow.src
            raw += [
                (client.name or client.ip, flow.dns.qname, t, flow.dns.rcode, count, flow)
                for t in flow.dns.qtypes
            ]
    names |= {n for _c, n, *_rest in raw if "." in n and not in_cluster(n)}
    suffixes |= _walked({n for _c, n, *_rest in raw})
    return [Tried(c, n, base_of(n, suffixes, names), t, r, k, record) for c, n, t, r, k, record in raw]  # fmt: skip


def _walked(names: set[str]) -> set[str]:
    """The search domains behind ``a.b.NS.svc.ZONE`` where ``a.b.svc.ZONE`` was asked as well: ``a.b`` was meant, a Service of
    another namespace."""
    found: set[str] = set()
    for name in names:
        head, svc, zone = name.partition(".svc.")
        meant, dot, namespace = head.rpartition(".")
        if svc and dot and "." in meant and f"{meant}.svc.{zone}" in names:
            found |= {f"{namespace}.svc.{zone}", f"svc.{zone}"}
    return found


def _exchange(client: str, port: int | None, dns: DnsSummary) -> tuple[object, ...]:
    """What a question and its answer share: client, port and id, or the question where a listing shows no id."""
    return (client, port, dns.id) if dns.id is not None else (client, dns.qname, dns.qtype)


def counted(query: DnsQuery) -> int | None:
    """How many addresses a logged answer holds, from its size, which the log counts before compression: an empty one
    adds nothing to the question, each record its name, ten bytes and the address. None where the size fits neither (a SOA, aliases, an error)."""
    if query.answers is not None:
        return query.answers
    if (
        query.rcode != "NOERROR"
        or query.answer_size is None
        or query.size is None
        or query.qtype not in ("A", "AAAA")
    ):
        return None
    more = query.answer_size - query.size
    if more == 0:
        return 0
    record = len(query.qname) + 2 + (14 if query.qtype == "A" else 26)
    return more // record if more > 0 and more % record == 0 else None


def asked_absolute(every: Iterable[Tried], base: str) -> list[Tried]:
    """The questions for the name itself, without a suffix."""
    return [t for t in every if t.qname == base]
