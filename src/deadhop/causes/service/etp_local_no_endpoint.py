"""With the local external traffic policy a node without a local endpoint drops what the load balancer sends to it.

What happens
------------
externalTrafficPolicy: Local keeps external traffic on the node that received it, for the sake of the client's
address. A node without a backend pod has nowhere to send it and drops it.

How to tell it from its neighbours
----------------------------------
The Service has the local policy and the failing node runs no backend; other nodes answer. If a load balancer merely
lists such nodes as unhealthy and users see no errors, it is expected.

Fix
---
Run a backend on every target node, use the cluster policy, or let the health check on healthCheckNodePort decide.

References
----------
Kubernetes, Source IP for Services; kube-proxy chains KUBE-XLB, KUBE-EXT (has no local endpoints).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import host_port, is_ip
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Node, Pod, Service
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record
from deadhop.snapshot.attribution import nodes_by_address
from deadhop.snapshot.said import said

SLUG = "external-traffic-policy-local-no-endpoint"

NO_LOCAL = re.compile(r"has no local endpoints|no local endpoints", re.I)


def check(view: View) -> Iterator[Hypothesis]:
    local = [s for s in view.of(Service) if s.spec.get("externalTrafficPolicy") == "Local"]
    cluster = [s for s in view.of(Service) if s.spec.get("externalTrafficPolicy") == "Cluster"]
    settings = [
        o for o in view.of(CiliumOption) if o.key.endswith("externalTrafficPolicy") and o.value == "Local"
    ]
    tables: list[Record] = [
        t for t in view.of(IptablesTable) if any(NO_LOCAL.search(str(r)) for r in t.rules)
    ]
    drops: list[Record] = [*tables, *said(view.of(Message), "no-local-endpoint")]
    failed: list[Record] = [
        e for e in view.of(HttpExchange) if e.error in ("timeout", "refused", "unreachable", "other")
    ]
    failed += [a for a in view.of(Attempt) if not a.ok]
    failed += [d for d in view.of(DialFailure) if d.error == "timeout"]
    served: list[Record] = [e for e in view.of(HttpExchange) if (e.status or 500) < 400]
    served += [a for a in view.of(Attempt) if a.ok]
    balanced = said(view.of(Message), "haproxy-log")
    # sC, SC: the connection to the server timed out or was refused (HAProxy configuration manual 8.5).
    failed += [m for m in balanced if m.field("state")[:2] in ("sC", "SC")]
    served += [m for m in balanced if m.field("state")[:2] == "--"]
    bare = _bare(view, local, failed, served)
    if not (local or settings or drops or (cluster and failed)):
        return
    yield Hypothesis(
        subject=local[0].ref if local else "the Service's external traffic policy",
        title="The local traffic policy makes a node without a backend drop the traffic that the load balancer sends to it.",
        checks=(
            judged("the Service's external traffic policy is Local", bool(local or settings or drops), [*local, *settings, *drops] or cluster, weight=0.8 if not drops else 1.8, required=True, decide="kubectl get svc -A -o custom-columns=NAME:.metadata.name,ETP:.spec.externalTrafficPolicy"),
            shown("calls through a node or the load balancer fail", failed, weight=0.9, required=not drops, decide="curl -m 3 http://NODE:NODEPORT/   # for each node"),
            shown("the node that fails runs no backend", bare, weight=1.2),
            shown("another node answers", served if failed else [], weight=0.8, decide="kubectl get pods -o wide   # which nodes run a backend"),
        ),
        explains=("a share of connections fails, by the node that the load balancer chose",),
        fixes=(
            Fix(title="Use the cluster policy", artifact="kubectl -n NAMESPACE patch svc NAME -p '{\"spec\":{\"externalTrafficPolicy\":\"Cluster\"}}'\n", changed=("the backend sees a node's address instead of the client's",)),
            Fix(title="Let the health check decide", artifact="kubectl get svc NAME -o jsonpath='{.spec.healthCheckNodePort}'   # HTTP health check of the load balancer, path /healthz\n"),
        ),
        prior=-1.3,
    )  # fmt: skip


def _bare(view: View, local: list[Service], failed: list[Record], served: list[Record]) -> list[Record]:
    """Failed calls through a node on which none of the Service's pods stands, beside served ones through a node of
    theirs; with the pods."""
    pods = [
        p
        for p in view.of(Pod)
        if p.node and any(p.name.startswith(s.name + "-") and p.namespace in ("", s.namespace) for s in local)
    ]
    addresses = {address: node.name for address, node in nodes_by_address(view.of(Node)).items()}
    theirs = {p.node.partition(".")[0] for p in pods}

    def through(record: Record) -> str:
        name = _server(record)
        name = addresses.get(name, name)
        return "" if is_ip(name) else name.partition(".")[0]

    lone = [r for r in failed if (node := through(r)) and node not in theirs]
    return [*lone[:2], *pods[:3]] if lone and any(through(r) in theirs for r in served) else []


def _server(record: Record) -> str:
    """The name or address of the node that a call went to."""
    if isinstance(record, Message):
        return record.field("backend").rpartition("/")[2]
    if isinstance(record, HttpExchange):
        return record.host or record.dialled
    if isinstance(record, DialFailure):
        return record.host or record.ip
    return host_port(record.target)[0] if isinstance(record, Attempt) else ""


CAUSE = Cause(
    slug=SLUG,
    family="service",
    title="With the local external traffic policy a node without a local endpoint drops the traffic.",
    inputs=(
        Service,
        Pod,
        Node,
        CiliumOption,
        IptablesTable,
        Message,
        HttpExchange,
        Attempt,
        DialFailure,
    ),
    needs=(
        Service,
        IptablesTable,
        CiliumOption,
    ),
    rivals=(
        "benign-etp-local-unhealthy-nodes",
        "proxy-protocol-hairpin-bypasses-lb",
    ),
    check=check,
)
