"""A Service's targetPort is not a port on which the pod listens.

What happens
------------
The Service sends traffic to its targetPort on the pod. If the container listens on another port, or the named port
does not exist in the pod, connections to the endpoint are refused, or the Service has no endpoint for that port.

How to tell it from its neighbours
----------------------------------
The endpoints show the pod's address with a port where nothing listens; the Service's own port is the one that the
client uses. A wrong port in the client or route is the neighbour one step earlier; a process that does not run or
binds to loopback is the one later. A port-forward to the container's real port works.

Fix
---
Set targetPort to the port, or port name, on which the container listens.

References
----------
Kubernetes, Debug Services; Service spec.ports.targetPort.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kube import Endpoints, KubeObject, Pod, Service, Workload, mapping, mappings
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.captures import refusals
from deadhop.snapshot.forwards import forwarded
from deadhop.snapshot.said import said
from deadhop.snapshot.services import together

SLUG = "service-targetport-mismatch"
#: Programs that take a Service's endpoints and dial these.
PROXIES = ("nginx", "reverse-proxy")
_REFUSED = re.compile(r"dial tcp (?P<ip>\d+(?:\.\d+){3}):(?P<port>\d{1,5}): connect: connection refused")
#: Containers that meshes add: their ports are no application's.
SIDECARS = ("istio-proxy", "linkerd-proxy", "envoy-sidecar", "kuma-sidecar")


def check(view: View) -> Iterator[Hypothesis]:
    declared = [
        *(_ports(p, p.spec) for p in view.of(Pod)),
        *(_ports(w, mapping(w.spec, "template", "spec")) for w in view.of(Workload)),
    ]
    declared = [d for d in declared if d[1] or d[2]]
    callers = {
        (d.source.file, d.where) for d in view.of(DialFailure) if d.error == "refused" and not d.program
    }
    listening = [
        m
        for m in said(view.of(Message), "listening")
        if (m.source.file, m.where) not in callers  # the log of a process that was refused is a client's
    ]
    refused: list[Record] = [d for d in view.of(DialFailure) if d.error == "refused"]
    refused += [
        r
        for r in view.of(LocalReply)
        if "refused" in r.transport_failure.lower() or r.transport_failure.endswith("111")
    ]
    refused += [e for e in view.of(HttpExchange) if e.error == "refused"]
    refused += [a for a in view.of(EnvoyAccess) if "UF" in a.flags]
    refused += said(view.of(Message), "upstream-connect-failed")
    refused += refusals(view.of(CapturedPacket))
    through = forwarded(view.of(CommandRun), view.of(HttpExchange))
    answering: list[Record] = [r for f in through for r in (f.run, f.answer)]
    opened = {str(f.port) for f in through} | {
        m.field("port")
        for m in listening
        if m.field("address") not in ("127.0.0.1", "localhost", "::1", "[::1]")
    }
    for ends in view.of(Endpoints):
        if ends.ready and ends.ports and opened and refused and not {str(n) for n in ends.ports} & opened:
            yield Hypothesis(
                subject=f"endpoints of {ends.service}",
                title=f"The endpoints of {ends.service} carry port {ends.ports[0]}, and the pod listens on {', '.join(sorted(opened)[:3])}.",
                checks=(
                    shown("the endpoints' port is none that the pod listens on", [ends, *listening, *answering], weight=1.5, required=True),
                    shown("connections are refused", refused, weight=0.8, required=True),
                ),
                fixes=(Fix(title="Set targetPort to the port of the process", artifact=f"kubectl edit service {ends.service}   # spec.ports[].targetPort\n"),),
                prior=-1.2,
            )  # fmt: skip
    yield from _dialled(view, opened, [*listening, *answering])
    for service, records in together(view.of(Service)):
        if service.headless:
            continue
        for port in service.ports:
            target = port.target if port.target is not None else None
            if target is None or (isinstance(target, str) and "{" in target):
                continue
            fitting = [d for d in declared if bool(refused and not d[3]) or _behind(service, d)]
            exposed = [d for d in fitting if (target in d[1] if isinstance(target, int) else target in d[2])]
            heard: list[Record] = [
                r for f in through if f.port != target and isinstance(target, int) for r in (f.run, f.answer)
            ]
            heard += [
                m
                for m in listening
                if isinstance(target, int) and m.field("port").isdigit() and int(m.field("port")) != target
            ]
            same: list[Record] = [m for m in listening if m.field("port") == str(target)]
            same += [f.answer for f in through if f.port == target]
            wrong: list[Record] = [d[0] for d in fitting] if fitting and not exposed else []
            if not wrong and heard and not same:
                wrong = [*heard]
            if not wrong and not (exposed and refused):
                continue
            yield Hypothesis(
                subject=f"{service.ref} port {port.port}",
                title=f"{service.ref} leads port {port.port} to targetPort {target}, on which the pods do not listen.",
                checks=(
                    shown(f"targetPort is {target}", records, weight=0.5, required=True),
                    judged("the pods do not declare or open that port", bool(wrong), wrong or [d[0] for d in exposed], weight=1.7, required=True, decide="kubectl exec POD -- ss -ltnp; kubectl get pod POD -o jsonpath='{.spec.containers[*].ports}'"),
                    shown("connections to the endpoint are refused", refused, weight=0.8, decide="kubectl port-forward POD REAL-PORT   # works, the Service does not"),
                    shown("the process says where it listens, or answers there through a port-forward", [m for m in heard if m not in wrong], weight=0.6),
                ),
                explains=("the endpoints show the pod's address with a port where nothing listens",),
                fixes=(Fix(title="Set targetPort to the port of the process", artifact=f"kubectl -n {service.namespace or 'NAMESPACE'} patch service {service.name or 'NAME'} --type json -p '[{{\"op\":\"replace\",\"path\":\"/spec/ports/0/targetPort\",\"value\":REAL-PORT}}]'\n"),),
                prior=-1.2,
            )  # fmt: skip


def _dialled(view: View, opened: set[str], evidence: list[Record]) -> Iterator[Hypothesis]:
    """What an ingress proxy dials are a Service's endpoints: pods at the target port, which is the Service's own unless it
    says another (API reference, ServicePort)."""
    services = [s for s in view.of(Service) if not s.headless]
    outer = {s.cluster_ip for s in services} | {a for s in services for a in s.external}
    dials: list[tuple[str, int | None, Record]] = [
        (d.ip, d.port, d)
        for d in view.of(DialFailure)
        if d.error == "refused" and d.program in PROXIES and d.ip
    ]
    for message in said(view.of(Message), "proxy-error"):
        if to := _REFUSED.search(message.field("why")):
            dials.append((to["ip"], int(to["port"]), message))
    inner = {m.field("port") for m in evidence if isinstance(m, Message)}  # also on the loopback device
    for service in services:
        for port in service.ports:
            same = [d for ip, number, d in dials if number == port.port and ip not in outer]
            if port.target is not None or not same or not opened or str(port.port) in opened | inner:
                continue
            yield Hypothesis(
                subject=f"{service.ref} port {port.port}",
                title=f"The pods of {service.ref} are dialled at port {port.port}, and listen on {', '.join(sorted(opened)[:3])}.",
                checks=(
                    shown("a proxy is refused by the endpoints at the port that they have from the Service", [service, *same], weight=1.2, required=True),
                    shown("the pod listens on another port", evidence, weight=1.5, required=True, decide="kubectl exec POD -- ss -ltnp"),
                ),
                explains=("the endpoints show the pod's address with a port where nothing listens",),
                fixes=(Fix(title="Set targetPort to the port of the process", artifact=f"kubectl -n {service.namespace or 'NAMESPACE'} edit service {service.name}   # spec.ports[].targetPort\n"),),
                prior=-1.2,
            )  # fmt: skip


Declared = tuple[KubeObject, set[int], set[str], set[tuple[str, str]]]


def _behind(service: Service, pod: Declared) -> bool:
    """Whether a pod or its workload is one that the Service selects; by the names where labels or the selector are not shown."""
    if service.selector and pod[3]:
        return set(service.selector) <= pod[3]
    name = pod[0].name
    return not name or not service.name or name.startswith(service.name) or service.name.startswith(name)


def _ports(owner: KubeObject, spec: dict[str, Any]) -> Declared:
    own = [c for c in mappings(spec, "containers") if c.get("name") not in SIDECARS]
    # A container that declares no port may listen on any.
    ports = [p for c in own for p in mappings(c, "ports")] if all(c.get("ports") for c in own) else []
    labels = mapping(owner.spec, "template", "metadata", "labels") or dict(owner.labels)
    return (
        owner,
        {p["containerPort"] for p in ports if isinstance(p.get("containerPort"), int)},
        {str(p["name"]) for p in ports if p.get("name")},
        {(str(k), str(v)) for k, v in labels.items()},
    )


CAUSE = Cause(
    slug=SLUG,
    family="service",
    title="The Service's targetPort is not a port on which the pod listens.",
    inputs=(
        Service,
        Endpoints,
        Pod,
        Workload,
        Message,
        DialFailure,
        LocalReply,
        HttpExchange,
        EnvoyAccess,
        KubeObject,
        CapturedPacket,
        CommandRun,
    ),
    needs=(Service, Endpoints),
    rivals=(
        "service-port-mismatch",
        "app-not-listening",
        "headless-port-targetport-mismatch",
        "service-selector-matches-no-pods",
    ),
    check=check,
)
