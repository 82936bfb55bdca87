"""In one server block the forward for the root stands before the forward for a zone, which never applies.

What happens
------------
Within a server block every ``forward`` is one more plugin of the chain, in the order of the file. The first whose FROM
holds the name answers. ``forward . …`` holds every name, so a forward for a zone behind it is never asked.

How to tell it from its neighbours
----------------------------------
Both lines stand in one block, the root's first, and the zone's names always go to the general upstream, never in turn.
With several upstreams in one line the answers change from query to query.

Fix
---
Give the zone its own server block, or put its forward before the root's.

References
----------
CoreDNS plugin/forward; coremain: plugins of one name run in the order of the Corefile.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.dns.upstreams import Forward, forwards
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsQuery, DnsServerError

SLUG = "catch-all-forward-shadows-zone-forward"


def check(view: View) -> Iterator[Hypothesis]:
    found = forwards(view.of(CorefileText))
    for forward in found:
        if forward.zone == "." or forward.zone in (z.rstrip(".") for z in forward.block):
            continue
        before = next(
            (f for f in found if _same_block(f, forward) and f.zone == "." and f.place < forward.place), None
        )
        own = [
            f
            for f in found
            if not _same_block(f, forward) and any(z.rstrip(".") == forward.zone for z in f.block)
        ]
        below = (forward.zone, "." + forward.zone)
        failed = [
            *(
                q
                for q in view.of(DnsQuery)
                if q.qname.endswith(below) and q.rcode in ("NXDOMAIN", "SERVFAIL", "REFUSED")
            ),
            *(k for k in view.of(DnsLookup) if k.qname.endswith(below) and k.failed),
            *(e for e in view.of(DnsServerError) if e.qname.endswith(below)),
        ]
        yield Hypothesis(
            subject=f"forward {forward.zone}",
            title=f"The forward for {forward.zone} stands behind the forward for every name in the same block and is never used.",
            checks=(
                judged("a forward for the root stands in the same block before it", before is not None, [forward.record], weight=2.8, required=True),
                judged("no server block of its own serves the zone", False if own else None, [f.record for f in own], weight=1.0, required=bool(own)),
                shown("names below the zone fail", failed, weight=0.6, decide=f"dig NAME.{forward.zone}"),
            ),
            explains=(f"names below {forward.zone} always go to the general upstream",),
            fixes=(Fix(title="A server block for the zone", artifact=f"{forward.zone}:53 {{\n    errors\n    cache 30\n    forward . {' '.join(forward.targets)}\n}}\n", changed=(f"names below {forward.zone} go to {' '.join(forward.targets)}",)),),
            prior=-1.2,
        )  # fmt: skip


def _same_block(a: Forward, b: Forward) -> bool:
    return a.record is b.record and a.number == b.number


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A catch-all forward stands before the forward for a zone, which never applies.",
    inputs=(CorefileText, DnsQuery, DnsLookup, DnsServerError),
    needs=(CorefileText,),
    rivals=("dns-forward-mixes-unequal-upstreams", "pod-nameservers-with-different-views"),
    check=check,
)
