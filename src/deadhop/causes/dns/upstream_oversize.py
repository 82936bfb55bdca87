"""An upstream answers by UDP with more than was asked for and without TC, and the forwarder cannot unpack it.

What happens
------------
The forwarder reads into a buffer of the size it announced. An upstream that ignores it sends a longer datagram without
the TC bit; what arrives is cut off, unpacking overflows, and the client gets SERVFAIL.

How to tell it from its neighbours
----------------------------------
The forwarding server itself logs the unpack error. Short names through the same upstream work, and TCP to it works.
Where the client complains about the answer of the server that it asked, it is that server's answer which is too large;
where the answer never arrives, it was lost on the way.

Fix
---
Force TCP towards that upstream, or raise the buffer, or fix the server.

References
----------
CoreDNS plugin/forward (``force_tcp``), plugin/bufsize; RFC 6891 section 6.2.5; miekg/dns unpack errors.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.artifacts import dns as templates
from deadhop.hops.dns.upstreams import forwards
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsQuery, DnsServerError

SLUG = "upstream-dns-oversize-udp-without-tc"


def check(view: View) -> Iterator[Hypothesis]:
    errors = [e for e in view.of(DnsServerError) if e.error == "overflow"]
    if not errors:
        return
    names = {e.qname for e in errors}
    failed = [
        *(q for q in view.of(DnsQuery) if q.rcode == "SERVFAIL" and q.qname in names),
        *(k for k in view.of(DnsLookup) if k.status == "SERVFAIL" and k.qname in names),
    ]
    large = [
        k
        for k in view.of(DnsLookup)
        if k.qname in names
        and ((k.answer_count or 0) > 10 or (k.size or 0) > 512 or k.transport == "tcp" or k.truncated)
    ]
    tcp = [f for f in forwards(view.of(CorefileText)) if f.directive.option("force_tcp") is not None]
    name = errors[0].qname
    upstream = next(
        (t for f in forwards(view.of(CorefileText)) if f.zone == "." for t in f.targets), "UPSTREAM"
    )
    yield Hypothesis(
        subject=f"{name} {errors[0].qtype}".strip(),
        title=f"The upstream's answer for {name or 'a name'} is larger than the forwarder asked for and comes without TC.",
        checks=(
            judged("the forwarder cannot unpack the upstream's answer", True, errors, weight=2.6, required=True),
            judged("the forward does not use TCP already", False if tcp else None, [f.record for f in tcp], weight=1.0, required=bool(tcp)),
            shown("its clients get SERVFAIL for that name", failed, weight=0.7, decide=f"dig {name}"),
            shown("the name has many records, or answers over TCP", large, weight=0.8, decide=f"dig +tcp {name} @{upstream}"),
        ),
        explains=("names with many records fail while short ones resolve",),
        fixes=(Fix(title="Ask that zone over TCP", artifact=templates.force_tcp(".".join(name.split(".")[-2:]) or ".", upstream), changed=("queries for the zone use TCP towards the upstream",)),),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="An upstream sends an oversized UDP answer without TC, which the forwarder cannot unpack.",
    inputs=(DnsServerError, DnsQuery, DnsLookup, CorefileText),
    needs=(DnsServerError,),
    rivals=(
        "dns-udp-response-exceeds-client-bufsize",
        "path-mtu-drops-df-udp-dns-response",
        "dns-server-unreachable",
    ),
    check=check,
)
