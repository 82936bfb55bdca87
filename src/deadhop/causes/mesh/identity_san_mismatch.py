"""The server's certificate names another identity than the client expects.

What happens
------------
The client's proxy checks the names in the server's certificate against the identities of the Service's workloads, or
against a rule's subjectAltNames. A workload that runs under another service account presents a trusted, valid
certificate with another name; verification fails after TLS was negotiated.

How to tell it from its neighbours
----------------------------------
The failure reason is certificate verification, with the SAN matcher or the names seen. An unknown authority or an
expired certificate is told as such. A version error means that one side speaks plain text.

Fix
---
Run the workload under the right service account, or set the expected names.

References
----------
Envoy match_typed_subject_alt_names; Istio DestinationRule subjectAltNames, ServiceEntry subjectAltNames; SPIFFE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import LocalReply
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import DestinationRule, ServiceEntry, mapping
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "workload-identity-san-mismatch"

SAN = re.compile(r"SAN|subject ?alt|alternative name|NotValidForName|not valid for|identity", re.I)
VERIFY = "CERTIFICATE_VERIFY_FAILED"
OTHER = re.compile(
    r"expired|not yet valid|unknown[ _]ca|self.signed|unable to get (?:local )?issuer|unknown authority|UnknownIssuer",
    re.I,
)


def check(view: View) -> Iterator[Hypothesis]:
    told: list[tuple[str, Record]] = [
        (a.transport_failure, a) for a in view.of(EnvoyAccess) if a.transport_failure
    ]
    told += [(r.transport_failure, r) for r in view.of(LocalReply) if r.transport_failure]
    told += [
        (m.field("error") + m.field("transport") + m.text, m)
        for m in said(view.of(Message), "tls-error", "envoy-body", "identity-mismatch")
    ]
    told += [
        (m.text, m)
        for m in said(view.of(Message), "san-mismatch")
        if "envoy" in m.text.lower() or "SAN" in m.text
    ]
    verify = [(text, r) for text, r in told if VERIFY in text.upper().replace(" ", "_") or SAN.search(text)]
    counted: list[Record] = [c for c in view.of(Counter) if "fail_verify_san" in c.name and c.value > 0]
    if not verify and not counted:
        return
    names = [r for text, r in verify if SAN.search(text)]
    foreign = [r for text, r in verify if OTHER.search(text)]
    expected: list[Record] = [
        r for r in view.of(DestinationRule) if mapping(r.spec, "trafficPolicy", "tls").get("subjectAltNames")
    ]
    expected += [s for s in view.of(ServiceEntry) if s.spec.get("subjectAltNames")]
    yield Hypothesis(
        subject="the server's identity",
        title="The server presents a certificate for another identity than the client expects.",
        checks=(
            shown("certificate verification fails at the client's proxy", [*(r for _t, r in verify), *counted], weight=1.5, required=True, decide="kubectl logs CALLER-POD -c istio-proxy --tail=50   # transport failure reason"),
            shown("the names in the certificate do not match", [*names, *counted], weight=1.4, decide="istioctl proxy-config secret SERVER-POD -o json   # the URI SAN; kubectl get pod SERVER-POD -o jsonpath='{.spec.serviceAccountName}'"),
            shown("a rule lists the expected names", expected, weight=0.7),
            judged("authority and dates of the certificate are good", False if foreign else None, foreign, weight=2.0, required=bool(foreign)),
        ),
        explains=("TLS is negotiated, so both sides speak it; only the name is refused",),
        fixes=(Fix(title="Set the service account and the expected names", artifact="spec:\n  template:\n    spec:\n      serviceAccountName: EXPECTED-ACCOUNT\n---\n# or, in the client's DestinationRule or the ServiceEntry\nsubjectAltNames: [\"spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT\"]\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The server's certificate identity is not the one that the client expects.",
    inputs=(
        EnvoyAccess,
        LocalReply,
        Message,
        Counter,
        DestinationRule,
        ServiceEntry,
    ),
    rivals=(
        "plaintext-to-strict-mtls",
        "destinationrule-drops-mtls-under-strict",
        "auto-sni-from-downstream-host",
    ),
    check=check,
)
