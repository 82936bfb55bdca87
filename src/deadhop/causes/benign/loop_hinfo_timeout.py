"""The loop detector's start-up probe is ignored by the upstream; all other lookups work.

What happens
------------
CoreDNS's loop plugin sends one HINFO query for a random name at start and hopes never to see it. Many upstreams drop or
do not answer HINFO, and the errors plugin logs a timeout for it.

How to tell it from its neighbours
----------------------------------
Only HINFO lines for names of two random numbers are in error, and only at start. If A or AAAA queries time out as well,
the upstream is unreachable. If the probe comes back, there is a loop.

Fix
---
None needed.

References
----------
CoreDNS plugin/loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.hops.dns.upstreams import kind
from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError
from deadhop.model.observed.http import DialFailure

SLUG = "benign-loop-plugin-hinfo-timeout"
_PROBE = re.compile(r"^\d{6,}\.\d{6,}\.?")


def check(view: View) -> Iterator[Hypothesis]:
    errors = view.of(DnsServerError)
    probes = [e for e in errors if e.qtype == "HINFO" and e.error != "loop" and _PROBE.match(e.qname)]
    if not probes:
        return
    loops = [e for e in errors if e.error == "loop"]
    real = [e for e in errors if e not in probes and e not in loops]
    failed = [
        *(k for k in view.of(DnsLookup) if k.status in ("TIMEOUT", "SERVFAIL", "UNREACHABLE")),
        *(d for d in view.of(DialFailure) if d.error in ("lookup-timeout", "lookup-failed", "no-such-host")),
        *(q for q in view.of(DnsQuery) if q.qtype != "HINFO" and q.rcode in ("SERVFAIL", "")),
    ]
    good = [
        *(q for q in view.of(DnsQuery) if q.qtype != "HINFO" and q.rcode in ("NOERROR", "NXDOMAIN")),
        *(k for k in view.of(DnsLookup) if k.answers),
    ]
    refused = [e for e in probes if e.error in ("refused", "unreachable") or kind(e.upstream) == "loopback"]
    yield Hypothesis(
        subject=probes[0].qname,
        title="Only the loop detector's own HINFO probe goes unanswered: nothing is wrong.",
        checks=(
            judged("an HINFO query for a random name is in error", True, probes, weight=1.4, required=True),
            judged("no other query is", not real and not failed, [*real, *failed], weight=1.0, required=True),
            judged("no loop is reported", not loops, loops, weight=0.3, required=True),
            judged("the upstream is reachable", False if refused else None, refused, weight=1.0, required=bool(refused)),
            shown("other names are answered", good, weight=1.0),
        ),
        explains=("error lines at start of CoreDNS and none later",),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Only the loop detector's HINFO probe times out; lookups work.",
    severity="benign",
    inputs=(DnsServerError, DnsQuery, DnsLookup, DialFailure),
    needs=(DnsServerError,),
    rivals=(
        "dns-forward-loop-stub-resolver",
        "loopback-upstream-inherited-from-host",
        "dns-server-unreachable",
    ),
    check=check,
)
