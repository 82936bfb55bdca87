"""What a proxy's configuration says it sends: for each route the address it dials and the Host that goes there.

Reads the gateway's own YAML, nginx configuration and Ingress objects (as ingress-nginx serves them). Each row of the
defaults has its source: nginx ``$proxy_host`` (ngx_http_proxy_module), ingress-nginx ``proxy_set_header Host
$best_http_host`` (rootfs/etc/nginx/template/nginx.tmpl), ``upstream-vhost`` and ``service-upstream`` (its annotations).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from deadhop.evidence import safe_yaml
from deadhop.evidence.checked_yaml import line_of
from deadhop.gateway import config as gateway
from deadhop.model.observed.http import NginxProxy
from deadhop.model.observed.kube import Ingress, mapping, mappings
from deadhop.model.record import Record
from deadhop.snapshot.forwarded_host import FORWARDED

ANNOTATION = "nginx.ingress.kubernetes.io/"
#: Stands for the name that a client uses where a route takes any.
ANY_CLIENT = "www.example.com"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One route. ``host`` is the value that goes out, ``forwarded`` whether it is the client's; ``to`` the URL dialled;
    ``endpoints``: the proxy dials the Service's pods itself; ``fix`` is how Host becomes the upstream's."""

    source: str
    kind: str
    route: str
    to: str
    host: str
    forwarded: bool
    http_version: str = "1.1"
    endpoints: bool = False
    namespace: str = ""
    fix: str = ""


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
            host=_client(route.host) if kept else upstream.authority,
            forwarded=kept,
            fix="leave host_header out: the upstream's own Host is the default",
        )


def of_records(records: list[Record]) -> Iterator[Told]:
    """The routes of nginx configuration and Ingresses."""
    for record in records:
        if isinstance(record, NginxProxy) and record.proxy_pass:
            yield _nginx(record)
        elif isinstance(record, Ingress):
            yield from _ingress(record)


def _client(host: str) -> str:
    host = next((h for h in (host,) if h and h not in ("*", "_", "")), ANY_CLIENT)
    return f"any{host[1:]}" if host.startswith("*.") else host


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
        host = _client(name)
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


def _ingress(ingress: Ingress) -> Iterator[Told]:
    namespace = ingress.namespace or "default"
    told = {str(k).removeprefix(ANNOTATION): str(v) for k, v in ingress.annotations.items()}
    vhost = told.get("upstream-vhost", "")
    service_upstream = told.get("service-upstream", "").lower() == "true"
    secure = told.get("backend-protocol", "HTTP").upper() in ("HTTPS", "GRPCS")
    for rule in mappings(ingress.spec, "rules"):
        name = str(rule.get("host") or "*")
        for path in mappings(rule, "http", "paths"):
            service = mapping(path, "backend", "service")
            port = mapping(service, "port").get("number") or mapping(service, "port").get("name") or 80
            full = f"{service.get('name')}.{namespace}.svc.cluster.local"
            yield Told(
                source=str(ingress.source),
                kind="Ingress",
                route=f"{name}{path.get('path') or '/'}",
                to=f"{'https' if secure else 'http'}://{full}:{port}",
                host=vhost or _client(name),
                forwarded=not vhost,
                endpoints=not service_upstream,
                namespace=namespace,
                fix=f'{ANNOTATION}service-upstream: "true", {ANNOTATION}upstream-vhost: {full}',
            )
