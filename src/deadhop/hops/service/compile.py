"""Service, EndpointSlice, Endpoints and ServiceEntry documents to the registry's structs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deadhop.hops.mesh.decode import (
    Meta,
    address,
    dig,
    labels,
    network,
    port_number,
    rows,
    strings,
    table,
    text,
)
from deadhop.hops.mesh.hosts import fqdn
from deadhop.hops.mesh.protocol import parse, select
from deadhop.hops.service.registry import Endpoint, MeshService, Resolution, ServicePort

EXPORT_TO = "networking.istio.io/exportTo"
_RESOLUTIONS = {
    "STATIC": Resolution.CLIENT_SIDE_LB,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "NONE": Resolution.PASSTHROUGH,
    "": Resolution.PASSTHROUGH,
}


def slice_endpoints(doc: Mapping[str, Any], pod_labels: Mapping[str, Mapping[str, str]]) -> list[Endpoint]:
    """The endpoints of one EndpointSlice. A ready condition that is not said means ready."""
    ports = {text(p.get("name")): n for p in rows(doc.get("ports")) if (n := port_number(p.get("port")))}
    out = []
    for item in rows(doc.get("endpoints")):
        ready = dig(item, "conditions", "ready")
        pod = _pod_of(item.get("targetRef"), text(dig(doc, "metadata", "namespace")))
        out += [
            Endpoint(address(ip), ports, ready is not False, pod, pod_labels.get(pod, {}))
            for ip in strings(item.get("addresses"))
        ]
    return out


def subset_endpoints(doc: Mapping[str, Any], pod_labels: Mapping[str, Mapping[str, str]]) -> list[Endpoint]:
    """The endpoints of an Endpoints object."""
    out = []
    for subset in rows(doc.get("subsets")):
        ports = {
            text(p.get("name")): n for p in rows(subset.get("ports")) if (n := port_number(p.get("port")))
        }
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for item in rows(subset.get(field)):
                pod = _pod_of(item.get("targetRef"), text(dig(doc, "metadata", "namespace")))
                out.append(
                    Endpoint(address(text(item.get("ip"))), ports, ready, pod, pod_labels.get(pod, {}))
                )
    return out


def _pod_of(ref: object, namespace: str) -> str:
    if dig(ref, "kind") != "Pod":
        return ""
    return f"{text(dig(ref, 'namespace')) or namespace}/{text(dig(ref, 'name'))}"


def compile_service(
    doc: Mapping[str, Any],
    meta: Meta,
    endpoints: Iterable[Endpoint],
    domain: str,
    default_export: frozenset[str],
) -> MeshService:
    """A Kubernetes Service. ``clusterIP: None`` is headless, ``ExternalName`` an alias without listener."""
    spec = table(doc.get("spec"))
    kind = text(spec.get("type")) or "ClusterIP"
    ips = list(strings(spec.get("clusterIPs"))) or [text(spec.get("clusterIP"))]
    ports = []
    for p in rows(spec.get("ports")):
        number = port_number(p.get("port"))
        if number is None:
            continue
        l4 = text(p.get("protocol")) or "TCP"
        app = p.get("appProtocol")
        protocol = select(text(p.get("name")), app if isinstance(app, str) else None, number, l4)
        target = p.get("targetPort")
        named = (
            target
            if isinstance(target, str) and target and port_number(target) is None
            else port_number(target)
        )
        ports.append(
            ServicePort(
                text(p.get("name")), number, protocol, named or number, port_number(p.get("nodePort"))
            )
        )
    resolution = Resolution.CLIENT_SIDE_LB
    if kind == "ExternalName":
        resolution = Resolution.ALIAS
    elif "None" in ips:
        resolution = Resolution.PASSTHROUGH
    exported = text(dig(doc, "metadata", "annotations", EXPORT_TO))
    ingress = [text(i.get("ip")) for i in rows(dig(doc, "status", "loadBalancer", "ingress"))]
    return MeshService(
        meta=meta,
        host=f"{meta.name}.{meta.namespace}.svc.{domain}",
        vips=tuple(
            dict.fromkeys(address(ip) for ip in ips if ip and ip != "None" and kind != "ExternalName")
        ),
        ports=tuple(ports),
        resolution=resolution,
        kubernetes=True,
        external=False,
        selector=labels(spec.get("selector")),
        endpoints=tuple(endpoints),
        export_to=frozenset(e.strip() for e in exported.split(",")) if exported else default_export,
        external_name=text(spec.get("externalName")).rstrip(".").lower() if kind == "ExternalName" else "",
        kind=kind,
        external_addresses=tuple(address(i) for i in (*strings(spec.get("externalIPs")), *ingress) if i),
    )


def compile_service_entry(
    doc: Mapping[str, Any],
    meta: Meta,
    selected: Iterable[Endpoint],
    domain: str,
    default_export: frozenset[str],
) -> list[MeshService]:
    """One registry host per host of the ServiceEntry. ``selected`` are the workloads its selector matches."""
    spec = table(doc.get("spec"))
    ports = []
    for p in rows(spec.get("ports")):
        number = port_number(p.get("number"))
        if number is not None:
            target = port_number(p.get("targetPort")) or number
            ports.append(ServicePort(text(p.get("name")), number, parse(text(p.get("protocol"))), target))
    endpoints = [_entry_endpoint(item, ports) for item in rows(spec.get("endpoints"))]
    resolution = _RESOLUTIONS.get(text(spec.get("resolution")), Resolution.PASSTHROUGH)
    hosts = [fqdn(h, meta.namespace, domain) for h in strings(spec.get("hosts"))]
    dns = resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
    if not endpoints and not table(spec.get("workloadSelector")) and dns:
        own = {p.name: p.number for p in ports}
        endpoints = [Endpoint(h, own, True, "", {}) for h in hosts]
    listed = [
        *strings(spec.get("addresses")),
        *(text(a.get("value")) for a in rows(dig(doc, "status", "addresses"))),
    ]
    vips = tuple(address(a) for a in listed if "/" not in a)
    blocks = tuple(n for a in listed if "/" in a and (n := network(a)) is not None)
    exported = frozenset(strings(spec.get("exportTo"))) or default_export
    return [
        MeshService(
            meta=meta,
            host=host,
            vips=vips,
            ports=tuple(ports),
            resolution=resolution,
            kubernetes=False,
            external=text(spec.get("location")) != "MESH_INTERNAL",
            selector=labels(dig(spec, "workloadSelector", "labels")),
            endpoints=(*endpoints, *selected),
            export_to=exported,
            blocks=blocks,
            sans=strings(spec.get("subjectAltNames")),
            kind="ServiceEntry",
        )
        for host in hosts
    ]


def _entry_endpoint(item: Mapping[str, Any], ports: Iterable[ServicePort]) -> Endpoint:
    own = table(item.get("ports"))
    numbers = {
        p.name: port_number(own.get(p.name)) or (p.target if isinstance(p.target, int) else p.number)
        for p in ports
    }
    return Endpoint(address(text(item.get("address"))), numbers, True, "", labels(item.get("labels")))
