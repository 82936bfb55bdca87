"""A search domain answers names that do not exist with success and no records, and musl takes that as final.

What happens
------------
Some zones (with a wildcard of another type, or at some providers) answer NOERROR and no records where NXDOMAIN is due.
musl ends its search at the first answer that is not NXDOMAIN: the name itself is never asked.

How to tell it from its neighbours
----------------------------------
A suffixed name gets NOERROR with zero answers and no further query follows; images on glibc go on and succeed. A
wildcard returns a wrong address; REFUSED and SERVFAIL are error codes.

Fix
---
Drop that domain from the search list, or make its zone return NXDOMAIN.

References
----------
musl src/network/lookup_name.c (name_from_dns_search); RFC 2308, RFC 8020.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Pod, Workload
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.libc import on_glibc_fails, on_glibc_works, on_musl
from deadhop.snapshot.search import Tried, asked_absolute, tried, wanted

SLUG = "search-domain-nodata-stops-musl"


def check(view: View) -> Iterator[Hypothesis]:
    dials, attempts, pings, lookups = (
        view.of(DialFailure),
        view.of(Attempt),
        view.of(Ping),
        view.of(DnsLookup),
    )
    failing: list[Record] = [*dials, *pings, *attempts, *(k for k in lookups if k.failed)]
    names = wanted(dials, pings, lookups, attempts)
    every = tried(view.of(DnsQuery), view.of(CapturedPacket), lookups, view.of(ResolvConf), names)
    empty = [
        t
        for t in every
        if t.foreign
        and t.rcode == "NOERROR"
        and t.qtype in ("", "A")
        and (t.answers == 0 or (t.answers is None and _last(t, every)))
    ]
    if not empty:
        return
    told = {t.base for t in empty}
    asked = [
        t for t in every if t.qname in told and t.rcode == "NOERROR" and not isinstance(t.record, DnsLookup)
    ]
    # A client that goes on to the name itself is no musl; what counts is whether another one stops.
    on = {t.client for t in asked}
    stopped = {t.client for t in empty if t.client and not isinstance(t.record, DnsLookup)} - on
    absolute = [t.record for t in asked if not stopped]
    others = [t.record for t in asked if stopped and t.client]
    pods = [p for p in view.of(Pod) if not stopped or not p.ip or p.ip in stopped]
    musl = on_musl([*failing, *view.of(CommandRun), *pods, *view.of(Workload)])
    glibc = on_glibc_fails(failing)
    suffix = empty[0].suffix
    yield Hypothesis(
        subject=f"search domain {suffix}",
        title=f"The search domain {suffix} answers names that do not exist with success and no records; musl stops there.",
        checks=(
            judged("a name with a foreign suffix gets success and no records", True, [t.record for t in empty], weight=1.5, required=True),
            judged("programs on musl fail", True if musl else (False if glibc else None), musl or glibc, weight=1.0, decide="kubectl run t --rm -it --image=alpine -- getent hosts example.org"),
            shown("programs on other libraries work", [*on_glibc_works(attempts), *others], weight=0.6),
            judged("the name itself is not asked afterwards", False if absolute else None, absolute, weight=1.0, required=bool(absolute)),
        ),
        explains=("only images on musl (Alpine) cannot resolve outside names",),
        fixes=(Fix(title="Take the domain out of the pods' search list", artifact=f"# /var/lib/kubelet/config.yaml, with a file that does not list {suffix}\nresolvConf: /etc/resolv-pods.conf\n"),),
        prior=-1.0,
    )  # fmt: skip


def _last(one: Tried, every: list[Tried]) -> bool:
    """Whether a server's log shows the client's search end with this name: cluster suffixes before, nothing after."""
    own = [t for t in every if t.client == one.client and t.base == one.base]
    return (
        bool(own)
        and own[-1].qname == one.qname
        and any(t.cluster and t.rcode == "NXDOMAIN" for t in own)
        and not asked_absolute(own, one.base)
    )


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A search domain answers non-existing names with success and no records, which ends musl's search.",
    inputs=(
        DialFailure,
        Attempt,
        Ping,
        DnsLookup,
        DnsQuery,
        CapturedPacket,
        ResolvConf,
        CommandRun,
        Pod,
        Workload,
    ),
    needs=(DnsLookup, DnsQuery, CapturedPacket),
    rivals=(
        "search-domain-refused-stops-search",
        "wildcard-record-in-search-domain",
        "search-root-dot-breaks-musl",
    ),
    check=check,
)
