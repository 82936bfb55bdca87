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

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.kube import Pod, ProbeFailure, Service

SLUG = "app-not-listening"


def check(view: View) -> Iterator[Hypothesis]:
    services = {s.cluster_ip for s in view.of(Service) if s.cluster_ip}
    pods = {p.ip: p for p in view.of(Pod) if p.ip}
    for probe in view.of(ProbeFailure):
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
    inputs=(ProbeFailure, DialFailure, Pod, Service, MartianSource),
    needs=(ProbeFailure, DialFailure),
    rivals=("service-targetport-mismatch", "kubelet-probe-blocked-by-strict-mtls"),
    check=check,
)
