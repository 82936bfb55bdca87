"""The mesh lets out traffic to registered hosts only, and the destination is not registered.

What happens
------------
With outboundTrafficPolicy REGISTRY_ONLY the sidecar takes unknown destinations to the black-hole cluster: TLS and TCP
connections are closed (UH), HTTP is answered 502 by route block_all.

How to tell it from its neighbours
----------------------------------
The log shows BlackHoleCluster or route block_all for an outside address. A known Service without endpoints shows its
own cluster. From a pod outside the mesh the destination answers.

Fix
---
Register the host with a ServiceEntry, or allow any outbound destination.

References
----------
Istio meshConfig.outboundTrafficPolicy, Accessing External Services; Sidecar.outboundTrafficPolicy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import KubeObject, ServiceEntry, Sidecar, listing, mapping
from deadhop.model.observed.mesh import EnvoyAccess, EnvoyRouteHost
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.said import public

SLUG = "registry-only-no-serviceentry"

MODE = "REGISTRY_ONLY"


def check(view: View) -> Iterator[Hypothesis]:
    holes: list[Record] = [
        a for a in view.of(EnvoyAccess) if a.cluster == "BlackHoleCluster" or a.route == "block_all"
    ]
    holes += [
        c for c in view.of(Counter) if "BlackHoleCluster" in c.name and "upstream" in c.name and c.value > 0
    ]
    holes += [
        a
        for a in view.of(EnvoyAccess)
        if "UH" in a.flags and not a.cluster and not a.upstream_host and public(a.downstream_local)
    ]
    modes: list[Record] = [
        o for o in view.of(CiliumOption) if o.key.endswith("outboundTrafficPolicy.mode") and o.value == MODE
    ]
    modes += [s for s in view.of(Sidecar) if mapping(s.spec, "outboundTrafficPolicy").get("mode") == MODE]
    modes += [c for c in view.of(CommandRun) if f"outboundTrafficPolicy.mode={MODE}" in c.line]
    modes += [
        k
        for k in view.of(KubeObject)
        if mapping(k.spec, "meshConfig", "outboundTrafficPolicy").get("mode") == MODE
    ]
    # Istio's name for the catch-all of a sidecar that lets out registered hosts only (pilot networking/core/httproute.go).
    modes += [r for r in view.of(EnvoyRouteHost) if r.vhost == "block_all"]
    other: list[Record] = [
        o for o in view.of(CiliumOption) if o.key.endswith("outboundTrafficPolicy.mode") and o.value != MODE
    ]
    other += [r for r in view.of(EnvoyRouteHost) if r.vhost == "allow_any"]
    failed: list[Record] = [
        e
        for e in view.of(HttpExchange)
        if (
            e.status == 502
            and "envoy" in e.header("server").lower()
            and not e.body
            and not e.header("x-envoy-upstream-service-time")  # an upstream has answered
        )
        or (
            e.error in ("tls", "reset", "empty")
            and (e.url.startswith("https") or "SSL_ERROR_SYSCALL" in e.error_text)
        )
    ]
    failed += [d for d in view.of(DialFailure) if d.error in ("reset", "tls")]
    entries: list[Record] = [k for k in (*view.of(ServiceEntry), *view.of(KubeObject)) if k.kind == "ServiceEntry"]  # fmt: skip
    wanted = {e.host for e in failed if isinstance(e, HttpExchange) and e.host}
    listed: list[Record] = [k for k in entries if isinstance(k, KubeObject) and any(_covers(h, w) for h in _hosts(k) for w in wanted)]  # fmt: skip
    routed = [r for r in view.of(EnvoyRouteHost) if any(d == w or d.startswith(f"{w}:") for d in r.domains for w in wanted)]  # fmt: skip
    outside_mesh = [e for e in view.of(HttpExchange) if e.host in wanted and e.status and e.status < 500 and "envoy" not in e.header("server").lower()]  # fmt: skip
    outside = [e for e in failed if isinstance(e, HttpExchange) and e.status == 502]
    if not (holes or (modes and failed) or outside):
        return
    yield Hypothesis(
        subject="outbound traffic to unregistered hosts",
        title="The destination is not in the mesh's registry, and the mesh lets out registered hosts only.",
        checks=(
            shown("the sidecar sends the connection to the black hole, or closes or answers it itself", holes or failed, weight=2.3 if holes else 1.2, required=True, decide="kubectl logs POD -c istio-proxy --tail=50   # BlackHoleCluster, block_all"),
            judged("the outbound mode is registry-only", True if modes else (False if other and not holes else None), modes or (other if not holes else []), weight=1.0, required=not holes, decide="kubectl -n istio-system get configmap istio -o yaml | grep -A1 outboundTrafficPolicy"),
            shown("the call fails as a black hole does", failed if holes else [], weight=0.3),
            judged("a service entry lists other hosts only", not listed if entries and (holes or modes) else None, listed or entries if holes or modes else [], weight=0.8 if listed else 0.2),
            judged("the proxy has no route for the host", False if routed and not holes else None, routed, weight=1.5, required=bool(routed and not holes)),
            shown("the host answers a client without a sidecar", outside_mesh if modes else [], weight=0.4),
        ),
        explains=("the destination answers from a pod outside the mesh",),
        fixes=(Fix(title="Register the host", artifact="apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: NAME, namespace: NAMESPACE}\nspec:\n  hosts: [HOST]\n  location: MESH_EXTERNAL\n  resolution: DNS\n  ports:\n  - {number: 443, name: tls, protocol: TLS}\n"),),
        prior=-1.2,
    )  # fmt: skip


def _hosts(entry: KubeObject) -> list[str]:
    """The hosts of a ServiceEntry, of its manifest or of the table's column."""
    column = str(mapping(entry.raw, "cells").get("HOSTS") or "")
    return [*(str(h) for h in listing(entry.spec, "hosts")), *re.findall(r"[\w*][\w.*-]+", column)]


def _covers(host: str, wanted: str) -> bool:
    return host == wanted or (host.startswith("*.") and wanted.endswith(host[1:]))


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The mesh allows outbound traffic only to registered hosts, and the destination is not registered.",
    inputs=(
        EnvoyAccess,
        EnvoyRouteHost,
        Counter,
        CiliumOption,
        Sidecar,
        CommandRun,
        KubeObject,
        HttpExchange,
        DialFailure,
        ServiceEntry,
    ),
    needs=(
        EnvoyAccess,
        Counter,
        HttpExchange,
        DialFailure,
    ),
    rivals=(
        "host-header-forwarded-breaks-mesh-routing",
        "subset-selects-no-endpoints",
        "http-named-443-service-hijacks-egress",
    ),
    check=check,
)
