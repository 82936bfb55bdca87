"""The secret is found, but its key or certificate is not valid PEM.

What happens
------------
The secret's data was encoded twice, has a missing line or a wrong key type, or key and certificate do not belong
together. The proxy rejects it and has no certificate for the host.

How to tell it from its neighbours
----------------------------------
The proxy logs that it failed to load the key or certificate; name and namespace are right. A secret that is not found
is another cause.

Fix
---
Create the secret again from clean PEM data.

References
----------
Go crypto/tls X509KeyPair; OpenSSL PEM_read_bio (no start line); Envoy SDS (Failed to load private key).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "tls-secret-malformed-key"

PEM = re.compile(r"[Ff]ailed to load (?:incomplete )?(?:private key|certificate)|NO_START_LINE|PEM routines")


def check(view: View) -> Iterator[Hypothesis]:
    rejected = [m for m in said(view.of(Message), "xds-rejected") if PEM.search(m.text)]
    loaded = said(view.of(Message), "secret-malformed", "certificate-unreadable")
    broken = [m for m in (*loaded, *rejected) if "No such file" not in m.text]
    broken += _unlike(view)
    absent = said(view.of(Message), "secret-not-found")
    closed: list[Record] = [
        e for e in view.of(HttpExchange) if e.error in ("tls", "reset", "empty", "certificate")
    ]
    closed += said(view.of(Message), "no-peer-certificate", "default-certificate")
    if not broken:
        return
    yield Hypothesis(
        subject=next((m.field("secret") for m in broken if m.field("secret")), "the certificate's secret"),
        title="The secret's key or certificate is not valid: the proxy rejects it and has no certificate for the host.",
        checks=(
            shown("the key or certificate cannot be loaded, or they do not belong together", broken, weight=2.1, required=True, decide="kubectl -n NAMESPACE get secret NAME -o jsonpath='{.data.tls\\.key}' | base64 -d | openssl pkey -noout -check"),
            shown("the handshake ends without the certificate", closed, weight=0.5),
            judged("the secret is found", False if absent else None, absent, weight=1.0),
        ),
        explains=("the secret's name and namespace are right",),
        fixes=(Fix(title="Create the secret again", artifact="kubectl -n NAMESPACE create secret tls NAME --cert=fullchain.pem --key=privkey.pem --dry-run=client -o yaml | kubectl apply -f -\n"),),
        prior=-1.1,
    )  # fmt: skip


def _unlike(view: View) -> list[Message]:
    """Digests of the public halves of one secret's key and certificate that differ: they do not belong together."""
    digests: dict[str, dict[str, Message]] = {}
    for message in said(view.of(Message), "secret-digest"):
        digests.setdefault(message.field("secret"), {})[message.field("part")] = message
    return [
        m
        for parts in digests.values()
        if len({p.field("digest") for p in parts.values()}) > 1
        for m in parts.values()
    ]


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The secret is found, but its key or certificate is not valid PEM.",
    inputs=(
        Message,
        HttpExchange,
    ),
    needs=(Message,),
    rivals=("tls-secret-wrong-namespace",),
    check=check,
)
