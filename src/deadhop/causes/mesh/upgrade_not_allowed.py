"""A client asks for an HTTP upgrade to a protocol that the proxy does not let through.

What happens
------------
Envoy allows only the upgrade types that its connection manager lists (websocket, in a mesh). A messaging client that
tunnels its own protocol over an HTTP upgrade gets 403 from the proxy.

How to tell it from its neighbours
----------------------------------
The proxy's local reply has the detail upgrade_failed and the Upgrade header is not websocket. A denial of
authorization has an RBAC detail and concerns ordinary requests too. A 426 is about the HTTP version.

Fix
---
Allow that upgrade type in the proxy, treat the port as TCP, or stop the client from offering the upgrade.

References
----------
Envoy, HTTP upgrades (upgrade_configs); StreamInfo ResponseCodeDetails upgrade_failed.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kube import Absent
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "upgrade-type-not-allowed"


def check(view: View) -> Iterator[Hypothesis]:
    refused: list[Record] = [
        *(m for m in said(view.of(Message), "local-reply") if "upgrade_failed" in m.field("details")),
        *(a for a in view.of(EnvoyAccess) if "upgrade_failed" in a.details),
    ]
    asked: list[Record] = [
        m for m in said(view.of(Message), "request-header") if m.field("name").lower() == "upgrade"
    ]
    asked += [e for e in view.of(HttpExchange) if _upgrade(e) and e.status in (403, 426) and _of_proxy(e)]
    if not refused and not (asked and any(isinstance(e, HttpExchange) for e in asked)):
        return
    other = [r for r in asked if _wanted(r) not in ("websocket", "")]
    denied: list[Record] = [m for m in said(view.of(Message), "rbac-denied") if m.field("mode") == "enforced"]
    denied += [r for r in view.of(LocalReply) if r.text == "RBAC: access denied"]
    hosts = {e.host for e in asked if isinstance(e, HttpExchange) and e.host}
    plain = [
        e for e in view.of(HttpExchange) if e.host in hosts and (e.status or 500) < 400 and not _upgrade(e)
    ]
    unruled = [a for a in view.of(Absent) if a.kind == "AuthorizationPolicy" and not (a.name or a.selector)]
    yield Hypothesis(
        subject=f"upgrade to {_wanted(asked[0])}" if asked else "the requested upgrade",
        title=f"The proxy refuses the HTTP upgrade{' to ' + _wanted(other[0]) if other else ''}: it lets through only the types that it is configured for.",
        checks=(
            shown("the proxy refuses a request that asks for an upgrade", refused or [e for e in other if isinstance(e, HttpExchange)], weight=2.0, required=True, decide="kubectl logs POD -c istio-proxy | grep upgrade_failed"),
            judged("the protocol asked for is not websocket", True if other else (False if asked else None), other or asked, weight=0.9),
            shown("a request without an upgrade is served by the same host", plain, weight=0.7, decide="curl -si http://HOST:PORT/PATH   # without the Upgrade header"),
            judged("no authorization policy denied it", False if denied else (True if unruled else None), denied or unruled, weight=0.6 if unruled and not denied else 1.0, required=bool(denied)),
        ),
        explains=("ordinary requests to the same host succeed, and no authorization log shows a denial",),
        fixes=(
            Fix(title="Declare the port as TCP", artifact="ports:\n- name: tcp-messaging\n  port: PORT\n  appProtocol: tcp\n", note="The mesh loses its HTTP features on that port."),
            Fix(title="Allow the upgrade type", artifact="apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: allow-upgrade, namespace: NAMESPACE}\nspec:\n  configPatches:\n  - applyTo: NETWORK_FILTER\n    match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}\n    patch:\n      operation: MERGE\n      value:\n        typed_config:\n          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          upgrade_configs: [{upgrade_type: UPGRADE-TYPE}]\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


def _upgrade(exchange: HttpExchange) -> str:
    told = next((v for k, v in exchange.request_headers if k == "upgrade"), "").lower()
    return "" if told in ("websocket", "h2c") else told


def _of_proxy(exchange: HttpExchange) -> bool:
    """Whether Envoy may have made this answer itself: no other server signed it, and it denies nothing in words."""
    server = exchange.header("server").lower()
    return (not server or "envoy" in server) and "RBAC" not in exchange.body


def _wanted(record: Record) -> str:
    return (
        record.field("value").lower()
        if isinstance(record, Message)
        else _upgrade(record)
        if isinstance(record, HttpExchange)
        else ""
    )


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A client asks for an HTTP upgrade that the proxy is not configured for, and the proxy refuses.",
    inputs=(
        Message,
        EnvoyAccess,
        HttpExchange,
        LocalReply,
        Absent,
    ),
    needs=(Message, EnvoyAccess, HttpExchange),
    rivals=(
        "authz-no-allow-rule-matches",
        "http10-client-rejected-by-proxy",
        "websocket-upgrade-header-mangled",
    ),
    check=check,
)
