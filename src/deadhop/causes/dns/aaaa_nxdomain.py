"""The AAAA question for a name that has an A record is answered with NXDOMAIN, and clients take that for the name.

What happens
------------
NXDOMAIN says that the name does not exist, whatever type was asked. A resolver that asks A and AAAA side by side may
believe the AAAA answer and report an unknown host. Templates and proxies that block AAAA with NXDOMAIN do this.

How to tell it from its neighbours
----------------------------------
For one and the same name A is answered with an address and AAAA with NXDOMAIN. Tools that ask only A succeed. Where AAAA
gets addresses and the dial fails, it is a route that is missing; where A fails too, the name itself does.

Fix
---
Answer AAAA with NOERROR and no records.

References
----------
RFC 2308 section 2, RFC 4074 section 4.2, RFC 8020; CoreDNS plugin/template.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.dns.corefile import Directive
from deadhop.hops.dns.upstreams import blocks
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record
from deadhop.snapshot.search import Tried, tried

SLUG = "aaaa-nxdomain-poisons-a-lookup"


def check(view: View) -> Iterator[Hypothesis]:
    templates: list[Record] = []
    soft: list[Record] = []
    for record in view.of(CorefileText):
        for block in blocks(record.text):
            for directive in block.all("template"):
                if "AAAA" in (a.upper() for a in directive.args):
                    (templates if _denies(directive) else soft).append(record)
    every = tried(
        view.of(DnsQuery), view.of(CapturedPacket), view.of(DnsLookup), view.of(ResolvConf), (), view.of(Flow)
    )
    split, good = _split(every)
    failed = [
        *(d for d in view.of(DialFailure) if d.error in ("no-such-host", "lookup-failed")),
        *(p for p in view.of(Ping) if p.error == "unresolved"),
        *(x for x in view.of(HttpExchange) if x.error == "unresolved"),
    ]
    if not templates and not split:
        return
    name = next((t.qname for t in every if t.record in split), "")
    yield Hypothesis(
        subject=name or "template AAAA",
        title=f"AAAA is answered with NXDOMAIN{' for ' + name if name else ''}, and clients conclude that the name does not exist.",
        checks=(
            shown("AAAA is answered with NXDOMAIN for names that exist: a template says so, or A of the same name has an address", [*templates, *split], weight=2.3 if templates else 1.8, required=True, decide="dig A NAME; dig AAAA NAME"),
            shown("the A answer of the same name is good", good, weight=0.7),
            shown("the answers of one name differ by type", split, weight=0.5),
            shown("clients report that the name does not exist", failed, weight=0.7),
            judged("no template answers AAAA with success", False if soft and not templates else None, soft, weight=0.8),
        ),
        explains=("clients that ask both families fail, tools that ask only A succeed",),
        fixes=(Fix(title="Answer AAAA with success and no records", artifact="template IN AAAA . {\n    rcode NOERROR\n}\n", changed=("no name has IPv6 addresses any more, and every name that exists says so",)),),
        prior=-1.2,
    )  # fmt: skip


def _denies(directive: Directive) -> bool:
    rcode = directive.option("rcode")
    return bool(rcode) and rcode[0].upper() == "NXDOMAIN"  # type: ignore[index]


def _split(every: list[Tried]) -> tuple[list[Record], list[Record]]:
    """AAAA questions that got NXDOMAIN where A of the same name got success, and those A questions."""
    good: dict[str, list[Record]] = {}
    for t in every:
        if t.qtype == "A" and t.rcode == "NOERROR" and t.answers != 0:
            good.setdefault(t.qname, []).append(t.record)
    bad = [t for t in every if t.qtype == "AAAA" and t.rcode == "NXDOMAIN" and t.qname in good]
    return [t.record for t in bad], [r for name in dict.fromkeys(t.qname for t in bad) for r in good[name]]


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="AAAA of an IPv4-only name gets NXDOMAIN, so clients believe that the name does not exist.",
    inputs=(
        CorefileText,
        DnsQuery,
        CapturedPacket,
        DnsLookup,
        ResolvConf,
        Flow,
        DialFailure,
        Ping,
        HttpExchange,
    ),
    needs=(CorefileText, DnsQuery, CapturedPacket, DnsLookup, Flow),
    rivals=("aaaa-without-ipv6-route", "search-domain-refused-stops-search", "benign-search-path-nxdomain"),
    check=check,
)
