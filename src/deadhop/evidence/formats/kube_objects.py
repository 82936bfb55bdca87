"""Kubernetes manifests, JSON or YAML: single, ``List``, and the pieces that people paste of one.

A piece without ``kind`` is recognised by the fields that only one kind has (``clusterIP`` of a Service, ``subsets``
of Endpoints). ConfigMaps are opened: a Corefile, an Istio mesh configuration and Cilium options become records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from deadhop.evidence import calico, safe_yaml
from deadhop.evidence.fields import integer, rfc3339
from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.evidence.formats.nginx_conf import snippet
from deadhop.evidence.pem import decoded, fault
from deadhop.model.observed.dns import CorefileText, HostsEntry
from deadhop.model.observed.kube import (
    CLASS_OF_KIND,
    Endpoints,
    Event,
    KubeObject,
    NetworkPolicy,
    Pod,
    Secret,
    Service,
    ServicePort,
    mapping,
)
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumIdentity, CiliumOption
from deadhop.model.record import Problem, Record

#: Fields that give away the kind of a piece without ``kind``: all must be there.
_GIVEAWAY: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"subsets", "host"}), "DestinationRule"),
    (frozenset({"subsets"}), "Endpoints"),
    (frozenset({"endpoints", "addressType"}), "EndpointSlice"),
    (frozenset({"podSelector"}), "NetworkPolicy"),
    (frozenset({"endpointSelector"}), "CiliumNetworkPolicy"),
    (frozenset({"clusterIP"}), "Service"),
    (frozenset({"ports", "selector"}), "Service"),
    (frozenset({"servers"}), "Gateway"),
    (frozenset({"gatewayClassName"}), "Gateway"),
    (frozenset({"externalTrafficPolicy"}), "Service"),
    (frozenset({"portLevelMtls"}), "PeerAuthentication"),
    (frozenset({"rules", "action"}), "AuthorizationPolicy"),
    (frozenset({"hosts", "resolution"}), "ServiceEntry"),
    (frozenset({"hosts", "location"}), "ServiceEntry"),
    (frozenset({"backendRefs"}), "HTTPRoute"),
    (frozenset({"initContainers"}), "Pod"),
    (frozenset({"containers"}), "Pod"),
    (frozenset({"hostNetwork"}), "Pod"),
    (frozenset({"dnsPolicy"}), "Pod"),
    (frozenset({"dnsConfig"}), "Pod"),
    (frozenset({"mtls"}), "PeerAuthentication"),
    (frozenset({"trafficPolicy"}), "DestinationRule"),
    (frozenset({"hostAliases"}), "Pod"),
    (frozenset({"serviceAccountName"}), "Pod"),
    (frozenset({"nodeSelector", "tolerations"}), "Pod"),
    (frozenset({"portLevelSettings"}), "DestinationRule"),
    (frozenset({"jwtRules"}), "RequestAuthentication"),
)


def _match(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(
            isinstance(v, dict) and "kind" in v and ("metadata" in v or "spec" in v) for v in value[:5]
        )
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("kind"), str) and (
        value.keys()
        & {"apiVersion", "metadata", "spec", "items", "subsets", "data", "endpoints", "security-labels"}
    ):
        return True
    return bool(_guess(value))


#: Prefixes of annotations that only one kind has.
_ANNOTATED = (
    (("service.beta.kubernetes.io/", "service.kubernetes.io/", "konghq.com/protocol", "cloud.google.com/neg", "traefik.ingress.kubernetes.io/service"), "Service"),
    (("nginx.ingress.kubernetes.io/", "ingress.kubernetes.io/", "alb.ingress.kubernetes.io/", "kubernetes.io/ingress.class", "haproxy.org/", "cert-manager.io/cluster-issuer"), "Ingress"),
    (("config.linkerd.io/", "traffic.sidecar.istio.io/", "proxy.istio.io/", "sidecar.istio.io/"), "Pod"),
)  # fmt: skip


def _annotations(value: dict[str, Any]) -> dict[str, Any]:
    """The annotations of a piece: under ``metadata``, under ``annotations``, or standing alone."""
    told = mapping(value, "metadata", "annotations") or mapping(value, "annotations") or value
    return {str(k): v for k, v in told.items() if "/" in str(k)}


def _annotated(value: dict[str, Any]) -> str:
    keys = _annotations(value)
    return next((kind for prefixes, kind in _ANNOTATED if any(k.startswith(prefixes) for k in keys)), "")


def _guess(value: dict[str, Any]) -> str:
    spec = value.get("spec") if isinstance(value.get("spec"), dict) else value
    assert isinstance(spec, dict)
    keys = spec.keys()
    for fields, kind in _GIVEAWAY:
        if fields <= keys:
            return kind
    template, data = spec.get("template"), value.get("data")
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        return "Deployment"
    if isinstance(data, dict) and isinstance(data.get("Corefile"), str):
        return "ConfigMap"
    if any("route" in rule for rule in _list(spec.get("http"))):
        return "VirtualService"
    ports = spec.get("ports")
    if (
        isinstance(ports, list)
        and ports
        and all(isinstance(p, dict) and "port" in p and ("targetPort" in p or "protocol" in p) for p in ports)
    ):
        return "Service"
    return _annotated(value) if "spec" not in value else ""


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _object(item, locate.inside(str(i)), context)
        return
    items = value.get("items")
    if str(value.get("kind", "")).endswith("List") and isinstance(items, list):
        for i, item in enumerate(items):
            if isinstance(item, dict):
                item.setdefault("kind", str(value["kind"]).removesuffix("List"))
                yield from _object(item, locate.inside(f"items/{i}"), context)
        return
    yield from _object(value, locate, context)


def text(value: Any) -> str:
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def pairs(value: Any) -> tuple[tuple[str, str], ...]:
    """A string map as sorted pairs; anything else is empty."""
    return tuple(sorted((str(k), text(v)) for k, v in value.items())) if isinstance(value, dict) else ()


def _list(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _object(value: Any, locate: Locate, context: Context) -> Iterator[Record]:
    if not isinstance(value, dict):
        yield Problem(source=locate(), kind="damaged", text="not an object")
        return
    kind = text(value.get("kind")) or _guess(value)
    if not value.get("kind") and "metadata" not in value and (told := _annotations(value)):
        rest = {k: v for k, v in value.items() if k != "annotations" and "/" not in str(k)}
        value = {**rest, "metadata": {"annotations": told}}
    if not value.get("kind") and not isinstance(value.get("spec"), dict):
        value = (
            {
                "kind": kind,
                "metadata": value.get("metadata") or {},
                "spec": {k: v for k, v in value.items() if k != "metadata"},
            }
            if kind not in ("Endpoints", "EndpointSlice", "ConfigMap")
            else {**value, "kind": kind}
        )
    meta = mapping(value, "metadata")
    common: dict[str, Any] = {
        "source": locate(),
        "where": context.where,
        "kind": kind,
        "name": text(meta.get("name")) or text(value.get("name")),
        "namespace": text(meta.get("namespace")),
        "api_version": text(value.get("apiVersion")),
        "labels": pairs(meta.get("labels")),
        "raw": value,
    }
    if kind in ("NetworkPolicy", "GlobalNetworkPolicy") and calico.is_policy(value):
        said = calico.translated(value)
        own = {**common, "raw": {**value, "spec": said}} if said else {**common, "kind": f"Calico{kind}"}
        yield NetworkPolicy(**own) if said else KubeObject(**own)
        return
    build = _BUILDERS.get(kind)
    if kind in ("Endpoints", "EndpointSlice") and not (
        value.get("apiVersion") or value.keys() & {"subsets", "endpoints"}
    ):
        build = None  # a few fields of one, which do not say whether it is empty
        common["kind"] = f"Partial{kind}"
    if kind == "CiliumIdentity":
        yield from _identity(common, value)
        return
    if kind == "Event":
        yield _event(value, locate)
        return
    if kind == "Secret":
        yield from _secret_faults(value, locate, f"{common['namespace']}/{common['name']}".strip("/"))
        value = {k: v for k, v in value.items() if k not in ("data", "stringData")}
        yield Secret(**{**common, "raw": value})
        return
    yield build(common, value) if build else CLASS_OF_KIND.get(common["kind"], KubeObject)(**common)
    if kind == "Pod":
        for alias in _list(mapping(value, "spec").get("hostAliases")):
            names = tuple(text(n) for n in alias.get("hostnames") or () if isinstance(n, str))
            yield HostsEntry(source=locate("spec/hostAliases"), where=common["name"], address=text(alias.get("ip")), names=names)  # fmt: skip
    if kind == "Ingress":
        for key, told in mapping(meta, "annotations").items():
            if str(key).endswith("-snippet") and isinstance(told, str):
                yield from snippet(told, locate())
    if kind == "ConfigMap":
        yield from _config_map(common, value, locate)


def _pod(common: dict[str, Any], value: dict[str, Any]) -> KubeObject:
    spec, status = mapping(value, "spec"), mapping(value, "status")
    statuses = _list(status.get("containerStatuses"))
    ready = (
        (sum(1 for s in statuses if s.get("ready")), len(statuses))
        if any("ready" in s for s in statuses)
        else None
    )
    return Pod(
        **common,
        ip=text(status.get("podIP")),
        node=text(spec.get("nodeName")),
        ready=ready,
        phase=text(status.get("phase")),
        host_network=_on_host(spec, status),
        uid=text(mapping(value, "metadata").get("uid")),
    )


def _cilium_endpoint(common: dict[str, Any], value: dict[str, Any]) -> KubeObject:
    """Cilium's endpoint of a pod: it bears the pod's name and addresses (pkg/k8s/apis/cilium.io/v2/types.go)."""
    networking = mapping(value, "status", "networking")
    told = [a for pair in _list(networking.get("addressing")) for a in (pair.get("ipv4"), pair.get("ipv6"))]
    return Pod(**{**common, "kind": "Pod"}, ip=next((text(a) for a in told if a), ""))


def _on_host(spec: dict[str, Any], status: dict[str, Any]) -> bool | None:
    """Whether a pod uses the host's network: its spec says so, or its address is that of its host."""
    if "hostNetwork" in spec:
        return bool(spec["hostNetwork"])
    if status.get("podIP") and status.get("hostIP"):
        return bool(status["podIP"] == status["hostIP"])
    return False if "containers" in spec else None


def _service(common: dict[str, Any], value: dict[str, Any]) -> KubeObject:
    spec = mapping(value, "spec")
    ports = tuple(
        ServicePort(
            port=number,
            name=text(p.get("name")),
            protocol=text(p.get("protocol")) or "TCP",
            target=p.get("targetPort") if isinstance(p.get("targetPort"), (int, str)) else None,
            node_port=integer(text(p.get("nodePort"))),
            app_protocol=text(p.get("appProtocol")),
        )
        for p in _list(spec.get("ports"))
        if (number := integer(text(p.get("port")))) is not None
    )
    selector = spec.get("selector")
    balancer = _list(mapping(value, "status", "loadBalancer").get("ingress"))
    external = [text(b.get("ip")) or text(b.get("hostname")) for b in balancer] + [
        text(spec.get("loadBalancerIP"))
    ]
    return Service(
        **common,
        external=tuple(dict.fromkeys(e for e in external if e)),
        cluster_ip=text(spec.get("clusterIP")) if spec.get("clusterIP") is not None else "",
        type=text(spec.get("type")),
        ports=ports,
        selector=pairs(selector) if isinstance(selector, dict) else None,
    )


def _endpoints(common: dict[str, Any], value: dict[str, Any]) -> KubeObject:
    ready: list[str] = []
    not_ready: list[str] = []
    numbers: list[int] = []
    for subset in _list(value.get("subsets")):
        ports = [n for p in _list(subset.get("ports")) if (n := integer(text(p.get("port")))) is not None]
        numbers += ports
        for key, into in (("addresses", ready), ("notReadyAddresses", not_ready)):
            for address in _list(subset.get(key)):
                into += [f"{text(address.get('ip'))}:{p}" for p in ports] or [text(address.get("ip"))]
    ports = [n for p in _list(value.get("ports")) if (n := integer(text(p.get("port")))) is not None]
    numbers += ports
    for endpoint in _list(value.get("endpoints")):
        into = not_ready if mapping(endpoint, "conditions").get("ready") is False else ready
        for address in endpoint.get("addresses") or ():
            into += [f"{text(address)}:{p}" for p in ports] or [text(address)]
    labels = dict(common["labels"])
    return Endpoints(
        **common,
        # The controller names a slice for its Service, with five letters behind it (generateName).
        service=labels.get("kubernetes.io/service-name") or re.sub(r"-[a-z0-9]{5}$", "", common["name"]),
        ready=tuple(ready),
        not_ready=tuple(not_ready),
        ports=tuple(dict.fromkeys(numbers)),
    )


_BUILDERS = {
    "CiliumEndpoint": _cilium_endpoint,
    "Pod": _pod,
    "Service": _service,
    "Endpoints": _endpoints,
    "EndpointSlice": _endpoints,
}


def _identity(common: dict[str, Any], value: dict[str, Any]) -> Iterator[Record]:
    """An object of cilium.io: the identity's number is its name, its labels carry their source."""
    labels = mapping(value, "security-labels") or mapping(value, "spec", "security-labels")
    shown = tuple(f"{k}={v}" if v not in (None, "") else str(k) for k, v in labels.items())
    prefix = next(
        (label.partition(":")[2].partition("=")[0] for label in shown if label.startswith("cidr:")), ""
    )
    yield CiliumIdentity(source=common["source"], where=common["where"], identity=common["name"], labels=shown, prefix=prefix)  # fmt: skip


def _event(value: dict[str, Any], locate: Locate) -> Event:
    about = mapping(value, "involvedObject") or mapping(value, "regarding")
    when = text(value.get("lastTimestamp")) or text(value.get("eventTime"))
    return Event(
        source=locate(),
        time=rfc3339(when) if when else None,
        type=text(value.get("type")),
        reason=text(value.get("reason")),
        namespace=text(about.get("namespace")),
        object=f"{text(about.get('kind')).lower()}/{text(about.get('name'))}",
        component=text(mapping(value, "source").get("component")) or text(value.get("reportingComponent")),
        message=text(value.get("message")) or text(value.get("note")),
        count=integer(text(value.get("count")), 1) or 1,
    )


def _secret_faults(value: dict[str, Any], locate: Locate, name: str) -> Iterable[Record]:
    """What is wrong with a TLS secret's data, before the data is dropped."""
    for field in ("tls.key", "tls.crt"):
        data, plain = mapping(value, "data").get(field), mapping(value, "stringData").get(field)
        why = fault(field, decoded(data)) if isinstance(data, str) else fault(field, plain) if isinstance(plain, str) else ""  # fmt: skip
        if why:
            yield Message(source=locate(f"data/{field}"), where=name, emitter="kubectl", kind="secret-malformed", fields=(("secret", name), ("part", field), ("why", why)), text=why)  # fmt: skip


def _config_map(common: dict[str, Any], value: dict[str, Any], locate: Locate) -> Iterator[Record]:
    data = mapping(value, "data")
    for key, content in data.items():
        if not isinstance(content, str):
            continue
        if (
            key == "Corefile"
            or key.endswith((".server", ".override"))
            or (" {" in content and "forward " in content)
        ):
            yield CorefileText(source=locate(f"data/{key}"), text=content, key=str(key))
        elif common["name"] == "istio" and key == "mesh":
            try:
                mesh = safe_yaml.load(content)
            except safe_yaml.YamlProblem as problem:
                yield Problem(source=locate(f"data/{key}"), kind="damaged", text=str(problem))
                continue
            yield from options(mesh, locate.inside(f"data/{key}"))
        elif (
            "nonMasqueradeCIDRs" in content
        ):  # ip-masq-agent reads one YAML or JSON document (masq-config.go)
            try:
                yield from options(safe_yaml.load(content), locate.inside(f"data/{key}"))
            except safe_yaml.YamlProblem as problem:
                yield Problem(source=locate(f"data/{key}"), kind="damaged", text=str(problem))
        elif common["name"] in ("cilium-config", "kube-proxy-config", "kube-proxy"):
            yield CiliumOption(source=locate(f"data/{key}"), key=str(key), value=content)


def options(value: Any, locate: Locate, prefix: str = "") -> Iterator[CiliumOption]:
    """A nested settings document (Helm values, mesh config) as dotted keys."""
    if not isinstance(value, dict):
        return
    for key, below in value.items():
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(below, dict):
            yield from options(below, locate.inside(str(key)), dotted)
        elif isinstance(below, (str, int, float, bool)):
            shown = str(below).lower() if isinstance(below, bool) else str(below)
            yield CiliumOption(source=locate(str(key)), key=dotted, value=shown)
        elif isinstance(below, list) and below and all(isinstance(v, (str, int)) for v in below):
            yield CiliumOption(source=locate(str(key)), key=dotted, value=",".join(map(str, below)))


FORMAT = ValueFormat("kube-objects", _match, _read, priority=20)
