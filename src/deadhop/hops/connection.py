"""A connection from an application to an answer: name to Service, policy at both ends, both sidecars.

The order of the hops stands here and nowhere else: resolver, service, policy, mesh.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from deadhop.hops.mesh.api import Mesh, Proxies, walk
from deadhop.hops.policy.decide import decide
from deadhop.hops.policy.peers import Peer
from deadhop.hops.service.kubeproxy import translate
from deadhop.hops.service.registry import MeshService
from deadhop.model.connection import ConnectionFlow
from deadhop.model.mesh import AppFact, MeshRequest
from deadhop.model.observed.kube import KubeObject
from deadhop.model.trace import Disposition, Step

ORDER = ("resolver", "service", "policy", "mesh")
#: Stands for the address of an outside name that the evidence does not give (RFC 5737).
NO_ADDRESS = "192.0.2.255"
_DEFAULT_PORT = {"http": 80, "https": 443, "grpc": 80, "ws": 80, "wss": 443, "dns": 53}


class Cluster:
    """The objects of a cluster, compiled once. ``facts`` is what is known of applications beyond the objects,
    ``proxies`` what proxies really run, which decides before what the objects imply."""

    def __init__(
        self,
        documents: Iterable[Mapping[str, Any]],
        policies: Iterable[KubeObject] = (),
        facts: Iterable[AppFact] = (),
        envoy: str | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        every = list(documents)
        self.proxies = proxies or {}
        self.mesh = Mesh.from_objects(every)
        self.policies = tuple(policies)
        self.facts = tuple(facts)
        self.envoy = envoy
        self._namespaces = {
            str(meta.get("name")): {str(k): str(v) for k, v in (meta.get("labels") or {}).items()}
            for d in every
            if d.get("kind") == "Namespace" and isinstance(meta := d.get("metadata"), dict)
        }
        self._by_ip = {ip: pod for pod in self.mesh.pods.values() for ip in pod.ips}

    def peer(self, who: str) -> Peer:
        """The end named ``namespace/pod`` or an address, as policy sees it."""
        pod = self.mesh.pods.get(who) or self._by_ip.get(who)
        if pod is None or pod.host_network:
            return Peer(
                name=who, ip=pod.ips[0] if pod and pod.ips else who, entity="host" if pod else "world"
            )
        return Peer(
            name=pod.key, namespace=pod.namespace, labels=dict(pod.labels), namespace_labels=self._namespaces.get(pod.namespace),
            ip=pod.ips[0] if pod.ips else "", ports=dict(pod.ports),
        )  # fmt: skip

    def service(self, name: str, namespace: str) -> MeshService | None:
        """The Service or entry that a name means for a client in ``namespace`` (the search list of cluster DNS)."""
        name = name.rstrip(".").lower()
        domain = "cluster.local"
        for candidate in (
            name,
            f"{name}.{namespace}.svc.{domain}",
            f"{name}.svc.{domain}",
            f"{name}.{domain}",
        ):
            found = self.mesh.by_host.get(candidate)
            if found:
                return found[0]
        for services in self.mesh.by_host.values():
            if name in services[0].aliases:
                return services[0]
        return None


def walk_connection(cluster: Cluster, flow: ConnectionFlow) -> dict[str, Any]:
    """The answer line for a connection flow. Never raises on a flow of the declared type."""
    target = _target(flow)
    if target is None:
        return _line(flow, Disposition.UNKNOWN, "resolver", f"{flow.to!r} is no URL, name or address", [])
    scheme, host, port, path = target
    steps: list[Step] = []
    namespace = flow.from_.partition("/")[0] if "/" in flow.from_ else "default"
    ip, known = _resolve(cluster, host, port, namespace, steps)
    blocked = _policy(cluster, flow, ip, port, scheme, steps) if known else None
    if blocked is False:
        return _line(flow, Disposition.DROPPED, "policy", "POLICY_DENIED", steps)
    authority = flow.host if flow.host is not None else _authority(host, port, scheme)
    request = MeshRequest(
        client=flow.from_, dst_ip=ip, dst_port=port, host=authority, scheme="https" if scheme in ("https", "wss", "tls") else "http",
        http_version=flow.http_version, method=flow.method, path=flow.path or path or "/", headers=tuple(flow.headers.items()), sni=host if scheme == "https" else "",
    )  # fmt: skip
    outcome = walk(cluster.mesh, request, cluster.facts, envoy=cluster.envoy, proxies=cluster.proxies)
    steps += outcome.steps
    disposition = outcome.disposition
    reason = outcome.reason
    if not known and disposition.arrives:
        disposition, reason = Disposition.UNKNOWN, f"the evidence gives no address for {host}"
    elif blocked is None and known and disposition.arrives and cluster.policies:
        disposition, reason = (
            Disposition.UNKNOWN,
            "a policy's verdict depends on labels or names that the evidence does not give",
        )
    log = outcome.client_log
    answer = {
        "status": outcome.status,
        "body": outcome.body,
        "flags": sorted(log.flags) if log else None,
        "rcode": None,
        "cluster": log.cluster if log else None,
        "route": log.route if log else None,
        "details": log.details if log else None,
        "mtls": outcome.mtls,
        "outcome": outcome.ending,
        "server_log": {"flags": sorted(outcome.server_log.flags), "details": outcome.server_log.details}
        if outcome.server_log
        else None,
    }
    return _line(flow, disposition, "mesh", reason, steps, answer, outcome.unknown)


def _target(flow: ConnectionFlow) -> tuple[str, str, int, str] | None:
    """``(scheme, host, port, path)`` of what the flow dials."""
    text = flow.to.strip()
    scheme = (flow.protocol or "http").lower()
    try:
        if "://" in text:
            parts = urlsplit(text)
            scheme = parts.scheme.lower()
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            host, port = parts.hostname or "", parts.port
        else:
            parts = urlsplit(
                "//" + (f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
            )
            host, port, path = parts.hostname or "", parts.port, "/"
    except ValueError:
        return None
    if not host:
        return None
    return scheme, host, flow.port or port or _DEFAULT_PORT.get(scheme, 80), path


def _authority(host: str, port: int, scheme: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == _DEFAULT_PORT.get(scheme, 80) else f"{shown}:{port}"


def _resolve(cluster: Cluster, host: str, port: int, namespace: str, steps: list[Step]) -> tuple[str, bool]:
    """The address that the client dials, and whether the evidence gives it."""
    try:
        return str(ipaddress.ip_address(host)), True
    except ValueError:
        pass
    service = cluster.service(host, namespace)
    if service is None:
        steps.append(
            Step(
                decided_by="resolver", text=f"no object of the evidence gives an address for {host}", ok=None
            )
        )
        return NO_ADDRESS, False
    if service.vips:
        steps.append(Step(decided_by=f"Service {service.meta}", text=f"{host} is {service.vips[0]}"))
        return service.vips[0], True
    found = service.port(port)
    ready = service.ready_endpoints(found) if found else [(e, port) for e in service.endpoints if e.ready]
    if ready:
        steps.append(
            Step(
                decided_by=f"Service {service.meta}",
                text=f"{host} has no address of its own: one of its {len(ready)} endpoints, {ready[0][0].address}",
            )
        )
        return ready[0][0].address, True
    steps.append(
        Step(
            decided_by=f"Service {service.meta}",
            text=f"{host} has neither an address nor a ready endpoint",
            ok=None,
        )
    )
    return NO_ADDRESS, False


def _policy(
    cluster: Cluster, flow: ConnectionFlow, ip: str, port: int, scheme: str, steps: list[Step]
) -> bool | None:
    """Whether policy lets the connection reach a backend; None where it cannot be said."""
    if not cluster.policies:
        return True
    source = cluster.peer(flow.from_)
    landing = translate(cluster.mesh.by_vip, ip, port)
    verdicts: list[bool | None] = []
    protocol = "UDP" if scheme in ("udp", "dns") else "TCP"
    for address, backend_port in landing.backends[:16]:
        answer = decide(cluster.policies, source, cluster.peer(address), backend_port, protocol)
        verdicts.append(answer.allowed)
        steps += answer.steps if len(verdicts) == 1 else ()
    if not verdicts:
        return True
    return True if True in verdicts else (False if all(v is False for v in verdicts) else None)


def _line(
    flow: ConnectionFlow,
    disposition: Disposition,
    hop: str,
    reason: str,
    steps: list[Step],
    answer: dict[str, Any] | None = None,
    unknown: tuple[str, ...] = (),
) -> dict[str, Any]:
    return {
        "id": flow.id,
        "disposition": str(disposition),
        "hop": hop,
        "reason": reason,
        "out_dev": None,
        "next_hop": None,
        "icmp": None,
        "answer": answer,
        "steps": [msgspec.to_builtins(s) for s in steps],
        **({"unknown": list(unknown)} if unknown else {}),
    }
