"""Who may reach what under FQDN policy: from policies, the nodes' caches, the lookups that flows show, and pods.

The cache belongs to a node: what one pod of a node looked up, every pod of that node may use that is selected by a
policy with the same selector; other nodes know nothing of it. Rows of the epoch ``observed`` say what holds; rows of
the epoch ``if the record changes`` answer the question that always follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from deadhop.model.finding import Reachability
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, KubeObject, Pod
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnSelector
from deadhop.model.record import Record, Source
from deadhop.snapshot.fqdn_policy import Selector, rules, selectors

OBSERVED = "observed"
CHANGED = "if the record changes"
MOST_PODS = 40


class _Known(NamedTuple):
    """A node's knowledge: a name, its addresses, and where the evidence shows it. ``node`` is empty if not told."""

    node: str
    name: str
    addresses: tuple[str, ...]
    source: Source
    how: str


def reachability(records: Iterable[Record]) -> tuple[Reachability, ...]:
    """The rows, observed ones first; none where the evidence holds no FQDN policy or nothing was learned."""
    everything = list(records)
    policies = [r for r in everything if isinstance(r, (CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy))]
    named = [p for p in policies if any(rule.get("toFQDNs") for rule in rules(p))]
    chosen = selectors([r for r in everything if isinstance(r, FqdnSelector)], named)
    pods = {p.name: p for p in everything if isinstance(p, Pod) and p.node}
    known = _learned(everything, pods)
    if not named or not chosen or not pods or not known:
        return ()
    rows: list[Reachability] = []
    seen = {
        f.src.name for f in everything if isinstance(f, Flow) and f.verdict in ("FORWARDED", "REDIRECTED")
    }
    for fact in known:
        selector = next((s for s in chosen if s.matches(fact.name)), None)
        for pod in list(pods.values())[:MOST_PODS]:
            selected = _selected(pod, named, seen)
            if selected is not False and _is_resolver(pod, everything) is False:
                rows += _rows(pod, fact, selector, selected)
    unique = {(r.from_, r.to, r.epoch): r for r in rows}
    return tuple(sorted(unique.values(), key=lambda r: r.epoch != OBSERVED))


def _learned(records: list[Record], pods: dict[str, Pod]) -> list[_Known]:
    """What each node's cache holds: from cache listings, else from the answers that its pods got through the proxy."""
    found: dict[tuple[str, str], _Known] = {}
    for record in records:
        if isinstance(record, FqdnCacheEntry):
            node = record.where.removeprefix("host ") if record.where.startswith("host ") else ""
            found[node, record.fqdn] = _Known(
                node, record.fqdn, record.ips, record.source, "the node's FQDN cache holds it"
            )
    for record in records:
        if isinstance(record, Flow) and record.dns and record.dns.response and record.dns.ips:
            pod = pods.get(record.dst.name.rpartition("/")[2])
            node = pod.node if pod else record.node
            listed = found.get((node, record.dns.qname))
            if listed is None and not any(name == record.dns.qname and n == "" for n, name in found):
                found[node, record.dns.qname] = _Known(
                    node,
                    record.dns.qname,
                    record.dns.ips,
                    record.source,
                    "an answer through the node's DNS proxy taught it",
                )
    return list(found.values())


def _selected(pod: Pod, policies: Sequence[KubeObject], seen: set[str]) -> bool | None:
    """Whether a policy selects the pod; None where its labels are not in the evidence."""
    if any(name.rpartition("/")[2] == pod.name for name in seen):
        return True
    if not pod.labels:
        return None
    labels = dict(pod.labels)
    for policy in policies:
        wanted = policy.spec.get("endpointSelector")
        match = wanted.get("matchLabels") if isinstance(wanted, dict) else None
        if isinstance(match, dict) and all(
            labels.get(str(k).removeprefix("k8s:")) == str(v) for k, v in match.items()
        ):
            return True
    return False


def _is_resolver(pod: Pod, records: list[Record]) -> bool:
    return any(
        isinstance(r, Flow) and r.dst.port == 53 and not r.reply and r.dst.name.endswith("/" + pod.name)
        for r in records
    )


def _rows(pod: Pod, fact: _Known, selector: Selector | None, selected: bool | None) -> Iterable[Reachability]:
    who = f"{pod.namespace}/{pod.name}" if pod.namespace else pod.name
    addresses = ", ".join(fact.addresses[:3])
    to = f"{addresses} ({fact.name})"
    if_selected = "" if selected else " (if the policy selects it: its labels are not in the evidence)"
    if selector is None:
        yield Reachability(
            from_=who,
            to=to,
            epoch=OBSERVED,
            disposition="dropped",
            because=f"no selector matches {fact.name}{if_selected}",
        )
        return
    same = not fact.node or pod.node == fact.node
    if same:
        because = f"{fact.how} ({fact.source}) and selector {selector.text} matches; every selected pod on {pod.node} may use it{if_selected}"
        yield Reachability(from_=who, to=to, epoch=OBSERVED, disposition="delivered", because=because)
        old = f"the old address stays allowed on {pod.node} until its entry expires and no open connection keeps it"
        yield Reachability(
            from_=who,
            to=f"{to}, the old address",
            epoch=CHANGED,
            disposition="delivered",
            because=old + if_selected,
        )
        new = f"allowed once a selected pod on {pod.node} has looked {fact.name} up again"
        yield Reachability(
            from_=who,
            to=f"the new address of {fact.name}",
            epoch=CHANGED,
            disposition="delivered",
            because=new + if_selected,
        )
    else:
        because = f"the cache belongs to a node: {fact.name} was learned on {fact.node}, and no lookup is seen on {pod.node}; the pod's own lookup opens it{if_selected}"
        yield Reachability(from_=who, to=to, epoch=OBSERVED, disposition="dropped", because=because)
        old = f"{pod.node} never learned the old address, and a lookup now gives only the new one"
        yield Reachability(
            from_=who, to=f"{to}, the old address", epoch=CHANGED, disposition="dropped", because=old
        )
        new = f"allowed once a selected pod on {pod.node} has looked {fact.name} up"
        yield Reachability(
            from_=who,
            to=f"the new address of {fact.name}",
            epoch=CHANGED,
            disposition="delivered",
            because=new + if_selected,
        )
