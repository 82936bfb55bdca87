"""A client follows aliases by itself, so the FQDN cache never learns the name in the policy.

What happens
------------
The client's own resolver (a gateway's, not the libc's) asks CNAME for the name, then CNAME for the target, and so on,
and asks A only for the last target. The DNS proxy teaches addresses under the name that was asked: it learns the last
target and never the name that the policy lists. The connection to the address is then denied.

How to tell it from its neighbours
----------------------------------
The queries show CNAME types first and A only for targets; another client in the same pod that asks A for the name
works. The policy lists the parent here; a policy that lists the target is the opposite fault. The answer is learned,
unlike with a policy that has no DNS rule; it is learned under another name, unlike an entry that expired.

Fix
---
Make the resolver ask A (and AAAA) for the name first. Allowing every alias by name works too, until the provider
changes one.

References
----------
Cilium pkg/fqdn/dnsproxy (the name is the question's), daemon/cmd/fqdn.go; Kong dns_order.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.artifacts import resolver_order
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.fqdn_world import FqdnWorld, Taught, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.dns import DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, Workload
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnSelector
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.asked import Asked, Run, questions, runs
from deadhop.snapshot.fqdn_policy import Selector, selectors

SLUG = "cname-first-client-poisons-fqdn-cache"
ADDRESS = ("A", "AAAA")
UNKNOWN_ADDRESS = "192.0.2.80"


def check(view: View) -> Iterator[Hypothesis]:
    every = runs(questions(view.of(DnsQuery), view.of(Flow), view.of(CapturedPacket), view.of(ResolvConf)))
    chosen = selectors(
        view.of(FqdnSelector), (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
    )
    for run in every:
        aliases = run.bases("CNAME")
        if not aliases:
            continue
        for selector in chosen:
            wanted = next((name for name in aliases if selector.matches(name)), "")
            if wanted:
                yield _hypothesis(view, run, every, selector, wanted)


def _hypothesis(view: View, run: Run, every: list[Run], selector: Selector, wanted: str) -> Hypothesis:
    aliases = run.bases("CNAME")
    asked_a = run.bases(*ADDRESS)
    direct = asked_a.get(wanted, [])
    targets = {name: asked for name, asked in asked_a.items() if not selector.matches(name)}
    others = [
        r
        for r in every
        if r is not run
        and r.client == run.client
        and wanted in r.bases(*ADDRESS)
        and wanted not in r.bases("CNAME")
    ]
    answered_others = [a.record for r in others for a in r.bases(*ADDRESS)[wanted] if a.rcode == "NOERROR"]
    chain = [
        lookup
        for lookup in view.of(DnsLookup)
        if any(a.type == "CNAME" and a.name == wanted for a in lookup.answers)
    ]
    chain_names = {a.data for lookup in chain for a in lookup.answers if a.type == "CNAME"}
    cached = {entry.fqdn: entry for entry in view.of(FqdnCacheEntry)}
    rows = [
        entry
        for name, entry in cached.items()
        if name in targets or name in chain_names or (name in aliases and name != wanted)
    ]
    denied = [f for f in view.of(Flow) if f.denied and f.dns is None]
    followed = [a.record for name, asked in aliases.items() if name != wanted for a in asked]
    queried = [*(a.record for a in aliases[wanted]), *_answers(view, run, {wanted}, "CNAME")]
    told = [a.record for asked in targets.values() for a in asked]
    told += _answers(view, run, set(targets), *ADDRESS) if told else []
    return Hypothesis(
        subject=f"client {run.client}, selector {selector.text}",
        title=f"The client asks CNAME for {wanted} and A only for {', '.join(targets) or 'its targets'}: the FQDN cache never learns {wanted}.",
        checks=(
            Check(text=f"{run.client} asks CNAME for {wanted}", holds=True, weight=1.0, required=True, records=tuple(queried)),
            Check(text=f"selector {selector.text} covers {wanted}", holds=True, weight=0.6, required=True, records=(selector.record,)),
            judged(f"in that lookup {wanted} is never asked for its address", not direct, [a.record for a in direct], weight=0.8, required=True),
            shown("the address is asked for under a name that the selector does not cover", told, weight=1.0, required=True, decide="kubectl -n kube-system logs -l k8s-app=kube-dns --tail=-1 | grep CLIENT-IP"),
            shown("the client follows the aliases itself, one CNAME question each", followed, weight=0.5),
            shown(f"another lookup of the same client asks A for {wanted} and is answered", answered_others, weight=0.6),
            shown(f"{wanted} is an alias", chain, weight=0.3, decide=f"dig {wanted}"),
            shown("the FQDN cache holds the targets", rows, weight=0.4, decide="cilium-dbg fqdn cache list"),
            shown("connections are denied by policy", denied, weight=0.6, decide="hubble observe --verdict DROPPED --from-pod POD -o jsonpb"),
        ),
        explains=("the gateway's call hangs or is refused, while curl and nslookup in the same pod work", "lookups all succeed"),
        contradictions=_contradictions(cached, wanted),
        world=_world(run, selector, wanted, targets),
        walk=walk,
        fixes=_fixes(view, wanted, (*aliases, *targets)),
        prior=-1.8,
    )  # fmt: skip


def _answers(view: View, run: Run, names: set[str], *qtypes: str) -> list[Flow]:
    """Answers to the client's questions, which show them as well."""
    return [
        f
        for f in view.of(Flow)
        if f.dns and f.dns.response and f.dns.qname in names and {*f.dns.qtypes} & {*qtypes} and run.client in (f.dst.name, f.dst.ip)
    ]  # fmt: skip


def _contradictions(cached: dict[str, FqdnCacheEntry], wanted: str) -> tuple[str, ...]:
    if wanted not in cached:
        return ()
    entry = cached[wanted]
    return (
        f"{entry.source}: the cache does hold {wanted}; it was learned from a lookup that asked A for it (another client, or after a change)",
    )


def _world(run: Run, selector: Selector, wanted: str, targets: dict[str, list[Asked]]) -> FqdnWorld:
    taught = tuple(
        Taught(asked=name, addresses=(UNKNOWN_ADDRESS,), sources=tuple(a.record.source for a in asked[:2]))
        for name, asked in targets.items()
    )
    return FqdnWorld(
        client=run.client, wanted=wanted, address=UNKNOWN_ADDRESS, selectors=(selector.core,), taught=taught
    )


def _fixes(view: View, wanted: str, names: tuple[str, ...]) -> tuple[Fix, ...]:
    words = {w for c in view.of(CommandRun) for w in c.line.split()} | {str(o.raw) for o in view.of(Workload)}
    product = resolver_order.known(words)
    listed = "\n".join(f"  - matchName: {name}" for name in dict.fromkeys(names))
    artifact = (
        product.artifact
        if product
        else "\n".join(f"# {o.product} ({o.reference})\n{o.artifact}" for o in resolver_order.ORDERS)
    )
    return (
        Fix(
            title=f"Make the client's resolver ask A first{' (' + product.product + ')' if product else ''}",
            artifact=artifact,
            apply=lambda w: w.with_fields(taught=(Taught(asked=wanted, addresses=(w.address,)), *w.taught)),
            changed=("one question less per alias; records of other types are asked for only where A and AAAA fail",),
            assumes=(f"an A question for {wanted} is answered with the address that the client dials",),
        ),
        Fix(
            title="Allow the aliases too",
            artifact=f"egress:\n- toFQDNs:\n{listed}\n",
            apply=lambda w: w.with_fields(selectors=(*w.selectors, *_exact([t.asked for t in w.taught]))),
            changed=("every other name on the same provider's addresses becomes reachable as well",),
            note="Breaks again when the provider changes an alias.",
        ),
    )  # fmt: skip


def _exact(names: list[str]) -> tuple[FQDNSelector, ...]:
    return tuple(FQDNSelector(name) for name in names)


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The client resolves aliases by itself, so the FQDN cache never learns the name in the rule.",
    inputs=(DnsQuery, Flow, CapturedPacket, ResolvConf, FqdnSelector, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, DnsLookup, FqdnCacheEntry, CommandRun, Workload),
    needs=(FqdnSelector, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy),
    rivals=(
        "fqdn-rule-names-cname-target-not-queried-name", "fqdn-wildcard-matches-one-label-only", "fqdn-policy-without-l7-dns-rule", "tofqdns-entry-expired",
        "egress-policy-missing-dns-allow",
    ),
    check=check,
)  # fmt: skip
