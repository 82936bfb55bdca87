"""VirtualServices: compiled routes, and the match of a request against them.

Reference: istio ``pilot/pkg/networking/core/route/route.go`` (``translateRoute``, ``TranslateRouteMatch``),
``pilot/pkg/model/virtualservice.go`` (delegates) and ``route/retry/retry.go`` (default retries).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import (
    Meta,
    Network,
    dig,
    duration,
    integer,
    labels,
    meta_of,
    network,
    port_number,
    rows,
    strings,
    table,
    text,
)
from deadhop.hops.mesh.hosts import fqdn

DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"


class Retries(msgspec.Struct, frozen=True):
    """A retry policy: how many times after the first attempt, and on what."""

    attempts: int = 2
    on: frozenset[str] = frozenset(DEFAULT_RETRY_ON.split(","))


NO_RETRIES = Retries(0, frozenset())


class TextMatch(msgspec.Struct, frozen=True):
    """``exact``, ``prefix``, ``regex`` or ``present``."""

    kind: str
    value: str

    def test(self, value: str | None, fold: bool = False) -> bool | None:
        """Does the value match? None where the expression cannot be judged safely."""
        if value is None:
            return False
        wanted, have = (self.value.lower(), value.lower()) if fold else (self.value, value)
        match self.kind:
            case "exact":
                return have == wanted
            case "prefix":
                return have.startswith(wanted)
            case "regex":
                return full_match(self.value, value)
        return True


def full_match(pattern: str, value: str) -> bool | None:
    """Full match of an RE2 expression; None where it is not certain to be cheap and equal in this engine."""
    if len(pattern) > 512 or len(value) > 4096 or re.search(r"[+*}?]\)*[+*{]|\\[1-9]|\(\?[^:]", pattern):
        return None
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return None


class Match(msgspec.Struct, frozen=True):
    """One ``match`` entry; everything in it must hold."""

    name: str = ""
    uri: TextMatch | None = None
    scheme: TextMatch | None = None
    method: TextMatch | None = None
    authority: TextMatch | None = None
    headers: tuple[tuple[str, TextMatch], ...] = ()
    without: tuple[tuple[str, TextMatch], ...] = ()
    query: tuple[tuple[str, TextMatch], ...] = ()
    ignore_case: bool = False
    port: int | None = None
    source_labels: Mapping[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()


class Destination(msgspec.Struct, frozen=True):
    """A route's target before its port is inferred."""

    host: str
    subset: str
    port: int | None
    weight: int


class HttpRoute(msgspec.Struct, frozen=True):
    """One ``http`` entry. ``groups``: any group may match, all of a group's entries must; none is always."""

    name: str
    groups: tuple[tuple[Match, ...], ...]
    destinations: tuple[Destination, ...]
    timeout: float | None = None
    retries: Retries | None = None
    redirect: int | None = None
    direct: tuple[int, str] | None = None
    abort: int | None = None
    delegate: tuple[str, str] | None = None


class L4Route(msgspec.Struct, frozen=True):
    """One ``tcp`` or ``tls`` entry."""

    ports: frozenset[int]
    sni_hosts: tuple[str, ...]
    blocks: tuple[Network, ...]
    destinations: tuple[Destination, ...]


class VirtualService(msgspec.Struct, frozen=True):
    """One VirtualService."""

    meta: Meta
    hosts: tuple[str, ...]
    in_mesh: bool
    http: tuple[HttpRoute, ...]
    tcp: tuple[L4Route, ...]
    tls: tuple[L4Route, ...]
    export_to: frozenset[str]

    def visible_from(self, namespace: str) -> bool:
        """Does ``exportTo`` show this object to a namespace?"""
        shown = self.export_to
        return "*" in shown or namespace in shown or ("." in shown and namespace == self.meta.namespace)

    def rank(self) -> int:
        """Private to the namespace before exported to named namespaces before public."""
        return 0 if "." in self.export_to else 2 if "*" in self.export_to else 1


def _text_match(value: object) -> TextMatch | None:
    m = table(value)
    for kind in ("exact", "prefix", "regex"):
        if kind in m:
            return TextMatch(kind, text(m[kind]))
    return None


def _named_matches(value: object) -> tuple[tuple[str, TextMatch], ...]:
    return tuple((str(k), _text_match(v) or TextMatch("present", "")) for k, v in table(value).items())


def _match(m: Mapping[str, Any]) -> Match:
    return Match(
        text(m.get("name")),
        _text_match(m.get("uri")),
        _text_match(m.get("scheme")),
        _text_match(m.get("method")),
        _text_match(m.get("authority")),
        tuple((k.lower(), v) for k, v in _named_matches(m.get("headers"))),
        tuple((k.lower(), v) for k, v in _named_matches(m.get("withoutHeaders"))),
        _named_matches(m.get("queryParams")),
        m.get("ignoreUriCase") is True,
        port_number(m.get("port")),
        labels(m.get("sourceLabels")),
        text(m.get("sourceNamespace")),
        strings(m.get("gateways")),
    )


def _destinations(value: object, namespace: str, domain: str) -> tuple[Destination, ...]:
    items = list(rows(value))
    out = []
    for item in items:
        d = table(item.get("destination"))
        weight = integer(item.get("weight"))
        out.append(
            Destination(
                fqdn(text(d.get("host")), namespace, domain),
                text(d.get("subset")),
                port_number(dig(d, "port", "number")),
                (100 if len(items) == 1 else 0) if weight is None else weight,
            )
        )
    return tuple(out)


def _retries(value: object) -> Retries | None:
    if not isinstance(value, Mapping):
        return None
    attempts = integer(value.get("attempts"))
    if attempts == 0:
        return NO_RETRIES
    said = text(value.get("retryOn")) or DEFAULT_RETRY_ON
    return Retries(
        2 if attempts is None else attempts, frozenset(w.strip() for w in said.split(",") if w.strip())
    )


def _http(item: Mapping[str, Any], namespace: str, domain: str) -> HttpRoute:
    redirect = item.get("redirect")
    direct = item.get("directResponse")
    abort = dig(item, "fault", "abort")
    percentage = dig(abort, "percentage", "value")
    certain = percentage is None or (isinstance(percentage, (int, float)) and percentage >= 100)
    delegate = table(item.get("delegate"))
    return HttpRoute(
        text(item.get("name")),
        tuple((_match(m),) for m in rows(item.get("match"))),
        _destinations(item.get("route"), namespace, domain),
        duration(item.get("timeout")),
        _retries(item.get("retries")),
        (integer(dig(redirect, "redirectCode")) or 301) if isinstance(redirect, Mapping) else None,
        (integer(dig(direct, "status")) or 200, text(dig(direct, "body", "string")))
        if isinstance(direct, Mapping)
        else None,
        integer(dig(abort, "httpStatus")) if certain else None,
        (text(delegate.get("namespace")) or namespace, text(delegate.get("name"))) if delegate else None,
    )


def _l4(item: Mapping[str, Any], namespace: str, domain: str) -> list[L4Route]:
    to = _destinations(item.get("route"), namespace, domain)
    out = []
    for m in list(rows(item.get("match"))) or [{}]:
        port = port_number(m.get("port"))
        blocks = tuple(n for s in strings(m.get("destinationSubnets")) if (n := network(s)) is not None)
        snis = tuple(s.lower() for s in strings(m.get("sniHosts")))
        out.append(L4Route(frozenset(() if port is None else (port,)), snis, blocks, to))
    return out


def compile_virtual_service(
    doc: Mapping[str, Any], domain: str, default_export: frozenset[str]
) -> VirtualService:
    """A VirtualService document. Delegates are joined in by :func:`with_delegates`."""
    meta, spec = meta_of(doc), table(doc.get("spec"))
    ns = meta.namespace
    gateways = strings(spec.get("gateways"))
    return VirtualService(
        meta,
        tuple(fqdn(h, ns, domain) for h in strings(spec.get("hosts"))),
        not gateways or "mesh" in gateways,
        tuple(_http(r, ns, domain) for r in rows(spec.get("http"))),
        tuple(t for r in rows(spec.get("tcp")) for t in _l4(r, ns, domain)),
        tuple(t for r in rows(spec.get("tls")) for t in _l4(r, ns, domain)),
        frozenset(strings(spec.get("exportTo"))) or default_export,
    )


def with_delegates(services: Iterable[VirtualService]) -> list[VirtualService]:
    """Join the routes of delegates into their roots (``mergeVirtualServicesIfNeeded``); delegates have no hosts."""
    every = sorted(services, key=lambda v: v.meta.order)
    by_key = {v.meta.key: v for v in every if not v.hosts}
    out = []
    for root in every:
        if not root.hosts:
            continue
        if any(r.delegate for r in root.http):
            http: list[HttpRoute] = []
            for route in root.http:
                target = by_key.get("/".join(route.delegate)) if route.delegate else None
                if route.delegate is None:
                    http.append(route)
                elif target is not None and target.visible_from(root.meta.namespace):
                    http += [_joined(route, inner) for inner in target.http]
            root = msgspec.structs.replace(root, http=tuple(http))
        out.append(root)
    return sorted(out, key=lambda v: (v.rank(), v.meta.order))


def _joined(outer: HttpRoute, inner: HttpRoute) -> HttpRoute:
    groups = tuple(a + b for a in outer.groups or ((),) for b in inner.groups or ((),))
    name = f"{outer.name}-{inner.name}" if outer.name and inner.name else outer.name or inner.name
    return msgspec.structs.replace(
        inner,
        name=name,
        groups=() if groups == ((),) else groups,
        timeout=outer.timeout if outer.timeout is not None else inner.timeout,
        retries=outer.retries or inner.retries,
    )
