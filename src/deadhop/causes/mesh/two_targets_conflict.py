"""Two Services over the same pods use the same port with different target ports.

What happens
------------
The inbound configuration of a sidecar is built by Service port and pod in several releases: of two Services on one
port with two target ports only one survives.

How to tell it from its neighbours
----------------------------------
Both Services show endpoints of the same pod with different ports; one works always and the other never, only through
the proxy. Without the sidecar both work.

Fix
---
Use different service ports, or a mesh release that separates them.

References
----------
istioctl analyze IST0137, IST0116; Istio inbound cluster naming inbound|PORT.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import Endpoints, Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.names import service_name
from deadhop.snapshot.said import said

SLUG = "same-service-port-two-targets-conflict"


def check(view: View) -> Iterator[Hypothesis]:
    services = [s for s in view.of(Service) if s.ports]
    pairs: list[tuple[Service, Service, int]] = []
    for k, one in enumerate(services):
        for two in services[k + 1 :]:
            if (
                one.name == two.name
                or one.namespace != two.namespace
                or (one.selector or ()) != (two.selector or ())
            ):
                continue
            targets = {p.port: p.target or p.port for p in one.ports}
            pairs += [
                (one, two, p.port)
                for p in two.ports
                if p.port in targets and targets[p.port] != (p.target or p.port)
            ]
    ends = view.of(Endpoints)
    shared = [
        (a, b)
        for k, a in enumerate(ends)
        for b in ends[k + 1 :]
        if a.service != b.service
        and {e.rpartition(":")[0] for e in a.ready} & {e.rpartition(":")[0] for e in b.ready}
        and a.ports
        and set(a.ports).isdisjoint(b.ports)
    ]
    by_name = {s.name: s for s in services}
    for a, b in shared:
        if (left := by_name.get(a.service)) and (right := by_name.get(b.service)) and not pairs:
            common = {p.port for p in left.ports} & {p.port for p in right.ports}
            pairs += [(left, right, port) for port in sorted(common)]
    analyzed = said(view.of(Message), "IST0137")
    if not pairs and not analyzed:
        return
    foreign = _foreign(view, pairs)
    chosen = [p for p in pairs if p[0].selector] or pairs
    records: list[Record] = [*chosen[0][:2]] if chosen else [*analyzed]
    sure = bool(chosen and chosen[0][0].selector) or bool(shared) or bool(analyzed)
    subject = f"port {chosen[0][2]} of {chosen[0][0].name} and {chosen[0][1].name}" if chosen else "the port"
    yield Hypothesis(
        subject=subject,
        title=f"Two Services over the same pods lead {subject} to different targets: the proxy keeps only one.",
        checks=(
            shown("two Services use one port with different target ports", records, weight=1.2, required=True, decide="kubectl get svc -n NAMESPACE -o yaml"),
            judged("they select the same pods", True if sure else None, [*(records if not shared and not analyzed else []), *(e for pair in shared for e in pair), *analyzed], weight=0.9, required=True, decide="kubectl get endpointslices -n NAMESPACE -o wide"),
            shown("the proxy of the pod answers one Service from the other's cluster", foreign, weight=1.2, decide="kubectl logs SERVER-POD -c istio-proxy | tail   # host asked for, and the inbound cluster"),
        ),
        explains=("one works always and the other never, only through the proxy",),
        fixes=(Fix(title="Use different service ports", artifact="# give each Service a port of its own\nports:\n- {name: http-admin, port: 8081, targetPort: 9090}\n"),),
        prior=-1.2,
    )  # fmt: skip


def _foreign(view: View, pairs: list[tuple[Service, Service, int]]) -> list[EnvoyAccess]:
    """Requests for one of two Services that the server's proxy led into the inbound cluster of the other."""
    named = {frozenset((one.name, two.name)) for one, two, _port in pairs}
    found = []
    for line in view.of(EnvoyAccess):
        asked, led = (
            service_name(line.authority.partition(":")[0]),
            service_name(line.cluster.rpartition("|")[2]),
        )
        if line.inbound and asked and led and frozenset((asked.service, led.service)) in named:
            found.append(line)
    return found


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="Two Services over the same pods use one port with different target ports, and the proxy keeps only one.",
    inputs=(
        Service,
        Endpoints,
        Message,
        EnvoyAccess,
    ),
    needs=(
        Service,
        Message,
    ),
    rivals=(
        "service-targetport-mismatch",
        "wildcard-listener-captures-traffic",
        "port-name-protocol-misdeclared",
    ),
    check=check,
)
