"""What controllers send for Ingress objects, Gateway API routes, Traefik's own routes and oauth2-proxy's upstreams."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deadhop.gateway.routes import Told, client_name
from deadhop.model.observed.kube import Ingress, KubeObject, mapping, mappings
from deadhop.model.proxies import (
    GATEWAY_API,
    INGRESS_NGINX,
    OAUTH2_PROXY,
    TRAEFIK,
    Knob,
    ReverseProxy,
)
from deadhop.snapshot.forwarded_host import named_controller

Annotations = Callable[[str, str], Mapping[str, str]]
"""The annotations of the Service of that namespace and name; empty where the evidence has none."""

_TLS = ("HTTPS", "GRPCS")


def _service(reference: Mapping[str, Any], namespace: str) -> str:
    """The full name of the Service that a reference in ``namespace`` means."""
    return f"{reference['name']}.{reference.get('namespace') or namespace}.svc.cluster.local"


def of_ingress(ingress: Ingress, annotations: Annotations) -> Iterator[Told]:
    proxy = named_controller(ingress) or INGRESS_NGINX
    namespace = ingress.namespace or "default"
    own = {str(k): str(v) for k, v in ingress.annotations.items()}
    rules = [
        (str(r.get("host") or "*"), mappings(r, "http", "paths")) for r in mappings(ingress.spec, "rules")
    ]
    default = mapping(ingress.spec, "defaultBackend")
    if default:
        rules.append(("*", [{"path": "/", "backend": default}]))
    for name, paths in rules:
        for path in paths:
            service = mapping(path, "backend", "service")
            if not service.get("name"):
                continue
            port = mapping(service, "port").get("number") or mapping(service, "port").get("name") or 80
            here = annotations(namespace, str(service["name"]))

            def given(knob: Knob | None, here: Mapping[str, str] = here) -> str:
                value = (here if knob.on_service else own).get(knob.key, "") if knob else ""
                return value if knob and (not knob.value or value.lower() == knob.value) else ""

            full = _service(service, namespace)
            dropped = bool(given(proxy.drop_host))
            # Kong reads host-header only where the client's Host is not kept.
            told = given(proxy.set_host) if proxy.drop_host is None or dropped else ""
            yield Told(
                source=str(ingress.source),
                kind=proxy.name,
                route=f"{name}{path.get('path') or '/'}",
                to=f"{_scheme(proxy, own, here)}://{full}:{port}",
                host=told or client_name(name),
                forwarded=not told and not dropped,
                dialled=dropped and not told,
                endpoints=proxy.dials_pods and not given(proxy.by_service),
                pods_stay=proxy.dials_pods and proxy.by_service is None,
                namespace=namespace,
                fix=_fix(proxy, full),
            )


def _scheme(proxy: ReverseProxy, own: Mapping[str, str], here: Mapping[str, str]) -> str:
    said = [(here if knob.on_service else own).get(knob.key, "") for knob in proxy.backend_tls]
    return "https" if any(word.upper() in _TLS for word in said) else "http"


def _fix(proxy: ReverseProxy, full: str) -> str:
    parts = []
    for knob, value in ((proxy.by_service, "true"), (proxy.drop_host, "false"), (proxy.set_host, full)):
        if knob is not None:
            text = f'"{value}"' if value in ("true", "false") else value
            parts.append(f"{knob.key}: {text}" + (" (on the Service)" if knob.on_service else ""))
    return (
        ", ".join(parts) + (f"; {proxy.note}" if proxy.note and proxy.set_host is None else "") or proxy.note
    )


def of_route(route: KubeObject) -> Iterator[Told]:
    """An HTTPRoute or GRPCRoute: every backend of every rule."""
    namespace = route.namespace or "default"
    names = [str(h) for h in route.spec.get("hostnames") or () if isinstance(h, str)] or ["*"]
    scheme = "http"
    for rule in mappings(route.spec, "rules"):
        filters = mappings(rule, "filters")
        paths = [str(mapping(m, "path").get("value") or "/") for m in mappings(rule, "matches")] or ["/"]
        for backend in mappings(rule, "backendRefs"):
            if backend.get("kind") not in (None, "Service") or not backend.get("name"):
                continue
            every = [*filters, *mappings(backend, "filters")]
            told = next((str(h) for f in every if (h := mapping(f, "urlRewrite").get("hostname"))), "")
            full = _service(backend, namespace)
            yield Told(
                source=str(route.source),
                kind=GATEWAY_API.name,
                route=f"{names[0]}{paths[0]}",
                to=f"{scheme}://{full}:{backend.get('port') or 80}",
                host=told or client_name(names[0]),
                forwarded=not told,
                http_version="2" if route.kind == "GRPCRoute" else "1.1",
                endpoints=GATEWAY_API.dials_pods,
                namespace=namespace,
                fix=f"filters: [{{type: URLRewrite, urlRewrite: {{hostname: {full}}}}}] and a gateway that dials Services "
                "(Envoy Gateway: EnvoyProxy spec.routingType: Service)",
            )


_HOST = re.compile(r"Host(?:SNI)?\(`([^`]+)`")
_PATH = re.compile(r"Path(?:Prefix)?\(`([^`]+)`")


def of_traefik(route: KubeObject, objects: Iterable[KubeObject]) -> Iterator[Told]:
    """An IngressRoute, with the Middlewares that set Host."""
    namespace = route.namespace or "default"
    names = {
        (o.namespace or "default", o.name): str(h)
        for o in objects
        if o.kind == "Middleware" and (h := mapping(o.spec, "headers", "customRequestHeaders").get("Host"))
    }
    for rule in mappings(route.spec, "routes"):
        match = str(rule.get("match") or "")
        name, path = _HOST.search(match), _PATH.search(match)
        set_by = [
            names.get((str(m.get("namespace") or namespace), str(m.get("name"))), "")
            for m in mappings(rule, "middlewares")
        ]
        told = next((h for h in reversed(set_by) if h), "")
        for service in mappings(rule, "services"):
            if service.get("kind") not in (None, "Service") or not service.get("name"):
                continue
            full = _service(service, namespace)
            dropped = service.get("passHostHeader") is False and not told
            scheme = str(service.get("scheme") or "http")
            yield Told(
                source=str(route.source),
                kind=TRAEFIK.name,
                route=f"{name[1] if name else '*'}{path[1] if path else '/'}",
                to=f"{'http' if scheme == 'h2c' else scheme}://{full}:{service.get('port') or 80}",
                host=told or client_name(name[1] if name else "*"),
                forwarded=not told and not dropped,
                dialled=dropped,
                http_version="2" if scheme == "h2c" else "1.1",
                endpoints=service.get("nativeLB") is not True,
                namespace=namespace,
                fix=f"services: nativeLB: true; a Middleware with headers.customRequestHeaders.Host: {full}",
            )


def of_auth_proxy(workload: KubeObject) -> Iterator[Told]:
    """oauth2-proxy's ``--upstream`` arguments in a Pod or a workload."""
    spec: dict[str, Any] = mapping(workload.spec, "template", "spec") or workload.spec
    for container in mappings(spec, "containers"):
        words = [
            str(w) for key in ("command", "args") for w in container.get(key) or () if isinstance(w, str)
        ]
        if not any(mark in " ".join([str(container.get("image")), *words]) for mark in OAUTH2_PROXY.marks):
            continue
        kept = not any(re.fullmatch(r"--?pass-host-header=(false|0|f)", word) for word in words)
        for word in words:
            found = re.fullmatch(r"--?upstream=(https?://[^/]+).*", word)
            if found:
                authority = found[1].partition("//")[2]
                yield Told(
                    source=str(workload.source),
                    kind=OAUTH2_PROXY.name,
                    route="*/",
                    to=found[1],
                    host=client_name("*") if kept else authority,
                    forwarded=kept,
                    namespace=workload.namespace or "default",
                    fix="--pass-host-header=false",
                )
