"""What a change of the mesh breaks: every caller's call walked in today's world and in the changed one.

``STRICT`` on a namespace or on the mesh, or ``REGISTRY_ONLY``. Callers that the walk cannot tell apart are walked once.
Without traffic every workload is a possible caller of every Service, by its name (of a headless one also by pod
address); with traffic the calls are those that were seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from deadhop.hops.mesh.decode import address, dig, meta_of, rows, table, text
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.probes import ProbeFate, probe_fate
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.walk import walk
from deadhop.hops.mesh.workload import Workload
from deadhop.hops.service.registry import MeshService, ServicePort
from deadhop.model.mesh import MeshOutcome, MeshRequest
from deadhop.snapshot.calls import SeenCall

Mode = Literal["STRICT", "REGISTRY_ONLY"]
#: Labels that differ between the pods of one workload.
_VOLATILE = ("pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "pod-template-generation", "controller-uid", "batch.kubernetes.io/", "job-name")  # fmt: skip
#: Stands for callers that are no pods (RFC 5737).
OUTSIDE = "198.51.100.77"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which one kind of caller calls. ``how``: ``by name``, ``by pod address``, ``from outside``, ``as seen``;
    ``callers`` are the pods that are alike; ``target`` says what is called."""

    callers: tuple[str, ...]
    target: str
    how: str
    request: MeshRequest
    service: MeshService | None = None
    seen: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A call in both worlds. ``fate``: ``keeps``, ``breaks``, ``broken`` already, ``unknown``."""

    call: Call
    fate: str
    today: MeshOutcome
    then: MeshOutcome


def changed(mesh: Mesh, mode: Mode, namespace: str | None) -> tuple[Mesh, list[dict[str, Any]]]:
    """The changed mesh, and the objects that a person would apply to get there."""
    if mode == "STRICT":
        scope = namespace or mesh.config.root_namespace
        policy = _object("PeerAuthentication", "security.istio.io/v1", scope)
        policy["spec"] = {"mtls": {"mode": "STRICT"}}
        # Of several policies of one scope the oldest counts: the others go, or the new one might not.
        gone = [p.meta.key for p in (mesh.peer.wide.get(scope),) if p is not None]
        return mesh.changed(put=[policy], remove=[("PeerAuthentication", key) for key in gone]), [policy]
    if namespace is None:
        found = next((d for d in mesh.of_kind("ConfigMap") if meta_of(d).name == "istio"), None)
        config = _object("ConfigMap", "v1", mesh.config.root_namespace, "istio")
        own = text(dig(found, "data", "mesh")) if found else ""
        config["data"] = {"mesh": _with_mode(own)}
        return mesh.changed(put=[config]), [config]
    sidecars = [d for d in mesh.of_kind("Sidecar") if meta_of(d).namespace == namespace]
    if not any(not dig(d, "spec", "workloadSelector") for d in sidecars):
        made = _object("Sidecar", "networking.istio.io/v1", namespace)
        sidecars = [*sidecars, made | {"spec": {"egress": [{"hosts": ["*/*"]}]}}]
    put = [
        {**d, "spec": {**table(d.get("spec")), "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}}
        for d in sidecars
    ]
    return mesh.changed(put=put), put


def _object(kind: str, version: str, namespace: str, name: str = "default") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _with_mode(mesh: str) -> str:
    import yaml

    try:
        value = yaml.safe_load(mesh)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    whole = {**(value if isinstance(value, dict) else {}), "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    return str(yaml.safe_dump(whole, sort_keys=False))


def works(outcome: MeshOutcome) -> bool | None:
    """Does the call get what it came for? None where the objects do not say."""
    if outcome.ending == "unknown":
        return None
    return outcome.ending == "response" and (outcome.status is None or outcome.status < 400)


def compare(mesh: Mesh, after: Mesh, calls: Iterable[Call]) -> Iterator[Verdict]:
    """Each call in both worlds."""
    for call in calls:
        today, then = walk(mesh, call.request), walk(after, call.request)
        before, behind = works(today), works(then)
        fate = "unknown"
        if before and behind:
            fate = "keeps"
        elif before and behind is False:
            fate = "breaks"
        elif before is False:
            fate = "broken"
        yield Verdict(call=call, fate=fate, today=today, then=then)


def possible_calls(mesh: Mesh, mode: Mode, namespace: str | None) -> Iterator[Call]:
    """Every workload's call of every Service that the change could touch."""
    groups = alike(mesh)
    for service in mesh.services:
        members = {e.pod for e in service.endpoints if e.pod}
        if not service.kubernetes and mode == "STRICT":
            continue
        if mode == "STRICT" and (not members or (namespace and service.namespace != namespace)):
            continue
        for port in service.ports:
            if port.protocol.family is Family.UDP:
                continue
            for callers in groups:
                # A Service's own pods call it like their neighbours do, but for the connection to themselves.
                others = tuple(c for c in callers if c not in members)
                others = others or (callers if len(members) > 1 else ())
                caller = mesh.pods[others[0]] if others else None
                if caller is None or (mode == "REGISTRY_ONLY" and namespace not in (None, caller.namespace)):
                    continue
                yield from _calls(mesh, service, port, others)
            if mode == "STRICT" and service.kind in ("NodePort", "LoadBalancer") and service.vips:
                request = _request(OUTSIDE, service.vips[0], port, service.host)
                yield Call(callers=("outside the cluster",), target=_target(service, port), how=f"from outside ({service.kind})", request=request, service=service)  # fmt: skip


def _calls(mesh: Mesh, service: MeshService, port: ServicePort, callers: tuple[str, ...]) -> Iterator[Call]:
    target = _target(service, port)
    if service.vips:
        request = _request(callers[0], service.vips[0], port, service.host)
        yield Call(callers=callers, target=target, how="by name", request=request, service=service)
        return
    # Of a headless Service a client dials a pod: one of each kind that sidecars treat differently.
    kinds: dict[Any, str] = {}
    for endpoint, _ in service.ready_endpoints(port):
        pod = mesh.pods.get(endpoint.pod)
        if endpoint.pod != callers[0]:
            key = (pod.namespace, pod.meshed, pod.capture, workload_labels(pod)) if pod else None
            kinds.setdefault(key, endpoint.address)
    for dialled in kinds.values():
        ways = [("by name", service.host)]
        if port.protocol.family is Family.HTTP:
            ways.append(("by pod address", dialled))
        for how, host in ways:
            request = _request(callers[0], dialled, port, host)
            yield Call(callers=callers, target=target, how=how, request=request, service=service)


def _target(service: MeshService, port: ServicePort) -> str:
    name = service.meta.key if service.kubernetes else service.host
    return f"{name}:{port.number}"


def _request(client: str, ip: str, port: ServicePort, host: str) -> MeshRequest:
    secure = port.protocol.name in ("https", "tls") or port.number in (443, 8443)
    number = port.number
    shown = host if number == 80 else f"{host}:{number}"
    return MeshRequest(client=client, dst_ip=ip, dst_port=number, host=shown, scheme="https" if secure else "http", sni=host if secure else "", http_version="2" if port.protocol.http2 else "1.1")  # fmt: skip


def seen_in(mesh: Mesh, seen: Iterable[SeenCall], mode: Mode, namespace: str | None) -> Iterator[Call]:
    """The calls of traffic that the change could touch."""
    for call in seen:
        pod = mesh.pods.get(call.client) or mesh.pod_by_ip.get(address(call.client))
        service, port = _called(mesh, call)
        target_pod = mesh.pod_by_ip.get(address(call.ip))
        where = service.namespace if service else target_pod.namespace if target_pod else ""
        touched = where if mode == "STRICT" else pod.namespace if pod else ""
        if (namespace and touched != namespace) or (mode == "STRICT" and not where):
            continue
        client = pod.key if pod else call.client
        host, ip, number = call.host, call.ip, call.port
        how = "as seen"
        if host is None and service is not None and port is not None:
            # hubble shows the pod behind the translation; that the caller used the Service's name is taken for granted.
            host, how = service.host, "as seen, taken to be by name"
            if service.vips:
                ip, number = service.vips[0], port.number
        if host is None:
            host = f"{ip}:{number}" if number != 80 else ip
        target = _target(service, port) if service and port else f"{call.host or ip}:{number}"
        secure = call.tls or (port is not None and port.protocol.name in ("https", "tls"))
        request = MeshRequest(client=client, dst_ip=ip, dst_port=number, host=host, scheme="https" if secure else "http", sni=host.rpartition(":")[0] or host if secure else "")  # fmt: skip
        yield Call(callers=(client,), target=target, how=how, request=request, service=service, seen=str(call.source))  # fmt: skip


def _called(mesh: Mesh, call: SeenCall) -> tuple[MeshService | None, ServicePort | None]:
    """The Service behind an address and port: its own, or the one whose endpoint it is."""
    by_vip = mesh.by_vip.get(address(call.ip))
    if by_vip is not None:
        return by_vip, by_vip.port(call.port)
    pod = mesh.pod_by_ip.get(address(call.ip))
    for service in mesh.by_pod.get(pod.key, ()) if pod else ():
        for port in service.ports:
            if any(e.pod == pod.key and n == call.port for e, n in service.ready_endpoints(port) if pod):
                return service, port
    return None, None


def alike(mesh: Mesh) -> list[tuple[str, ...]]:
    """The running pods, those together whose calls cannot differ: the namespace, what is captured, and, where objects
    select by them, labels and service account."""
    selective = any(
        word in str(d.get("spec"))
        for kind in ("VirtualService", "DestinationRule", "Sidecar")
        for d in mesh.of_kind(kind)
        for word in ("sourceLabels", "workloadSelector")
    )
    named = bool(mesh.of_kind("AuthorizationPolicy"))
    groups: dict[Any, list[str]] = {}
    for pod in mesh.pods.values():
        if pod.phase in ("Succeeded", "Failed") or not pod.ips:
            continue
        key: tuple[Any, ...] = (
            pod.namespace, pod.meshed, pod.host_network, pod.sidecar, pod.capture, pod.uids, pod.http10, pod.proxy_version,
            pod.service_account if named else "", workload_labels(pod) if selective else (),
        )  # fmt: skip
        groups.setdefault(key, []).append(pod.key)
    return [tuple(g) for g in groups.values()]


def workload_labels(pod: Workload) -> tuple[tuple[str, str], ...]:
    """A pod's labels without those of the single pod."""
    return tuple(sorted((k, v) for k, v in pod.labels.items() if not k.startswith(_VOLATILE)))


class ProbeBreak(msgspec.Struct, frozen=True, kw_only=True):
    """A kubelet probe that the change resets."""

    pod: str
    probe: str
    port: int
    fate: ProbeFate


def probes(mesh: Mesh, after: Mesh) -> Iterator[ProbeBreak]:
    """Probes that arrive today and would be reset."""
    for doc in mesh.of_kind("Pod"):
        pod = mesh.pods.get(meta_of(doc).key)
        if pod is None or not pod.meshed:
            continue
        for container in rows(dig(doc, "spec", "containers")):
            for kind in _PROBES:
                port = _probe_port(table(container.get(kind)), pod)
                if port is None or not probe_fate(mesh, pod, port).arrives:
                    continue
                fate = probe_fate(after, pod, port)
                if not fate.arrives:
                    yield ProbeBreak(pod=pod.key, probe=kind, port=port, fate=fate)


def _probe_port(probe: Mapping[str, Any], pod: Workload) -> int | None:
    for how in ("httpGet", "tcpSocket", "grpc"):
        told = dig(probe, how, "port")
        if isinstance(told, int):
            return told
        if isinstance(told, str):
            return int(told) if told.isdigit() else pod.port_named(told)
    return None
