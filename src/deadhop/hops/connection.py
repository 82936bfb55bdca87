"""A connection from an application to an answer: name to address, Service, policy at both ends, both sidecars.

The order of the hops stands here and nowhere else. Where the evidence holds the client's pod and a Corefile, the name
goes the way of the pod's own lookup: its resolv.conf and library, policy on its questions, CoreDNS (``naming``).
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import msgspec

from deadhop.hops.cluster import Cluster
from deadhop.hops.mesh.api import walk
from deadhop.hops.naming.byname import by_name
from deadhop.hops.naming.lookup import Resolved
from deadhop.hops.policy.decide import decide
from deadhop.hops.resolver import PROFILES
from deadhop.hops.service.kubeproxy import translate
from deadhop.model.connection import ConnectionFlow
from deadhop.model.mesh import MeshRequest
from deadhop.model.trace import Disposition, Step

ORDER = ("resolver", "policy on DNS", "dns", "service", "policy", "fqdn", "mesh")
#: Stands for the address of an outside name that the evidence does not give (RFC 5737).
NO_ADDRESS = "192.0.2.255"
_DEFAULT_PORT = {"http": 80, "https": 443, "grpc": 80, "ws": 80, "wss": 443, "dns": 53}


def walk_connection(cluster: Cluster, flow: ConnectionFlow) -> dict[str, Any]:
    """The answer line for a connection flow. Never raises on a flow of the declared type."""
    target = _target(flow)
    if target is None:
        return _line(flow, Disposition.UNKNOWN, "resolver", f"{flow.to!r} is no URL, name or address", [])
    scheme, host, port, path = target
    steps: list[Step] = []
    namespace = flow.from_.partition("/")[0] if "/" in flow.from_ else "default"
    profile = PROFILES.get(flow.resolver or "glibc")
    if profile is None:
        names = ", ".join(PROFILES)
        return _line(
            flow, Disposition.UNKNOWN, "resolver", f"no resolver {flow.resolver!r} (there are: {names})", []
        )
    lookup = None if _is_address(host) else cluster.look_up(flow.from_, host, profile)
    if lookup is not None:
        steps += lookup.steps
        if lookup.error:
            return _untold(flow, lookup, steps)
    if lookup is not None and lookup.addresses:
        ip, known = lookup.addresses[0], True
    else:
        ip, known = _resolve(cluster, host, port, namespace, steps)
        if lookup is not None and not known:
            steps.append(Step(decided_by="resolver", text=lookup.unknown, ok=None))
    taught = lookup.taught if lookup is not None and lookup.addresses else None
    blocked = _policy(cluster, flow, ip, port, scheme, steps, taught) if known else None
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


def _untold(flow: ConnectionFlow, lookup: Resolved, steps: list[Step]) -> dict[str, Any]:
    """The answer line where the application gets no address."""
    reason = "POLICY_DENIED" if lookup.blamed == "policy" else lookup.error
    answer = {"status": None, "body": None, "flags": None, "rcode": lookup.rcode, "outcome": lookup.error}
    return _line(flow, lookup.disposition, lookup.blamed or "resolver", reason, steps, answer)


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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve(cluster: Cluster, host: str, port: int, namespace: str, steps: list[Step]) -> tuple[str, bool]:
    """The address that the client dials, and whether the evidence gives it."""
    if _is_address(host):
        return str(ipaddress.ip_address(host)), True
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
    cluster: Cluster,
    flow: ConnectionFlow,
    ip: str,
    port: int,
    scheme: str,
    steps: list[Step],
    taught: tuple[str, ...] | None,
) -> bool | None:
    """Whether policy lets the connection reach a backend; None where it cannot be said.

    ``taught`` are the names under which the DNS proxy learned the address, None where the lookup is not known.
    """
    if not cluster.policies:
        return True
    source = cluster.peer(flow.from_)
    landing = translate(cluster.mesh.by_vip, ip, port)
    verdicts: list[bool | None] = []
    protocol = "UDP" if scheme in ("udp", "dns") else "TCP"
    for address, backend_port in landing.backends[:16]:
        destination = cluster.peer(address)
        answer = decide(cluster.policies, source, destination, backend_port, protocol)
        allowed, why = answer.allowed, answer.steps
        if allowed is False and destination.entity == "world":
            opened, step = by_name(cluster.policies, source, address, backend_port, protocol, taught)
            allowed, why = opened, (step,) if step else why
        verdicts.append(allowed)
        steps += why if len(verdicts) == 1 else ()
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
