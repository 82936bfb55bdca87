"""The pod is reached, but nothing in it listens on the port that the connection or the probe uses.

What happens
------------
The packet arrives in the pod's namespace, no socket is bound to that address and port, and the pod's own kernel answers
with a reset (TCP) or ICMP port unreachable (UDP).

How to tell it from its neighbours
----------------------------------
The refusal comes at once and from the pod's own address. A lost answer or a policy drop is a timeout; strict mutual TLS
is a reset after the connection was established; a wrong targetPort leaves the probe's own port alone.

Fix
---
Start the process, or let it listen on the pod's address and the declared port (a process bound to 127.0.0.1 is not
reachable from outside its pod).

References
----------
net/ipv4/tcp_ipv4.c tcp_v4_send_reset; skb_drop_reason NO_SOCKET.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.kube import Pod, ProbeFailure, Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.record import Record
from deadhop.snapshot.captures import refusals

SLUG = "app-not-listening"
#: Probe ports of mesh proxies: a refusal there is about the proxy.
SIDECAR_PORTS = (15020, 15021, 4191)
REFUSED = re.compile(r"_111|: 111|[Cc]onnection[_ ]refused")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def check(view: View) -> Iterator[Hypothesis]:
    services = {s.cluster_ip for s in view.of(Service) if s.cluster_ip}
    pods = {p.ip: p for p in view.of(Pod) if p.ip}
    yield from _loopback(view)
    inner = [
        a
        for a in view.of(EnvoyAccess)
        if a.inbound and "UF" in a.flags and REFUSED.search(a.details + a.transport_failure)
    ]
    if inner:
        yield Hypothesis(
            subject=inner[0].upstream_host or inner[0].cluster,
            title=f"The pod's own sidecar is refused by the application at {inner[0].upstream_host or 'its port'}: nothing listens there.",
            checks=(
                shown("the server's sidecar is refused by the application's port", inner, weight=2.0, required=True, decide="kubectl exec POD -- ss -ltn"),
            ),
            fixes=_fixes(host_port(inner[0].upstream_host)[1]),
            prior=-1.2,
        )  # fmt: skip
    for probe in view.of(ProbeFailure):
        if probe.port in SIDECAR_PORTS:
            continue
        refused = probe.error == "refused"
        answered = [m for m in view.of(MartianSource) if m.src == probe.ip]
        others = [p for p in view.of(ProbeFailure) if p.ip == probe.ip and p.error != "refused"]
        yield Hypothesis(
            subject=f"{probe.pod or probe.ip}:{probe.port}",
            title=f"Nothing in the pod listens on port {probe.port}: its own address refuses the probe.",
            checks=(
                judged("the pod's own address refuses the connection at once", refused, [probe], weight=2.2, required=True),
                judged("the pod sends no other answer", False if answered else None, answered, weight=1.0, required=bool(answered)),
                judged("every probe of the pod is refused", not others if len(view.of(ProbeFailure)) > 1 else None, others, weight=0.3),
                judged("no process holds the port", None, weight=1.0, decide=f"kubectl exec {probe.pod or 'POD'} -- ss -ltn"),
            ),
            explains=("the packet reaches the pod, so routing and policy are well",),
            fixes=_fixes(probe.port),
            prior=-1.0,
        )  # fmt: skip
        return
    for dial in view.of(DialFailure):
        if dial.error == "refused" and dial.ip in pods and dial.ip not in services:
            yield Hypothesis(
                subject=f"{pods[dial.ip].name}:{dial.port}",
                title=f"Nothing in {pods[dial.ip].name} listens on port {dial.port}.",
                checks=(
                    shown("the pod's own address refuses the connection", [dial], weight=2.0, required=True),
                    shown("the address is the pod's", [pods[dial.ip]], weight=0.4, required=True),
                ),
                fixes=_fixes(dial.port),
                prior=-1.2,
            )


def _loopback(view: View) -> Iterator[Hypothesis]:
    bound = [m for m in view.of(Message) if m.kind == "listening" and m.field("address") in LOOPBACK]
    wide = [
        m for m in view.of(Message) if m.kind == "listening" and m.field("address") in ("0.0.0.0", "::", "*")
    ]
    refused: list[Record] = [d for d in view.of(DialFailure) if d.error == "refused"]
    refused += [p for p in view.of(ProbeFailure) if p.error == "refused"]
    refused += [e for e in view.of(HttpExchange) if e.error == "refused"]
    refused += [r for r in view.of(LocalReply) if "refused" in r.transport_failure.lower()]
    resets = refusals(view.of(CapturedPacket))
    refused += resets
    dialled = {str(p.sport) for p in resets} | {str(p) for r in refused if (p := getattr(r, "port", None))}
    bound = [m for m in bound if not dialled or m.field("port") in dialled]
    if bound and refused:
        port = int(bound[0].field("port")) if bound[0].field("port").isdigit() else None
        yield Hypothesis(
            subject=f"the process on {bound[0].field('address')}:{port}",
            title=f"The process listens on {bound[0].field('address')} only, so the pod's own address refuses connections.",
            checks=(
                shown("the process is bound to the loopback address", bound, weight=1.7, required=True),
                shown("connections from outside the pod are refused", refused, weight=0.8, required=True),
                judged("it does not listen on every address as well", False if wide else None, wide, weight=1.5, required=bool(wide)),
            ),
            explains=("inside the pod the call to localhost works",),
            fixes=_fixes(port),
            prior=-1.2,
        )  # fmt: skip


def _fixes(port: int | None) -> tuple[Fix, ...]:
    return (
        Fix(
            title="Let the process listen on the pod's address and that port",
            artifact=f"kubectl exec POD -- ss -ltnp     # what listens, and on which address\n# bind to 0.0.0.0:{port or 'PORT'} or [::]:{port or 'PORT'}, not to 127.0.0.1\n",
        ),
    )


CAUSE = Cause(
    slug=SLUG,
    family="service",
    title="No process in the pod listens on the port and address that the connection or the probe uses.",
    inputs=(
        ProbeFailure,
        DialFailure,
        Pod,
        Service,
        MartianSource,
        Message,
        LocalReply,
        EnvoyAccess,
        HttpExchange,
        CapturedPacket,
    ),
    needs=(ProbeFailure, DialFailure, Message, EnvoyAccess),
    rivals=("service-targetport-mismatch", "kubelet-probe-blocked-by-strict-mtls"),
    check=check,
)
