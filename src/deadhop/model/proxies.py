"""What reverse proxies in front of Kubernetes Services do by default: the Host that they send, what they dial.

One row a proxy. ``keeps_host``: the client's Host goes upstream unless told otherwise; else the name or address dialled
does. ``dials_pods``: the controller resolves the Service itself and connects to pod addresses, so that a sidecar of its
own sees a pod's address and not the Service's. Knobs are annotations, on the Ingress unless ``on_service`` says so.
"""

from __future__ import annotations

import msgspec


class Knob(msgspec.Struct, frozen=True):
    """An annotation. ``value`` is what turns it on; empty where any value is the setting itself."""

    key: str
    value: str = ""
    on_service: bool = False


class ReverseProxy(msgspec.Struct, frozen=True, kw_only=True):
    """One row. ``marks`` are parts of image names and command lines; ``classes`` ingress class names."""

    name: str
    marks: tuple[str, ...]
    prefix: str = ""
    classes: tuple[str, ...] = ()
    keeps_host: bool = True
    dials_pods: bool = True
    set_host: Knob | None = None
    drop_host: Knob | None = None
    by_service: Knob | None = None
    backend_tls: tuple[Knob, ...] = ()
    note: str = ""
    reference: str = ""


NGINX = ReverseProxy(
    name="nginx",
    marks=("nginx",),
    keeps_host=False,
    dials_pods=False,
    reference="ngx_http_proxy_module: proxy_set_header ($proxy_host); HTTP/1.0 upstream before 1.29.7",
)
INGRESS_NGINX = ReverseProxy(
    name="ingress-nginx",
    marks=("ingress-nginx", "nginx-ingress", "ingress-controller"),
    prefix="nginx.ingress.kubernetes.io/",
    classes=("nginx",),
    set_host=Knob("nginx.ingress.kubernetes.io/upstream-vhost"),
    by_service=Knob("nginx.ingress.kubernetes.io/service-upstream", "true"),
    backend_tls=(Knob("nginx.ingress.kubernetes.io/backend-protocol"),),
    reference="ingress-nginx rootfs/etc/nginx/template/nginx.tmpl: proxy_set_header Host $best_http_host",
)
NGINX_INC = ReverseProxy(
    name="NGINX Ingress Controller",
    marks=("nginx/nginx-ingress", "nginx-ic", "nginx-plus-ingress"),
    prefix="nginx.org/",
    by_service=Knob("nginx.org/use-cluster-ip", "true"),
    note="Host is set in a VirtualServer's requestHeaders, or through nginx.org/location-snippets",
    reference="nginx/kubernetes-ingress internal/configs: proxy_set_header Host $host; use-cluster-ip since 3.5",
)
TRAEFIK = ReverseProxy(
    name="Traefik",
    marks=("traefik",),
    prefix="traefik.ingress.kubernetes.io/",
    classes=("traefik",),
    drop_host=Knob("traefik.ingress.kubernetes.io/service.passhostheader", "false", on_service=True),
    by_service=Knob("traefik.ingress.kubernetes.io/service.nativelb", "true", on_service=True),
    backend_tls=(Knob("traefik.ingress.kubernetes.io/service.serversscheme", on_service=True),),
    note="a Middleware with headers.customRequestHeaders.Host sets a name",
    reference="Traefik, Kubernetes Ingress routing: service.passhostheader, service.nativelb; headers middleware",
)
HAPROXY = ReverseProxy(
    name="HAProxy Kubernetes Ingress Controller",
    marks=("haproxytech/kubernetes-ingress", "haproxy-kubernetes-ingress"),
    prefix="haproxy.org/",
    classes=("haproxy",),
    set_host=Knob("haproxy.org/set-host"),
    reference="haproxytech/kubernetes-ingress documentation/annotations.md: set-host",
)
HAPROXY_INGRESS = ReverseProxy(
    name="HAProxy Ingress",
    marks=("jcmoraisjr/haproxy-ingress", "haproxy-ingress"),
    prefix="haproxy-ingress.github.io/",
    by_service=Knob("haproxy-ingress.github.io/service-upstream", "true"),
    note="haproxy-ingress.github.io/headers with a line Host: NAME sets a name",
    reference="haproxy-ingress configuration keys: headers, service-upstream",
)
KONG = ReverseProxy(
    name="Kong",
    marks=("kong",),
    prefix="konghq.com/",
    classes=("kong",),
    set_host=Knob("konghq.com/host-header", on_service=True),
    drop_host=Knob("konghq.com/preserve-host", "false"),
    by_service=Knob("ingress.kubernetes.io/service-upstream", "true", on_service=True),
    backend_tls=(Knob("konghq.com/protocol", on_service=True),),
    note="host-header counts where preserve-host is false",
    reference="Kong Ingress Controller, Rewriting hosts: preserve-host is true by default",
)
CONTOUR = ReverseProxy(
    name="Contour",
    marks=("contour", "envoy"),
    prefix="projectcontour.io/",
    classes=("contour",),
    note="an HTTPProxy's requestHeadersPolicy sets Host",
    reference="Envoy: the authority goes upstream as it came unless host_rewrite_literal is set",
)
GATEWAY_API = ReverseProxy(
    name="Gateway API",
    marks=("envoy", "nginx-gateway", "traefik", "kong", "haproxy"),
    note="filters: URLRewrite with a hostname sets a name",
    reference="Gateway API HTTPURLRewriteFilter.hostname replaces Host; without it the request goes on as it came",
)
OAUTH2_PROXY = ReverseProxy(
    name="oauth2-proxy",
    marks=("oauth2-proxy", "oauth2_proxy"),
    dials_pods=False,
    note="--pass-host-header=false sends the upstream's own",
    reference="oauth2-proxy, --pass-host-header: true by default",
)
#: Controllers of Ingress objects; where an Ingress names none, ingress-nginx is assumed.
CONTROLLERS = (INGRESS_NGINX, NGINX_INC, TRAEFIK, HAPROXY, HAPROXY_INGRESS, KONG, CONTOUR)
