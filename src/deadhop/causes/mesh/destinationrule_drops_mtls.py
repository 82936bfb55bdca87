"""A DestinationRule switches the client's mutual TLS off towards a server that requires it.

What happens
------------
A DestinationRule for the host names TLS mode DISABLE or SIMPLE, or (where auto-mTLS is off, as before Istio 1.5) names
no TLS at all and so hides the mesh-wide rule that did. The client's sidecar connects with plain text, the server's
has no filter chain for it and closes: 503 with UC on the Service's own cluster.

How to tell it from its neighbours
----------------------------------
The cluster in the client's log is the Service's (``outbound|…``), not the pass-through, so Host is right. The failure
starts with the rule, even if it only balances load. Other Services without a rule work.

Fix
---
Give the rule the mesh's mutual TLS mode.

References
----------
Istio, 503 errors after setting destination rule; pilot/pkg/networking/core/cluster_tls.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.hops.mesh_world import MeshWorld, least_mesh, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kube import DestinationRule, PeerAuthentication, mapping
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.names import service_name
from deadhop.snapshot.replies import replies, with_flag, without_flag
from deadhop.snapshot.said import said

SLUG = "destinationrule-drops-mtls-under-strict"
MESH_MODES = ("ISTIO_MUTUAL", "MUTUAL")


def tls_mode(rule: DestinationRule) -> str:
    """The TLS mode of a rule's own traffic policy, empty where it names none."""
    return str(mapping(rule.spec, "trafficPolicy", "tls").get("mode", "")).upper()


def check(view: View) -> Iterator[Hypothesis]:
    answers = replies(view.of(LocalReply), view.of(EnvoyAccess), view.of(HttpExchange))
    for rule in view.of(DestinationRule):
        mode = tls_mode(rule)
        if mode in MESH_MODES or not rule.spec.get("host"):
            continue
        yield _hypothesis(view, rule, mode, answers)


def _hypothesis(view: View, rule: DestinationRule, mode: str, answers: list[Any]) -> Hypothesis:
    host = str(rule.spec.get("host"))
    broken = list(with_flag(answers, "UC", "UF"))
    codes = [e for e in view.of(HttpExchange) if e.status == 503 and "envoy" in e.header("server").lower()]
    served = [e for e in view.of(HttpExchange) if e.status == 200 and "envoy" in e.header("server").lower()]
    passthrough = [a for a in view.of(EnvoyAccess) if a.cluster == "PassthroughCluster"]
    demands = [
        p
        for p in view.of(PeerAuthentication)
        if isinstance(p.spec.get("mtls"), dict) and p.spec["mtls"].get("mode") == "STRICT"
    ]
    installed = [
        c
        for c in view.of(CommandRun)
        if any("auth" in a and a.endswith((".yaml", ".yml")) for a in c.argv)
        or "global.mtls.enabled=true" in c.line
    ]
    refused = [a for a in view.of(EnvoyAccess) if "filter_chain_not_found" in a.details]
    named = [
        m
        for m in said(view.of(Message), "tls-check")
        if m.field("status").upper() == "CONFLICT"
        and "mtls" in m.field("server").lower()
        and "mtls" not in m.field("client").lower()
        and f"{rule.name}/{rule.namespace}".rstrip("/") in m.field("rules")
    ]
    other = without_flag(answers, "UC", "UF")
    says = f"names TLS mode {mode}" if mode else "names no TLS mode"
    return Hypothesis(
        subject=rule.ref,
        title=f"{rule.ref} for {host} {says}: the client's sidecar sends plain text to a server that demands mutual TLS.",
        checks=(
            Check(text=f"{rule.ref} {says}", holds=True, weight=1.2 if mode else 0.6, required=True, records=(rule,)),
            judged("a proxy answers 503 for a closed or failed connection", True if broken or codes else (False if other else None), broken or codes or other, weight=0.9, required=not (mode and demands) or bool(other and not (broken or codes)), decide="kubectl logs CALLER-POD -c istio-proxy --tail=50"),
            shown("the server demands mutual TLS", [*demands, *refused, *installed, *named], weight=1.0, decide="kubectl get peerauthentication -A -o yaml"),
            shown("istioctl finds this rule in conflict with what the server demands", named, weight=0.9, decide="istioctl x describe pod CALLER-POD"),
            shown("the same call was served before the rule", served, weight=0.9),
            judged("the request went to the Service's own cluster", False if passthrough else None, passthrough, weight=1.0, required=bool(passthrough), decide="kubectl logs CALLER-POD -c istio-proxy --tail=50   # the cluster: outbound|… or PassthroughCluster"),
            judged("automatic mutual TLS is off in this mesh", None if not mode else True, [rule] if mode else [], weight=0.1, inferred=True, decide="kubectl -n istio-system get configmap istio -o yaml   # enableAutoMtls"),
        ),
        explains=("it begins when the rule is applied and concerns all calls to that host",),
        world=_world(rule, host, mode),
        walk=walk,
        fixes=_fixes(rule, host),
        prior=-1.5,
    )  # fmt: skip


def _mesh_config() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "enableAutoMtls: false\n"},
    }


def _world(rule: DestinationRule, host: str, mode: str) -> MeshWorld:
    name = service_name(host)
    service, namespace = (
        (name.service, name.namespace or rule.namespace or "default") if name else ("server", "default")
    )
    extra = [
        {
            **rule.raw,
            "metadata": {**(mapping(rule.raw, "metadata")), "namespace": rule.namespace or namespace},
        }
    ]
    if not mode:
        extra.append(_mesh_config())
    mesh, request = least_mesh(service, namespace, 80, extra=extra)
    return MeshWorld(mesh=mesh, request=request)


def _fixes(rule: DestinationRule, host: str) -> tuple[Fix, ...]:
    spec = {
        **rule.spec,
        "trafficPolicy": {**mapping(rule.spec, "trafficPolicy"), "tls": {"mode": "ISTIO_MUTUAL"}},
    }
    meta = mapping(rule.raw, "metadata")

    def mend(world: MeshWorld) -> MeshWorld:
        namespace = rule.namespace or (service_name(host) or ("", "default"))[1] or "default"
        return world.with_objects(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {**meta, "namespace": namespace},
                "spec": spec,
            }
        )

    namespace = f" -n {rule.namespace}" if rule.namespace else ""
    patch = '{"spec":{"trafficPolicy":{"tls":{"mode":"ISTIO_MUTUAL"}}}}'
    return (
        Fix(
            title="Give the rule the mesh's mutual TLS mode",
            artifact=f"kubectl{namespace} patch destinationrule {rule.name} --type merge -p '{patch}'\n",
            apply=mend,
            changed=(f"every caller of {host} that the rule applies to uses mutual TLS",),
            assumes=("the server demands mutual TLS",),
        ),
    )


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A destination rule overrides the mesh's mutual TLS towards a strict server.",
    inputs=(DestinationRule, PeerAuthentication, EnvoyAccess, HttpExchange, LocalReply, CommandRun, Message),
    needs=(DestinationRule,),
    rivals=(
        "plaintext-to-strict-mtls",
        "host-header-forwarded-breaks-mesh-routing",
        "route-names-undefined-subset",
    ),
    check=check,
)
