"""The node lists more nameservers than a resolver uses; the first ones are applied, and that is all.

What happens
------------
Resolvers take three nameservers. The kubelet cuts a longer list of the host to the first three and reports an event on
every pod that inherits it. As long as these are equivalent, nothing changes for a lookup.

How to tell it from its neighbours
----------------------------------
The event concerns nameservers, not search domains, and no lookup fails. Where lookups fail, look for their own cause.

Fix
---
None needed. A shorter list on the node silences the warning.

References
----------
Kubernetes pkg/kubelet/network/dns/dns.go (MaxDNSNameservers); resolv.conf(5), MAXNS.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Event
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.record import Record

SLUG = "benign-nameserver-limit-warning"


def check(view: View) -> Iterator[Hypothesis]:
    told: list[Record] = [m for m in view.of(Message) if m.kind == "nameserver-limit"]
    told += [
        e for e in view.of(Event) if e.reason == "DNSConfigForming" and "nameserver" in e.message.lower()
    ]
    if not told:
        return
    search = [m for m in view.of(Message) if m.kind == "search-limit"]
    bad: list[Record] = [
        *(k for k in view.of(DnsLookup) if k.failed),
        *(q for q in view.of(DnsQuery) if q.rcode in ("SERVFAIL", "REFUSED")),
        *view.of(DnsServerError),
        *(d for d in view.of(DialFailure) if d.error in ("no-such-host", "lookup-timeout", "lookup-failed")),
        *(p for p in view.of(Ping) if p.error == "unresolved"),
    ]
    yield Hypothesis(
        subject="the node's nameservers",
        title="The node lists more nameservers than resolvers use; the first ones are applied, and lookups work.",
        checks=(
            judged("the kubelet reports that it left out nameservers", True, told, weight=2.0, required=True),
            judged("no lookup fails", not bad, bad, weight=0.8, required=True),
            judged("no search domain is left out", not search, search, weight=0.4, required=True),
        ),
        explains=("a warning on every pod that inherits the node's resolv.conf",),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The kubelet leaves out nameservers beyond the third; lookups work.",
    severity="benign",
    inputs=(Message, Event, DnsLookup, DnsQuery, DnsServerError, DialFailure, Ping),
    needs=(Message, Event),
    rivals=("search-list-truncated-by-kubelet-limit", "pod-nameservers-with-different-views"),
    check=check,
)
