"""The kubelet's plain-text probe reaches a strict inbound listener and is reset.

What happens
------------
The sidecar injector rewrites HTTP probes so that the agent makes them. A container that was added after the injection,
or a pod whose annotation switches the rewrite off, keeps its probe on the application port. There the inbound
listener takes only mutual TLS, and closes the kubelet's plain connection.

How to tell it from its neighbours
----------------------------------
The probe's connection is established and then reset, from a node address. A refused connection means that nobody
listens, a timeout that packets are lost. Containers whose probes were rewritten pass.

Fix
---
Enable the rewrite for that container, or exclude the port from interception.

References
----------
Istio, Health Checking of Istio Services; sidecar.istio.io/rewriteAppHTTPProbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import PeerAuthentication, Pod, ProbeFailure
from deadhop.model.observed.mesh import EnvoyAccess

SLUG = "kubelet-probe-blocked-by-strict-mtls"


def check(view: View) -> Iterator[Hypothesis]:
    probes = view.of(ProbeFailure)
    if not probes:
        return
    reset = [p for p in probes if p.error == "reset"]
    other = [p for p in probes if p.error != "reset"]
    first = (reset or other)[0]
    strict = [
        p
        for p in view.of(PeerAuthentication)
        if isinstance(p.spec.get("mtls"), dict) and p.spec["mtls"].get("mode") == "STRICT"
    ]
    refused = [a for a in view.of(EnvoyAccess) if "filter_chain_not_found" in a.details]
    off = [
        p
        for p in view.of(Pod)
        if str(p.annotations.get("sidecar.istio.io/rewriteAppHTTPProbers")).lower() == "false"
    ]
    from_node = [p for p in reset if p.local]
    yield Hypothesis(
        subject=f"{first.pod or first.ip}:{first.port}{first.path}",
        title=f"The kubelet's plain probe of port {first.port} is reset by an inbound listener that takes only mutual TLS.",
        checks=(
            judged("the probe's connection is established and then reset", bool(reset), reset or other, weight=1.9, required=True),
            shown("it comes from a node address", from_node, weight=0.5),
            shown("a policy demands mutual TLS", strict, weight=1.2, decide="kubectl get peerauthentication -A -o yaml"),
            shown("the sidecar found no filter chain for plain text", refused, weight=1.4, decide="kubectl logs POD -c istio-proxy --tail=50"),
            shown("the probe is not rewritten", off, weight=0.8, decide="kubectl get pod POD -o yaml   # probes on port 15020, annotation rewriteAppHTTPProbers"),
        ),
        explains=("the application is well and answers from inside the pod",),
        fixes=(
            Fix(title="Rewrite the probe", artifact="metadata:\n  annotations:\n    sidecar.istio.io/rewriteAppHTTPProbers: \"true\"\n"),
            Fix(title="Exclude the probe's port from interception", artifact=f"metadata:\n  annotations:\n    traffic.sidecar.istio.io/excludeInboundPorts: \"{first.port or 'PORT'}\"\n"),
        ),
        prior=-1.4,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The kubelet's plain-text probe is reset by a listener that takes only mutual TLS.",
    inputs=(ProbeFailure, PeerAuthentication, EnvoyAccess, Pod),
    needs=(ProbeFailure,),
    rivals=("app-not-listening", "rp-filter-overwritten-by-systemd-sysctl", "plaintext-to-strict-mtls"),
    check=check,
)
