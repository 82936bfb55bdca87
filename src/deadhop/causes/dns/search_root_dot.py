"""The search list holds a single dot, and musl's resolver stops on it before it tries the absolute name.

What happens
------------
systemd writes ``search .`` where a host has no domain, and the kubelet appends it to the pods' list. musl up to 1.2.3
turns the dot into a name that cannot be encoded, and the whole lookup fails before the name itself is asked.

How to tell it from its neighbours
----------------------------------
The search line holds a lone dot and only images on musl fail. Captured queries end after the cluster suffixes, each
answered NXDOMAIN. A foreign suffix that is answered otherwise would be in the capture.

Fix
---
Remove the dot from the resolv.conf that pods get, or use a kubelet that drops it.

References
----------
musl src/network/lookup_name.c (name_from_dns_search); Kubernetes 1.25 changelog.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Pod, Workload
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.snapshot.libc import on_glibc_fails, on_glibc_works, on_musl
from deadhop.snapshot.search import asked_absolute, tried, wanted

SLUG = "search-root-dot-breaks-musl"


def check(view: View) -> Iterator[Hypothesis]:
    files = [
        *(r for r in view.of(ResolvConf) if "." in r.search),
        *(m for m in view.of(Message) if m.kind == "search-limit" and "." in m.field("applied").split()),
    ]
    if not files:
        return
    dials, attempts = view.of(DialFailure), view.of(Attempt)
    failing = [*dials, *view.of(Ping), *view.of(DnsLookup), *attempts]
    musl = on_musl([*failing, *view.of(CommandRun), *view.of(Pod), *view.of(Workload)])
    names = wanted(dials, view.of(Ping), view.of(DnsLookup), attempts)
    every = tried(view.of(DnsQuery), view.of(CapturedPacket), (), view.of(ResolvConf), names)
    suffixed = [t for t in every if t.suffix and t.cluster and "." in t.base]
    absolute = [t.record for t in every if not t.suffix and not t.cluster and "." in t.qname]
    # Each client by itself: one on glibc goes on to the name where one on musl stops.
    stops = [
        t.record for t in suffixed if not asked_absolute([o for o in every if o.client == t.client], t.base)
    ]
    foreign = [t.record for t in every if t.foreign and t.rcode and t.rcode != "NXDOMAIN"]
    glibc = on_glibc_fails(failing)
    yield Hypothesis(
        subject="search .",
        title="The search list holds a lone dot, at which musl gives up before it asks the name itself.",
        checks=(
            judged("the search list holds a lone dot", True, files, weight=1.4, required=True),
            judged("programs on musl fail", True if musl else (False if glibc else None), musl or glibc, weight=0.9, decide="kubectl run t --rm -it --image=alpine:3.16 -- wget -qO- http://example.org"),
            shown("programs on other libraries work", on_glibc_works(attempts), weight=0.6),
            shown("queries end after the cluster's suffixes", stops, weight=0.9, decide="tcpdump -ni any udp port 53"),
            judged("the name itself is never asked", False if absolute and not stops else None, absolute, weight=0.8),
            judged("no foreign suffix is answered otherwise", False if foreign else None, foreign, weight=1.2, required=bool(foreign)),
        ),
        explains=("only images on musl (Alpine) cannot resolve outside names",),
        fixes=(Fix(title="A resolv.conf without the dot for pods", artifact="sed 's/^search \\.$//' /run/systemd/resolve/resolv.conf > /etc/resolv-pods.conf\n# /var/lib/kubelet/config.yaml\n# resolvConf: /etc/resolv-pods.conf\n"),),
        prior=-0.9,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A lone dot in the search list makes musl give up before the absolute name.",
    inputs=(
        ResolvConf,
        Message,
        DialFailure,
        Attempt,
        Ping,
        DnsLookup,
        CommandRun,
        Pod,
        Workload,
        DnsQuery,
        CapturedPacket,
    ),
    needs=(ResolvConf, Message),
    rivals=(
        "search-domain-nodata-stops-musl",
        "search-domain-refused-stops-search",
        "wildcard-record-in-search-domain",
    ),
    check=check,
)
