"""Pods as the mesh sees them: sidecar or not, what iptables captures, identity, and the ports containers declare.

Capture follows istio ``tools/istio-iptables`` and the annotations ``traffic.sidecar.istio.io/*``; what the
``istio-init`` container was really started with counts beside the annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import (
    Meta,
    Network,
    dig,
    labels,
    networks,
    port_number,
    rows,
    table,
    text,
    within,
)

TRAFFIC = "traffic.sidecar.istio.io/"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
PROXY_UID = 1337
NEVER_INBOUND = frozenset((15090, 15021, 15020))
"""Ports of the sidecar itself that iptables leaves alone (Prometheus, readiness, agent status)."""


class Capture(msgspec.Struct, frozen=True):
    """Which connections of a pod pass its sidecar. ``None`` for an include list means all."""

    mode: str = "REDIRECT"
    inbound_excluded: frozenset[int] = NEVER_INBOUND
    inbound_included: frozenset[int] | None = None
    outbound_ports_excluded: frozenset[int] = frozenset()
    outbound_ports_included: frozenset[int] = frozenset()
    outbound_excluded: tuple[Network, ...] = ()
    outbound_included: tuple[Network, ...] | None = None


class Workload(msgspec.Struct, frozen=True):
    """One pod. ``sidecar``: a running proxy container; ``tls_label``: the label that tells clients to use mTLS."""

    meta: Meta
    ips: tuple[str, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str
    sidecar: bool
    host_network: bool
    ready: bool
    phase: str
    ports: tuple[tuple[str, int], ...]
    uids: frozenset[int]
    capture: Capture
    http10: bool
    proxy_version: str

    @property
    def key(self) -> str:
        return self.meta.key

    @property
    def namespace(self) -> str:
        return self.meta.namespace

    @property
    def tls_label(self) -> bool:
        return self.labels.get(TLS_MODE_LABEL) == "istio"

    @property
    def meshed(self) -> bool:
        """Does a sidecar stand in this pod's traffic at all?"""
        return self.sidecar and not self.host_network and self.capture.mode != "NONE"

    def spiffe(self, trust_domain: str) -> str:
        """The identity in the sidecar's certificate, without the scheme."""
        return f"{trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def port_named(self, name: str) -> int | None:
        """The container port of that name."""
        return next((number for n, number in self.ports if n == name), None)


def _ports(value: str) -> frozenset[int]:
    return frozenset(p for part in value.split(",") if (p := port_number(part.strip())) is not None)


def _init_flags(containers: list[Mapping[str, Any]]) -> dict[str, str]:
    """The short options that istio-init gave to istio-iptables."""
    for container in containers:
        if text(container.get("name")) in ("istio-init", "istio-validation"):
            args = (
                [text(a) for a in container.get("args") or ()]
                if isinstance(container.get("args"), list)
                else []
            )
            return {a: b for a, b in pairwise(args) if a.startswith("-")}
    return {}


def _capture(annotations: Mapping[str, str], flags: Mapping[str, str]) -> Capture:
    def said(annotation: str, flag: str, default: str = "") -> str:
        value = annotations.get(TRAFFIC + annotation)
        return value if value is not None else flags.get(flag, default)

    included = said("includeInboundPorts", "-b", "*")
    ranges = said("includeOutboundIPRanges", "-i", "*")
    excluded = _ports(annotations.get(TRAFFIC + "excludeInboundPorts", "")) | _ports(flags.get("-d", ""))
    ports_out = _ports(annotations.get(TRAFFIC + "excludeOutboundPorts", "")) | _ports(flags.get("-o", ""))
    return Capture(
        mode=(annotations.get("sidecar.istio.io/interceptionMode") or flags.get("-m") or "REDIRECT").upper(),
        inbound_excluded=NEVER_INBOUND | excluded,
        inbound_included=None if included.strip() == "*" else _ports(included),
        outbound_ports_excluded=ports_out,
        outbound_ports_included=_ports(said("includeOutboundPorts", "-q")),
        outbound_excluded=networks(said("excludeOutboundIPRanges", "-x")),
        outbound_included=None if ranges.strip() == "*" else networks(ranges),
    )


def compile_workload(doc: Mapping[str, Any], meta: Meta, http10_default: bool) -> Workload:
    """A Pod document as a workload. A native sidecar (an init container that stays) counts as a sidecar."""
    spec, status = table(doc.get("spec")), table(doc.get("status"))
    containers, init = list(rows(spec.get("containers"))), list(rows(spec.get("initContainers")))
    annotations = labels(dig(doc, "metadata", "annotations"))
    proxy = next((c for c in (*containers, *init) if text(c.get("name")) == "istio-proxy"), None)
    ports = tuple(
        (text(p.get("name")), number)
        for c in containers
        for p in rows(c.get("ports"))
        if (number := port_number(p.get("containerPort"))) is not None
    )
    ips = [text(status.get("podIP")), *(text(p.get("ip")) for p in rows(status.get("podIPs")))]
    uid = dig(spec, "securityContext", "runAsUser")
    uids = {dig(c, "securityContext", "runAsUser") or uid for c in containers if c is not proxy}
    ready = next(
        (text(c.get("status")) == "True" for c in rows(status.get("conditions")) if c.get("type") == "Ready"),
        True,
    )
    env = {text(e.get("name")): text(e.get("value")) for e in rows(proxy.get("env"))} if proxy else {}
    http10 = env.get("ISTIO_META_HTTP10", "")
    if not http10 and "ISTIO_META_HTTP10" in annotations.get("proxy.istio.io/config", ""):
        http10 = "1"
    image = text(proxy.get("image")) if proxy else ""
    return Workload(
        meta=meta,
        ips=tuple(dict.fromkeys(ip for ip in ips if ip)),
        labels=labels(dig(doc, "metadata", "labels")),
        annotations=annotations,
        service_account=text(spec.get("serviceAccountName")) or "default",
        sidecar=proxy is not None,
        host_network=spec.get("hostNetwork") is True,
        ready=ready,
        phase=text(status.get("phase")) or "Running",
        ports=ports,
        uids=frozenset(u for u in uids if isinstance(u, int)),
        capture=_capture(annotations, _init_flags(init)),
        http10=http10 in ("1", "true") or (not http10 and http10_default),
        proxy_version=image.rpartition(":")[2] if ":" in image else "",
    )


def captures_inbound(workload: Workload, port: int) -> tuple[bool, str]:
    """Does a connection to this port of the pod pass its sidecar, and if not, why not?"""
    if not workload.sidecar:
        return False, "the pod has no sidecar"
    if workload.host_network:
        return False, "the pod is in the host's network, where nothing is captured"
    if workload.capture.mode == "NONE":
        return False, "interceptionMode NONE"
    if port in NEVER_INBOUND:
        return False, f"port {port} belongs to the sidecar itself"
    if port in workload.capture.inbound_excluded:
        return False, f"inbound port {port} is excluded from capture"
    included = workload.capture.inbound_included
    if included is not None and port not in included:
        return False, f"inbound port {port} is not in includeInboundPorts"
    return True, ""


def captures_outbound(workload: Workload, ip: str, port: int) -> tuple[bool, str]:
    """Does a connection of the application to ``ip:port`` pass its sidecar, and if not, why not?"""
    capture = workload.capture
    if not workload.sidecar:
        return False, "the pod has no sidecar"
    if workload.host_network:
        return False, "the pod is in the host's network, where nothing is captured"
    if capture.mode == "NONE":
        return False, "interceptionMode NONE"
    if workload.uids == frozenset((PROXY_UID,)):
        return False, f"the application runs as uid {PROXY_UID}, whose traffic is never captured"
    if ip in workload.ips or ip == "::1" or ip.startswith("127."):
        return False, "a pod that calls itself is not captured"
    if port in capture.outbound_ports_included:
        return True, ""
    if port in capture.outbound_ports_excluded:
        return False, f"outbound port {port} is excluded from capture"
    if within(ip, capture.outbound_excluded):
        return False, f"{ip} is in excludeOutboundIPRanges"
    if capture.outbound_included is not None and not within(ip, capture.outbound_included):
        return False, f"{ip} is not in includeOutboundIPRanges"
    return True, ""
