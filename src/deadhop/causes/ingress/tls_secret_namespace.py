"""The certificate's secret is not in the namespace from which the proxy reads it.

What happens
------------
An Istio gateway reads credentialName in the namespace of its own workload, ingress controllers read a tls secret in
the Ingress' namespace, Gateway API needs a ReferenceGrant across namespaces. A secret elsewhere is not found, and the
host has no certificate, or a default one.

How to tell it from its neighbours
----------------------------------
The proxy logs that it cannot find the secret, or waits for it (WARMING), or the handshake closes without a certificate, while the secret exists
elsewhere. A secret that is found and broken is told as such.

Fix
---
Put the secret into the namespace that the proxy reads, or grant the cross-namespace reference.

References
----------
Istio, Secure Gateways; Kubernetes Ingress spec.tls; Gateway API ReferenceGrant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import Gateway, Ingress, KubeObject, Secret, mapping, mappings
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "tls-secret-wrong-namespace"


def check(view: View) -> Iterator[Hypothesis]:
    missing = [
        m
        for m in said(view.of(Message), "secret-not-found", "secret-not-authorized")
        if "token" not in m.field("secret")
    ]
    missing += _waiting(view)
    missing += [
        m
        for m in said(view.of(Message), "IST0101", "IST0161")
        if re.search(r"credential|secret", m.text, re.I)
    ]
    refused: list[Record] = [*said(view.of(Message), "ref-not-permitted")]
    refused += [
        g
        for g in view.of(Gateway)
        for x in mappings(g.raw, "status", "listeners")
        if any(
            c.get("reason") in ("RefNotPermitted", "InvalidCertificateRef") for c in mappings(x, "conditions")
        )
    ]
    wanted: list[tuple[str, str, KubeObject]] = []
    for ingress in view.of(Ingress):
        wanted += [
            (str(t["secretName"]), ingress.namespace, ingress)
            for t in mappings(ingress.spec, "tls")
            if t.get("secretName")
        ]
    for gateway in view.of(Gateway):
        for server in mappings(gateway.spec, "servers"):
            if name := mapping(server, "tls").get("credentialName"):
                wanted.append((str(name), "", gateway))
        for listener in mappings(gateway.spec, "listeners"):
            wanted += [
                (str(r.get("name")), str(r.get("namespace") or gateway.namespace), gateway)
                for r in mappings(listener, "tls", "certificateRefs")
            ]
    secrets = view.of(Secret)
    elsewhere: list[Record] = []
    right: list[Record] = []
    for name, namespace, owner in wanted:
        own = [s for s in secrets if s.name == name]
        if own and namespace and all(s.namespace and s.namespace != namespace for s in own):
            elsewhere += [owner, *own]
        elif (
            own
            and not namespace
            and owner.namespace
            and all(s.namespace == owner.namespace for s in own)
            and owner.namespace != "istio-system"
        ):
            elsewhere += [owner, *own] if missing or bool(view.of(HttpExchange)) else []
        elif own and namespace:
            right += own
    crossed = [
        owner
        for name, namespace, owner in wanted
        if isinstance(owner, Gateway) and namespace and owner.namespace and namespace != owner.namespace
    ]
    held = [
        s
        for s in secrets
        if any(
            m.field("secret").rpartition("/")[2] == s.name
            and "/" in m.field("secret")
            and m.field("secret").partition("/")[0] != s.namespace
            for m in missing
        )
    ]
    listed = [
        k
        for k in view.of(KubeObject)
        if k.raw.get("cells") and any(m.field("secret").rpartition("/")[2] == k.name for m in missing)
    ]
    closed: list[Record] = [
        e for e in view.of(HttpExchange) if e.error in ("tls", "reset", "empty", "certificate")
    ]
    closed += said(view.of(Message), "no-peer-certificate", "default-certificate")
    broken = said(view.of(Message), "secret-malformed")
    if not (missing or refused or elsewhere or (crossed and closed)):
        return
    yield Hypothesis(
        subject=missing[0].field("secret") if missing else wanted[0][0] if wanted else "the certificate's secret",
        title="The proxy does not find the certificate's secret in the namespace that it reads.",
        checks=(
            shown("the proxy cannot find the secret, or it lies in another namespace than the one read", [*missing, *refused, *elsewhere] or crossed, weight=1.9 if missing or elsewhere or refused else 1.0, required=True, decide="kubectl get secret -A | grep NAME; kubectl -n istio-system logs deploy/istio-ingressgateway | grep -i secret"),
            shown("the secret exists elsewhere", [*held, *listed], weight=0.9, decide="kubectl get secret -A --field-selector type=kubernetes.io/tls"),
            shown("the handshake ends without the certificate", closed, weight=0.5),
            shown("an object asks for the secret", [w[2] for w in wanted if w[2] not in elsewhere] if missing else [], weight=0.3),
            judged("the secret's contents are sound", False if broken else None, broken, weight=1.5, required=bool(broken) and not missing),
            judged("the secret is not where it is read", False if right and not elsewhere else None, right if not elsewhere else [], weight=1.0),
        ),
        explains=("other hosts on the same listener work",),
        fixes=(Fix(title="Put the secret where the proxy reads it", artifact="kubectl -n FROM get secret NAME -o yaml | sed 's/namespace: .*/namespace: TO/' | kubectl apply -f -\n# Istio: TO is the gateway workload's namespace (istio-system); Ingress: the Ingress' own; Gateway API: a ReferenceGrant in the secret's namespace\n"),),
        prior=-1.2,
    )  # fmt: skip


def _waiting(view: View) -> list[Message]:
    """Secrets that a proxy has asked for and not got, which exist, and only in other namespaces than the one it reads."""
    asked = said(view.of(Message), "proxy-secret")
    secrets = view.of(Secret)
    got = {m.field("secret").rpartition("/")[2] for m in asked if m.field("state") == "ACTIVE"}
    read = {s.namespace for s in secrets if s.name in got and s.namespace}
    found = []
    for message in asked:
        namespace, _, name = message.field("secret").rpartition("/")
        places = {s.namespace for s in secrets if s.name == name}
        reads = {namespace} if namespace else read
        if (
            message.field("state") == "WARMING"
            and places
            and reads
            and "" not in places
            and not places & reads
        ):
            found.append(message)
    return found


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The certificate secret is not in the namespace from which the proxy reads it.",
    inputs=(
        Message,
        Ingress,
        Gateway,
        Secret,
        KubeObject,
        HttpExchange,
    ),
    needs=(
        Message,
        Ingress,
        Gateway,
    ),
    rivals=(
        "tls-secret-malformed-key",
        "http2-connection-reuse-shared-cert",
    ),
    check=check,
)
