"""The gateway originates TLS and takes the SNI from the downstream Host, as none is configured.

What happens
------------
Since automatic SNI is on by default, a TLS origination policy without an SNI sends the Host of the request. A backend
that serves another name refuses the handshake or answers with the wrong certificate or site.

How to tell it from its neighbours
----------------------------------
The policy names no SNI; it begins with a mesh upgrade; the backend answers when the SNI is its own name. A wrong
identity in the mesh shows SPIFFE names.

Fix
---
Set the SNI explicitly in the TLS origination policy.

References
----------
Istio ENABLE_AUTO_SNI, 1.21 upgrade notes; Envoy auto_sni; DestinationRule tls.sni.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kube import DestinationRule, PeerAuthentication, mapping, mappings
from deadhop.model.observed.mesh import EnvoyAccess, MeshVersion
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "auto-sni-from-downstream-host"
#: Alerts with which a server refuses a name (RFC 8446 §6): handshake_failure, access_denied, internal_error, unrecognized_name.
ALERTS = ("40", "49", "80", "112", "unrecognized_name", "handshake_failure")


def check(view: View) -> Iterator[Hypothesis]:
    open_rules = []
    for rule in view.of(DestinationRule):
        policies = [
            mapping(rule.spec, "trafficPolicy", "tls"),
            *(mapping(p, "tls") for p in mappings(rule.spec, "trafficPolicy", "portLevelSettings")),
        ]
        if any(str(t.get("mode", "")).upper() in ("SIMPLE", "MUTUAL") and not t.get("sni") for t in policies):
            open_rules.append(rule)
    options: list[Record] = [o for o in view.of(CiliumOption) if o.key.upper().endswith("AUTO_SNI")]
    failed: list[Record] = [
        a
        for a in view.of(EnvoyAccess)
        if a.transport_failure and ("TLS" in a.transport_failure or "alert" in a.transport_failure.lower())
    ]
    failed += [
        r
        for r in view.of(LocalReply)
        if "TLS" in r.transport_failure and "WRONG_VERSION" not in r.transport_failure
    ]
    failed += list(said(view.of(Message), "no-peer-certificate", "tls-error"))
    failed += [
        e
        for e in view.of(HttpExchange)
        if e.status in (421, 404, 403, 503) and "envoy" in e.header("server").lower()
    ]
    alerts = [m for m in said(view.of(Message), "tls-alert") if m.field("code") in ALERTS]
    failed += alerts
    hosts = {str(r.spec.get("host", "")).lower() for r in open_rules}
    shown_names = [
        m
        for m in said(view.of(Message), "tls-hello")
        if hosts
        and m.field("sni").lower() not in hosts
        and not any(h.startswith("*.") and m.field("sni").lower().endswith(h[1:]) for h in hosts)
    ]
    plain = [r for r in view.of(LocalReply) if r.reset_reason in ("connection termination", "overflow")]
    reset = [
        r
        for r in view.of(LocalReply)
        if r.reset_reason in ("connection failure", "remote connection failure", "connection termination")
    ]
    versions = [v for v in view.of(MeshVersion) if v.role == "control-plane"]
    if not (open_rules or options):
        return
    strict = list(view.of(PeerAuthentication))
    yield Hypothesis(
        subject=open_rules[0].ref if open_rules else "TLS origination",
        title="TLS origination names no SNI: the proxy sends the downstream Host, and the backend does not serve that name.",
        checks=(
            shown("the TLS origination policy names no SNI", open_rules or options, weight=1.2, required=True, decide="kubectl get destinationrule -A -o yaml | grep -A4 'tls:'"),
            shown("the handshake or the answer of the backend fails", failed or [r for r in reset if r not in plain] or plain, weight=0.8, required=not options, decide="openssl s_client -connect BACKEND:443 -servername BACKEND-NAME"),
            shown("the hello carries another name than the rule's host", shown_names, weight=1.3, decide="tshark -Y tls.handshake.type==1 -T fields -e ip.dst -e tls.handshake.extensions_server_name"),
            shown("automatic SNI is named in the settings", options if open_rules else [], weight=0.9),
            shown("the mesh was upgraded", versions, weight=0.2),
            judged("the rule is about a server outside the mesh", False if strict else None, strict, weight=1.0, required=bool(strict)),
        ),
        explains=("it begins with a mesh upgrade that turned automatic SNI on", "with the backend's own name as SNI the call works"),
        fixes=(Fix(title="Set the SNI", artifact="spec:\n  trafficPolicy:\n    tls:\n      mode: SIMPLE\n      sni: BACKEND-NAME\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The gateway originates TLS with the SNI of the downstream Host, which the backend does not serve.",
    inputs=(
        DestinationRule,
        CiliumOption,
        EnvoyAccess,
        LocalReply,
        Message,
        HttpExchange,
        MeshVersion,
        PeerAuthentication,
    ),
    needs=(
        DestinationRule,
        CiliumOption,
    ),
    rivals=(
        "workload-identity-san-mismatch",
        "destinationrule-drops-mtls-under-strict",
        "tls-client-to-plaintext-port",
    ),
    check=check,
)
