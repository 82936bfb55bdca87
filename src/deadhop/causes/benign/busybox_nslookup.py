"""busybox's nslookup prints failures although cluster DNS works: it treats the search list in its own way.

What happens
------------
From 1.29 on busybox's nslookup sends its own queries, for A and AAAA, and does not walk the search list as the C library
does: it asks a short name as it stands, or prints one line for each family that has no record. Images with a new
busybox print "can't find" for names that every application resolves.

How to tell it from its neighbours
----------------------------------
The server answers, and another tool, an older release or the full name resolves. If applications fail as well, it is no
artefact of the tool.

Fix
---
None needed. Test with dig, getent or a full name.

References
----------
busybox networking/nslookup.c (1.29); Kubernetes, Debugging DNS Resolution (uses dnsutils).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping
from deadhop.model.observed.shell import Attempt, CommandRun, Remark
from deadhop.model.record import Record

SLUG = "benign-busybox-nslookup-artifact"


def check(view: View) -> Iterator[Hypothesis]:
    lookups = view.of(DnsLookup)
    labels = [r for r in view.of(Remark) if "busybox" in r.text.lower()]
    failed = [
        k
        for k in lookups
        if k.tool == "busybox nslookup"
        and k.status in ("NXDOMAIN", "NODATA")
        and ((k.server and "can't resolve" not in k.text) or any(_under(r, k) for r in labels))
    ]
    partly = [k for k in failed if k.answers]
    names = {k.qname for k in failed}
    other = [
        k
        for k in lookups
        if k not in failed
        and k.answers
        and k.tool != "zone"
        and (labels or k.tool != "busybox nslookup" or k.qname not in names)
        and any(
            k.qname == n or k.qname.startswith(n + ".") or any(a.name.startswith(n + ".") for a in k.answers)
            for n in names
        )
    ]
    known = [k for k in failed if k.qname in ("kubernetes", "kubernetes.default") and not k.last]
    works: list[Record] = [
        *(p for p in view.of(Ping) if p.ok),
        *(e for e in view.of(HttpExchange) if e.status is not None and e.host and e.host in names),
        *(a for a in view.of(Attempt) if a.ok and a.target in names),
    ]
    older = [a for a in view.of(Attempt) if a.ok and "busybox" in a.image]
    newer = [
        a for a in view.of(Attempt) if not a.ok and "busybox" in a.image and a.program in ("nslookup", "")
    ]
    bad: list[Record] = [
        *view.of(DnsServerError),
        *(q for q in view.of(DnsQuery) if q.rcode in ("SERVFAIL", "REFUSED")),
        *(
            d
            for d in view.of(DialFailure)
            if d.error in ("no-such-host", "lookup-timeout", "lookup-failed")
            and not d.text.startswith("nslookup")
        ),
        *(p for p in view.of(Ping) if p.error == "unresolved"),
        *(k for k in lookups if k.status in ("TIMEOUT", "UNREACHABLE", "SERVFAIL", "REFUSED", "PARSE-ERROR")),
    ]
    versions = older if older and newer else []
    resolved = [*other, *works, *versions]
    runs = [c for c in view.of(CommandRun) if any("busybox" in w for w in c.argv)]
    if not failed and not (newer and older):
        return
    yield Hypothesis(
        subject=", ".join(sorted(names)[:2]) or "nslookup",
        title="busybox's nslookup prints a failure, while the name resolves: an artefact of the tool.",
        checks=(
            shown("busybox's nslookup reports that a name does not exist, though a server answered", [*failed, *newer], weight=0.8, required=True),
            judged("the name resolves with another tool, an older release or in full, or is one that every cluster has, asked without its suffix", True if resolved or partly or known else None, [*resolved, *partly, *known], weight=1.7 if resolved or partly else 1.0, required=True, decide="kubectl run t --rm -it --image=registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7 -- nslookup NAME"),
            judged("no application fails to resolve", not bad, bad, weight=0.6, required=True),
            shown("the image's busybox is named", runs, weight=0.2),
        ),
        explains=("a test with busybox fails while applications have no trouble",),
        prior=-1.0,
    )  # fmt: skip


def _under(label: Remark, record: Record) -> bool:
    """Whether a label stands above a record in one document, a few lines away."""
    return label.source.file == record.source.file and 0 < record.source.line - label.source.line <= 6


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="busybox's nslookup reports failures for names that resolve.",
    severity="benign",
    inputs=(
        DnsLookup,
        Ping,
        HttpExchange,
        Attempt,
        DnsServerError,
        DnsQuery,
        DialFailure,
        CommandRun,
        Remark,
    ),
    needs=(DnsLookup, Attempt),
    rivals=("dns-server-unreachable", "search-domain-refused-stops-search", "benign-search-path-nxdomain"),
    check=check,
)
