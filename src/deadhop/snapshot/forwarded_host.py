"""Proxies that send their client's Host to an in-cluster upstream: nginx locations, oauth2-proxy and its like."""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.observed.http import NginxProxy
from deadhop.model.observed.kube import Ingress, KubeObject, listing, mapping, mappings
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import CommandRun
from deadhop.model.proxies import CONTROLLERS, ReverseProxy
from deadhop.model.record import Record
from deadhop.snapshot.names import service_name
from deadhop.snapshot.said import host_of

#: Values of nginx's Host that pass on what the client sent.
FORWARDED = ("$host", "$http_host", "${host}", "${http_host}", "$server_name")
#: Options by which authenticating proxies pass on Host (oauth2-proxy, on by default; Traefik).
KEPT = ("pass-host-header", "pass_host_header", "passHostHeader", "passHost")


def passes_host(proxy: NginxProxy) -> bool:
    """Whether a location sends the client's Host to an in-cluster Service."""
    name = service_name(proxy.target)
    return (
        (proxy.header("host") or "") in FORWARDED
        and name is not None
        and (bool(name.namespace) or "." not in proxy.target)
        and name.service != "localhost"
    )


def auth_proxies(
    objects: Iterable[KubeObject], options: Iterable[CiliumOption], runs: Iterable[CommandRun]
) -> list[Record]:
    """Authenticating proxies that are told, or left, to pass on Host towards an in-cluster upstream."""
    found: list[Record] = []
    for item in objects:
        spec = mapping(item.spec, "template", "spec") or item.spec
        for container in mappings(spec, "containers"):
            args = [str(a) for a in [*listing(container, "args"), *listing(container, "command")]]
            upstream = next(
                (a.partition("=")[2] for a in args if a.startswith(("--upstream=", "-upstream="))), ""
            )
            kept = not any("pass-host-header=false" in a for a in args)
            if upstream and kept and service_name(host_of(upstream)) and item not in found:
                found.append(item)
    told: list[Record] = [o for o in options if o.key.rpartition(".")[2] in KEPT and o.value == "true"]
    told += [
        r for r in runs if any(a.startswith(("--upstream=http", "-upstream=http")) and service_name(host_of(a.partition("=")[2])) for a in r.argv) and "pass-host-header=false" not in r.line
    ]  # fmt: skip
    return [*found, *told]


def named_controller(ingress: Ingress) -> ReverseProxy | None:
    """The controller of an Ingress by its class, else by the annotations that it carries."""
    wanted = str(
        ingress.spec.get("ingressClassName") or ingress.annotations.get("kubernetes.io/ingress.class") or ""
    )
    for proxy in CONTROLLERS:
        names = proxy.classes if wanted else ()
        if any(wanted == c or wanted.startswith(f"{c}-") or wanted.endswith(f"-{c}") for c in names):
            return proxy
    for proxy in CONTROLLERS:
        if any(str(key).startswith(proxy.prefix) for key in ingress.annotations):
            return proxy
    return None


def keeps_host(ingress: Ingress) -> bool:
    """Whether the Ingress's controller passes on Host for it, as far as the Ingress itself says."""
    proxy = named_controller(ingress)
    if proxy is None or not proxy.keeps_host:
        return False
    own = {str(k): str(v) for k, v in ingress.annotations.items()}
    if proxy.drop_host is not None and not proxy.drop_host.on_service:
        return own.get(proxy.drop_host.key, "").lower() != proxy.drop_host.value
    return proxy.set_host is None or proxy.set_host.key not in own
