"""An allow-type authorization policy exists and none of its rules matches the caller.

What happens
------------
As soon as one ALLOW policy selects a workload, whatever no rule allows is denied: 403 with RBAC: access denied for
HTTP, a closed connection for TCP. Callers without a mesh identity match no rule on principals or namespaces.

How to tell it from its neighbours
----------------------------------
The enforced denial names no policy (matched policy none); a deny rule would be named. The application has no log
entry. A 403 of the application itself comes via upstream.

Fix
---
Extend the allow rules to the caller.

References
----------
Istio, Authorization Policy (evaluation order); Envoy RBAC filter; ztunnel and Linkerd policy denials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kube import AuthorizationPolicy
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "authz-no-allow-rule-matches"

NONE = re.compile(r"rbac_access_denied_matched_policy\[none\]", re.I)
NAMED = re.compile(r"rbac_access_denied_matched_policy\[(?!none)", re.I)


def check(view: View) -> Iterator[Hypothesis]:
    rules = view.of(Message)
    denied: list[Record] = [
        m
        for m in said(rules, "rbac-denied")
        if m.field("mode") == "enforced" and m.field("policy").strip(",.") in ("none", "")
    ]
    denied += list(said(rules, "unauthorized", emitter="linkerd"))
    denied += [m for m in said(rules, "local-reply") if NONE.search(m.field("details"))]
    denied += said(rules, "no-allow-matched")
    denied += [a for a in view.of(EnvoyAccess) if NONE.search(a.details)]
    named: list[Record] = [a for a in view.of(EnvoyAccess) if NAMED.search(a.details)]
    named += [m for m in said(rules, "rbac-denied") if m.field("policy").strip(",.") not in ("none", "")]
    named += said(rules, "policy-named-denial", emitter="ztunnel")
    bodies = [r for r in view.of(LocalReply) if r.text == "RBAC: access denied"]
    allow = [p for p in view.of(AuthorizationPolicy) if str(p.spec.get("action", "ALLOW")).upper() == "ALLOW"]
    deny = [
        p
        for p in view.of(AuthorizationPolicy)
        if str(p.spec.get("action", "ALLOW")).upper() in ("DENY", "CUSTOM")
    ]
    forbidden = [
        e for e in view.of(HttpExchange) if e.status == 403 and "envoy" in e.header("server").lower()
    ]
    if not (denied or bodies or named or (allow and forbidden)):
        return
    yield Hypothesis(
        subject=allow[0].ref if allow else "the server's authorization",
        title="Allow policies exist and none matches the caller: the server's proxy denies the request.",
        checks=(
            shown("the proxy denies and names no policy", denied or bodies or forbidden, weight=2.3 if denied else 1.6 if bodies else 0.9, required=True, decide="istioctl proxy-config log SERVER-POD --level rbac:debug; kubectl logs SERVER-POD -c istio-proxy | grep rbac"),
            shown("an allow policy selects the workload", allow, weight=0.9, decide="istioctl x authz check SERVER-POD"),
            shown("the caller is told: RBAC: access denied", bodies if denied else [], weight=0.4),
            judged("no deny rule is named", False if named or (deny and not allow) else None, named or (deny if not allow else []), weight=1.6, required=bool(named or (deny and not allow))),
        ),
        explains=("the status 403 comes from the proxy, the application has no log entry",),
        fixes=(Fix(title="Allow the caller", artifact="apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: allow-caller, namespace: NAMESPACE}\nspec:\n  selector: {matchLabels: {app: SERVER}}\n  action: ALLOW\n  rules:\n  - from:\n    - source: {principals: [\"TRUST-DOMAIN/ns/CALLER-NAMESPACE/sa/CALLER\"]}\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="An allow-type authorization policy exists and no rule matches the caller, so the request is denied.",
    inputs=(
        Message,
        EnvoyAccess,
        LocalReply,
        AuthorizationPolicy,
        HttpExchange,
    ),
    needs=(
        Message,
        EnvoyAccess,
        LocalReply,
        AuthorizationPolicy,
    ),
    rivals=(
        "upgrade-type-not-allowed",
        "plaintext-to-strict-mtls",
        "http-sent-to-opaque-port",
    ),
    check=check,
)
