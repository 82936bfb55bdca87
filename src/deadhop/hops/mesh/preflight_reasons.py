"""Why a call breaks when the mesh changes, and what to do: one row per reason, the first that holds.

Each fix that is an object is proved by walking the changed world with it.
"""

# ruff: noqa: ARG001 - the tests of one table have one signature

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from deadhop.hops.mesh.clusters import rule_for
from deadhop.hops.mesh.decode import meta_of, rows, table
from deadhop.hops.mesh.mesh import Mesh, target_port
from deadhop.hops.mesh.preflight import Call, Verdict, works
from deadhop.hops.mesh.walk import walk
from deadhop.hops.mesh.workload import TLS_MODE_LABEL, Workload, captures_outbound
from deadhop.model.mesh import MeshOutcome


class Reason(NamedTuple):
    """``key`` is stable; ``fix`` a sentence; ``objects`` are what would be applied (empty where it is no object)."""

    key: str
    text: str
    fix: str
    objects: tuple[dict[str, Any], ...] = ()


def reason(after: Mesh, verdict: Verdict) -> Reason:
    """The reason of a call that breaks, in the changed world."""
    call, then = verdict.call, verdict.then
    pod = after.pods.get(call.request.client)
    for test in _TESTS:
        found = test(after, call, pod, then)
        if found is not None:
            return found
    decided = next((s for s in reversed(then.steps) if s.ok is False), None)
    return Reason(
        "other", decided.text if decided else then.reason, "deadhop path shows the walk step by step"
    )


def exception(after: Mesh, call: Call) -> dict[str, Any] | None:
    """A PeerAuthentication that admits plain text to the called port until the caller is mended; None where it does
    not help, or the call's target is not known."""
    if call.service is None or not call.service.selector:
        return None
    number = int(call.target.rpartition(":")[2])
    port = call.service.port(number)
    members = [after.pods[e.pod] for e in call.service.endpoints if e.pod in after.pods]
    target = target_port(port, members[0]) if port and members else None
    if target is None:
        return None
    name = f"{call.service.meta.name}-{target}-permissive"
    made: dict[str, Any] = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": call.service.namespace},
        "spec": {
            "selector": {"matchLabels": dict(call.service.selector)},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {target: {"mode": "PERMISSIVE"}},
        },
    }
    return made if works(walk(_near(after, call).changed(put=[made]), call.request)) else None


def proved(after: Mesh, call: Call, objects: tuple[dict[str, Any], ...]) -> MeshOutcome | None:
    """The call in the changed world with the fix; None where it still fails."""
    outcome = walk(_near(after, call).changed(put=objects), call.request)
    return outcome if works(outcome) else None


def _document(mesh: Mesh, kind: str, key: str) -> Any:
    """An object as it was read."""
    if "documents" not in mesh.cache:
        mesh.cache["documents"] = {(m.kind, m.key): d for d in mesh.documents for m in (meta_of(d),)}
    return mesh.cache["documents"].get((kind, key), {})


def _near(mesh: Mesh, call: Call) -> Mesh:
    """The mesh as far as a call to a Service can see it: both namespaces, the root's, what has none. A proof compiles
    its objects anew, and in a large mesh there are many proofs."""
    if call.service is None:
        return mesh
    pod = mesh.pods.get(call.request.client)
    spaces = {call.service.namespace, mesh.config.root_namespace, "", *([pod.namespace] if pod else ())}
    key = ("near", frozenset(spaces))
    if key not in mesh.cache:
        mesh.cache[key] = Mesh([d for d in mesh.documents if meta_of(d).namespace in spaces or d.get("kind") == "Namespace"], mesh.cluster_domain)  # fmt: skip
    found: Mesh = mesh.cache[key]
    return found


def _outside(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if pod is not None or _registry(then):
        return None
    return Reason("not-a-pod", f"{call.request.client if call.seen else 'callers outside the cluster'} have no identity of the mesh: they send plain text", "lead them through an ingress gateway, which is in the mesh")  # fmt: skip


def _host_network(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if pod is None or not pod.host_network:
        return None
    return Reason("host-network", "the pod is in the host's network, where nothing is captured: it sends plain text", "take it off the host's network and inject it, or admit plain text to this one port")  # fmt: skip


def _no_sidecar(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if pod is None or pod.sidecar:
        return None
    document = _document(mesh, "Pod", pod.key)
    return Reason("no-sidecar", "the caller has no sidecar: it sends plain text", f"kubectl label namespace {pod.namespace} istio-injection=enabled; kubectl -n {pod.namespace} rollout restart WORKLOAD", (_injected(document),))  # fmt: skip


def _injected(document: Any) -> dict[str, Any]:
    """The pod as injection would make it."""
    meta, spec = table(document.get("metadata")), table(document.get("spec"))
    containers = [*rows(spec.get("containers")), {"name": "istio-proxy", "image": "istio/proxyv2"}]
    marks = {**table(meta.get("labels")), TLS_MODE_LABEL: "istio"}
    return {**document, "metadata": {**meta, "labels": marks}, "spec": {**spec, "containers": containers}}


def _not_captured(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if pod is None:
        return None
    captured, why = captures_outbound(pod, call.request.dst_ip, call.request.dst_port)
    if captured:
        return None
    return Reason("not-captured", f"the caller's connection does not pass its sidecar: {why}", "remove that exclusion from the pod's annotations (traffic.sidecar.istio.io/…), or its runAsUser 1337")  # fmt: skip


def _registry(then: MeshOutcome) -> bool:
    log = then.client_log
    return bool(log and (log.route == "block_all" or log.cluster == "BlackHoleCluster"))


def _blocked(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if not _registry(then) or pod is None:
        return None
    host = (call.request.host or "").rpartition(":")[0] or call.request.host or call.request.dst_ip
    known = mesh.by_host.get(host)
    scope = mesh.scope_of(pod)
    if known and scope.sidecar is not None and not scope.sees(known[0], call.request.dst_port):
        return Reason("not-imported", f"{scope.sidecar.meta} does not import {known[0].meta.key}", f'add "{known[0].namespace}/{host}" to its egress hosts')  # fmt: skip
    if call.service is not None:
        return Reason("name-not-known", f"the mesh knows {call.service.host}, not {host}, on port {call.request.dst_port}", f"call it by its name: Host {call.service.host}")  # fmt: skip
    literal = host.replace(".", "").isdigit() or ":" in host
    entry: dict[str, Any] = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {
            "name": host.replace(".", "-").replace(":", "-").replace("*", "any"),
            "namespace": pod.namespace,
        },
        "spec": {
            "hosts": [f"{host.replace('.', '-')}.external" if literal else host],
            "location": "MESH_EXTERNAL",
            "ports": [_port(call)],
            "resolution": "NONE" if literal else "DNS",
        },
    }
    if literal:
        entry["spec"]["addresses"] = [call.request.dst_ip]
    return Reason("not-in-registry", f"{host} is no Service and no ServiceEntry", "declare it with a ServiceEntry", (entry,))  # fmt: skip


def _port(call: Call) -> dict[str, Any]:
    number = call.request.dst_port
    name = "tls" if call.request.scheme == "https" else "http"
    return {"name": f"{name}-{number}", "number": number, "protocol": name.upper()}


def _passthrough(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    log = then.client_log
    if log is None or log.cluster != "PassthroughCluster":
        return None
    own = call.service.host if call.service else "the Service's own name"
    return Reason("passthrough", f"the caller's sidecar knows no Host {call.request.host} on port {call.request.dst_port}: PassthroughCluster sends plain text", f"call it by its name: Host {own}")  # fmt: skip


def _rule_disables(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if call.service is None or pod is None:
        return None
    rule = rule_for(mesh, pod, call.service)
    tls = rule.effective(call.request.dst_port, "").tls if rule else None
    if rule is None or tls is None or tls.mode == "ISTIO_MUTUAL":
        return None
    document = _document(mesh, "DestinationRule", rule.meta.key)
    mended = {**document, "spec": _mutual(document.get("spec"))}
    return Reason("destinationrule", f"{rule.meta} sets tls {tls.mode}: the caller's sidecar sends no mesh mutual TLS", f"{rule.meta}: tls mode ISTIO_MUTUAL, or no tls at all", (mended,))  # fmt: skip


def _mutual(value: Any) -> Any:
    """A DestinationRule's spec with every ``tls`` the mesh's own."""
    if isinstance(value, dict):
        return {k: {"mode": "ISTIO_MUTUAL"} if k == "tls" else _mutual(v) for k, v in value.items()}
    return [_mutual(v) for v in value] if isinstance(value, list) else value


def _plain_endpoint(mesh: Mesh, call: Call, pod: Workload | None, then: MeshOutcome) -> Reason | None:
    if call.service is None or pod is None or not call.how.startswith(("by name", "as seen")):
        return None
    bare = [e.pod for e in call.service.endpoints if e.pod in mesh.pods and not mesh.endpoint_tls(e)]
    if bare and call.service.headless:
        return Reason("headless-mixed", f"a headless Service's cluster uses one way for all, and {', '.join(bare[:3])} has no sidecar: plain text to every pod", "inject every pod of the Service")  # fmt: skip
    if bare:
        return Reason("endpoint-not-labelled", f"{', '.join(bare[:3])} has no label security.istio.io/tlsMode: clients send plain text there", "restart the pods, so that injection labels them")  # fmt: skip
    return None


_TESTS: tuple[Callable[[Mesh, Call, Workload | None, MeshOutcome], Reason | None], ...] = (
    _outside,
    _host_network,
    _no_sidecar,
    _not_captured,
    _blocked,
    _passthrough,
    _rule_disables,
    _plain_endpoint,
)
