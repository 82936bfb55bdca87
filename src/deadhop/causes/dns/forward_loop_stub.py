"""The cluster DNS pod forwards to a loopback stub resolver, which inside the pod is the DNS server itself.

What happens
------------
The pod's resolv.conf comes from the node and names 127.0.0.53 (systemd-resolved) or another loopback address. Inside
the pod's network namespace that address is the pod: each forwarded query comes back to its sender. CoreDNS's loop
plugin sends one query for a random name at start, sees it again, and stops the process.

How to tell it from its neighbours
----------------------------------
The loop detector names its own probe; nothing times out. Where nothing listens at the loopback address the forwarded
queries time out or are refused instead. An HINFO line that times out is a probe that nobody answered: no loop.

Fix
---
Point the kubelet at the resolv.conf that lists the real upstream resolvers, and restart the DNS pods.

References
----------
CoreDNS plugin/loop, troubleshooting; kubelet ``resolvConf``; Kubernetes, Debugging DNS Resolution, known issues.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.dns.upstreams import forwards, kind, upstreams
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsQuery, DnsServerError, ResolvConf
from deadhop.model.observed.kube import Pod

SLUG = "dns-forward-loop-stub-resolver"
FIX = Fix(
    title="Give pods the resolv.conf with the real upstreams",
    artifact="# /var/lib/kubelet/config.yaml\nresolvConf: /run/systemd/resolve/resolv.conf\n# then: systemctl restart kubelet; kubectl -n kube-system rollout restart deployment/coredns\n",
    changed=("every pod with dnsPolicy Default gets the upstreams of the node's uplinks",),
)


def check(view: View) -> Iterator[Hypothesis]:
    errors = view.of(DnsServerError)
    loops = [e for e in errors if e.error == "loop"]
    files = [r for r in view.of(ResolvConf) if any(kind(a) == "loopback" for a in r.nameservers)]
    sent = [
        f
        for f, addresses in upstreams(forwards(view.of(CorefileText)), view.of(ResolvConf))
        if any(kind(a) == "loopback" for a in addresses)
    ]
    crashing = [
        p
        for p in view.of(Pod)
        if p.name.startswith(("coredns", "kube-dns")) and p.phase in ("CrashLoopBackOff", "Error")
    ]
    probes: dict[tuple[str, str], list[DnsQuery]] = {}
    for query in view.of(DnsQuery):
        if query.qtype == "HINFO" and kind(query.client) == "loopback":
            probes.setdefault((query.client, query.qname), []).append(query)
    again = [q for rows in probes.values() if len(rows) > 2 for q in rows]
    silent = [e for e in errors if kind(e.upstream) == "loopback" and e.error in ("timeout", "refused")]
    stopped = bool(crashing) and bool(files)
    if not loops and not again and not stopped and not (silent and files):
        return
    via = next((e.upstream for e in loops if e.upstream), "") or next(
        (a for r in files for a in r.nameservers), "itself"
    )
    yield Hypothesis(
        subject=f"cluster DNS, upstream {via}",
        title="Cluster DNS forwards queries to a loopback address, that is to itself.",
        checks=(
            judged("the server saw its own probe come back, or stops at start with a loopback upstream", True if loops or again or stopped else None, [*loops, *again, *(crashing if stopped else [])], weight=2.4 if loops else 1.6, required=True, decide="kubectl -n kube-system logs -l k8s-app=kube-dns --previous | grep plugin/loop"),
            shown("a resolv.conf names a loopback address", files, weight=0.9, decide="grep nameserver /etc/resolv.conf /run/systemd/resolve/resolv.conf"),
            shown("the Corefile forwards to it", [f.record for f in sent], weight=0.3),
            judged("no forwarded query times out at the loopback address", False if silent else None, silent, weight=0.8, required=not loops and bool(silent)),
        ),
        explains=("CoreDNS restarts again and again right after its start", "with the loop plugin removed, memory and CPU grow until the pod is killed"),
        fixes=(FIX,),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="Cluster DNS inherits a loopback stub resolver from the node and forwards to itself.",
    inputs=(DnsServerError, ResolvConf, CorefileText, DnsQuery, Pod),
    needs=(DnsServerError, ResolvConf, DnsQuery),
    rivals=(
        "loopback-upstream-inherited-from-host",
        "benign-loop-plugin-hinfo-timeout",
        "dns-server-unreachable",
    ),
    check=check,
)
