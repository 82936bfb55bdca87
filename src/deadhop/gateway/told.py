"""What a proxy's configuration says it sends: for each route the address it dials and the Host that goes there.

Reads the gateway's own YAML and nginx configuration here, Kubernetes objects in ``ingress``. What each proxy does by default
stands with its source in ``model/proxies.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from deadhop.evidence import safe_yaml
from deadhop.evidence.checked_yaml import line_of
from deadhop.gateway import config as gateway
from deadhop.gateway.ingress import Annotations, of_auth_proxy, of_ingress, of_route, of_traefik
from deadhop.gateway.routes import Told, client_name
from deadhop.model.observed.http import NginxProxy
from deadhop.model.observed.kube import HTTPRoute, Ingress, KubeObject, Pod, Workload
from deadhop.model.record import Record
from deadhop.snapshot.forwarded_host import FORWARDED


def is_gateway(text: str) -> bool:
    """Is this the gateway's own configuration?"""
    try:
        value = safe_yaml.load(text)
    except safe_yaml.YamlProblem:
        return False
    return isinstance(value, dict) and "routes" in value and "upstreams" in value and "kind" not in value


def of_gateway(path: Path) -> Iterator[Told]:
    """The routes of the gateway's own file. Raises :class:`~deadhop.evidence.checked_yaml.ShapeError`."""
    text = path.read_text(errors="replace")
    for number, route in enumerate((read := gateway.parse(text, str(path), path.parent)).routes):
        upstream = read.upstreams[route.upstream]
        kept = route.host_header == "preserve"
        yield Told(
            source=f"{path}:{line_of(text, f'.routes[{number}]')}",
            kind="deadhop gateway",
            route=route.name,
            to=upstream.url,
            host=client_name(route.host) if kept else upstream.authority,
            forwarded=kept,
            fix="leave host_header out: the upstream's own Host is the default",
        )


def of_records(records: list[Record], annotations: Annotations) -> Iterator[Told]:
    """The routes of nginx configuration, Ingresses, Gateway API routes, IngressRoutes and oauth2-proxy."""
    objects = [r for r in records if isinstance(r, KubeObject)]
    for record in records:
        if isinstance(record, NginxProxy) and record.proxy_pass:
            yield _nginx(record)
        elif isinstance(record, Ingress):
            yield from of_ingress(record, annotations)
        elif isinstance(record, HTTPRoute):
            yield from of_route(record)
        elif isinstance(record, KubeObject) and record.kind == "IngressRoute":
            yield from of_traefik(record, objects)
        elif isinstance(record, (Pod, Workload)):
            yield from of_auth_proxy(record)


def _nginx(proxy: NginxProxy) -> Told:
    name = next((n for n in proxy.server_names if n not in ("_", "") and not n.startswith("~")), "*")
    scheme = "https" if proxy.proxy_pass.startswith("https://") else "http"
    value = proxy.header("host")
    forwarded = value in FORWARDED
    if value is None or value == "$proxy_host":
        # $proxy_host is what stands in proxy_pass: with an upstream block, the block's name.
        parts = urlsplit(proxy.proxy_pass)
        host = proxy.upstream_name or parts.netloc.removesuffix(":80" if scheme == "http" else ":443")
    elif forwarded:
        host = client_name(name)
    else:
        host = value
        for key, told in proxy.variables:
            host = host.replace(f"${{{key}}}", told).replace(f"${key}", told)
    service = proxy.target.rpartition(":")[0] or proxy.target
    return Told(
        source=str(proxy.source),
        kind="nginx",
        route=f"{name}{proxy.location or '/'}",
        to=f"{scheme}://{proxy.target}",
        host=host,
        forwarded=forwarded,
        # HTTP/1.0 towards upstreams was nginx's default before 1.29.7.
        http_version=proxy.setting("proxy_http_version") or "1.0",
        fix=f"proxy_set_header Host {service}; proxy_set_header X-Forwarded-Host $host;"
        + ("" if proxy.setting("proxy_http_version") else " proxy_http_version 1.1;"),
    )
