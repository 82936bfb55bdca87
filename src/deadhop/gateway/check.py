"""Where the mesh sends what a proxy sends: each route's request walked through the evidence's objects.

A route ``arrives``, ``breaks``, is ``latent`` (it arrives as plain text at a pod that has a sidecar, and would not under
STRICT), or ``unknown``. For one that breaks or is latent the same request is walked with the upstream's own Host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from deadhop.evidence.read import read
from deadhop.gateway.ingress import Annotations
from deadhop.gateway.routes import Told
from deadhop.gateway.told import is_gateway, of_gateway, of_records
from deadhop.hops.cluster import Cluster
from deadhop.hops.connection import walk_connection
from deadhop.hops.mesh.decode import dig, labels, meta_of, rows
from deadhop.hops.mesh.workload import Workload
from deadhop.model.connection import ConnectionFlow
from deadhop.model.observed.kube import KubeObject
from deadhop.model.proxies import CONTROLLERS, GATEWAY_API, NGINX, OAUTH2_PROXY

#: What a container's image or command line holds where it is a proxy of the kind.
_MARKS = {"deadhop gateway": ("deadhop",)} | {
    p.name: p.marks for p in (NGINX, GATEWAY_API, OAUTH2_PROXY, *CONTROLLERS)
}


def cluster_of(paths: Iterable[str]) -> Cluster:
    """The cluster that evidence describes. Raises :class:`LookupError` where it holds no objects."""
    objects = [r for r in read(list(paths)).records if isinstance(r, KubeObject) and r.raw.get("kind")]
    if not objects:
        raise LookupError(f"{', '.join(paths)}: no Kubernetes objects (kubectl get … -o yaml, a bundle)")
    return Cluster.of(objects)


def routes_of(paths: Iterable[str], annotations: Annotations) -> list[Told]:
    """Every route of the configurations. Raises :class:`LookupError` where a file holds none."""
    found: list[Told] = []
    for name in paths:
        path = Path(name)
        own = path.is_file() and is_gateway(path.read_text(errors="replace"))
        routes = list(of_gateway(path) if own else of_records(read([name]).records, annotations))
        if not routes:
            raise LookupError(
                f"{name}: neither a gateway's routes, nor nginx's proxy_pass, nor an Ingress or HTTPRoute"
            )
        found += routes
    return found


def check_routes(configs: Iterable[str], evidence: Iterable[str], source: str | None) -> list[dict[str, Any]]:
    """An answer for each route, as the command prints it in JSON. Raises :class:`LookupError`."""
    cluster = cluster_of(evidence)

    def annotations(namespace: str, name: str) -> dict[str, str]:
        return _annotations(cluster, namespace, name)

    routes = routes_of(configs, annotations)
    if source and source not in cluster.mesh.pods:
        near = [k for k in cluster.mesh.pods if source.rpartition("/")[2] in k][:5]
        raise LookupError(f"no pod {source!r} in the evidence" + (f" (there is {', '.join(near)})" if near else ""))  # fmt: skip
    return [_answer(cluster, told, source or _proxy(cluster, told)) for told in routes]


def _annotations(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    found = (d for d in cluster.mesh.of_kind("Service") if meta_of(d).key == f"{namespace}/{name}")
    return labels(dig(next(found, None), "metadata", "annotations"))


def _proxy(cluster: Cluster, told: Told) -> str | None:
    """The pod that runs the proxy, where only one (or one workload's) can be it."""
    marks = _MARKS[told.kind]
    found = [p for p in cluster.mesh.pods.values() if _runs(cluster, p, marks)]
    owners = {(p.namespace, p.service_account, p.meshed) for p in found}
    return found[0].key if len(owners) == 1 else None


def _runs(cluster: Cluster, pod: Workload, marks: tuple[str, ...]) -> bool:
    document = next((d for d in cluster.mesh.of_kind("Pod") if meta_of(d).key == pod.key), None)
    words = [
        str(word)
        for container in rows(dig(document, "spec", "containers"))
        if container.get("name") != "istio-proxy"
        for word in (container.get("image"), container.get("command"), container.get("args"))
    ]
    return any(mark in word for mark in marks for word in words)


def _answer(cluster: Cluster, told: Told, source: str | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "source": told.source,
        "kind": told.kind,
        "route": told.route,
        "dials": told.to,
        "host": told.host,
        "host_is": "the client's"
        if told.forwarded
        else "the address that is dialled"
        if told.dialled
        else "set by the proxy",
        "from": source,
    }
    if source is None:
        why = f"which pod runs this {told.kind}? say --from NAMESPACE/POD"
        return line | {"verdict": "unknown", "because": why}
    flow = _flow(cluster, told, source)
    line["host"] = flow.host
    answer = walk_connection(cluster, flow)
    line |= _said(cluster, answer)
    if line["verdict"] in ("breaks", "latent"):
        default = 443 if told.to.startswith("https:") else 80
        own = re.sub(rf":(?:\D.*|{default})$", "", urlsplit(told.to).netloc)
        mended = Told(
            **{
                **msgspec.structs.asdict(told),
                "host": own,
                "endpoints": told.endpoints and told.pods_stay,
                "dialled": False,
                "http_version": "1.1",
            }
        )
        after = _said(cluster, walk_connection(cluster, _flow(cluster, mended, source)))
        if after["verdict"] == "arrives":
            line |= {"fix": told.fix, "after": {k: after[k] for k in ("host", "status", "cluster", "mtls") if k in after} | {"host": own}}  # fmt: skip
    return line


def _flow(cluster: Cluster, told: Told, source: str) -> ConnectionFlow:
    to = told.to
    parts = urlsplit(to)
    service = cluster.service(parts.hostname or "", source.partition("/")[0])
    name = parts.netloc.rpartition(":")[2]
    if service is not None and ":" in parts.netloc and not name.isdigit():
        number = next((p.number for p in service.ports if p.name == name), 80)
        to = f"{parts.scheme}://{parts.netloc.rpartition(':')[0]}:{number}"
        parts = urlsplit(to)
    if told.endpoints and service is not None:
        port = service.port(parts.port or (443 if parts.scheme == "https" else 80))
        ready = service.ready_endpoints(port) if port else []
        if ready:
            endpoint, target = ready[0]
            address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
            to = f"{parts.scheme}://{address}:{target}"
    host = urlsplit(to).netloc if told.dialled else told.host
    return ConnectionFlow(from_=source, to=to, host=host, http_version=told.http_version)


def _said(cluster: Cluster, answer: dict[str, Any]) -> dict[str, Any]:
    told = answer["answer"] or {}
    status, disposition = told.get("status"), answer["disposition"]
    decided = next((s for s in reversed(answer["steps"]) if s.get("ok") is False), None)
    vhost = next((s["text"] for s in answer["steps"] if s["function"] == "RouteMatcher::findVirtualHost"), "")
    reached = next((s["decided_by"] for s in reversed(answer["steps"]) if s["text"] == "answers"), "")
    if disposition == "unknown":
        verdict = "unknown"
    elif disposition == "delivered" and (status or 200) < 400:
        pod = cluster.mesh.pods.get(reached.removeprefix("application ").rpartition(":")[0])
        plain = told.get("mtls") is False and pod is not None and pod.meshed
        verdict = "latent" if plain else "arrives"
    else:
        verdict = "breaks"
    because = vhost if verdict == "arrives" else (f"{vhost}; " if vhost else "") + (
        decided["text"] if decided else answer["reason"] or "plain text at a pod with a sidecar: 503 UC under STRICT"
    )  # fmt: skip
    return {
        "verdict": verdict,
        "status": status,
        "flags": told.get("flags") or [],
        "cluster": told.get("cluster"),
        "route_name": told.get("route"),
        "mtls": told.get("mtls"),
        "because": because,
    }


def text(answers: list[dict[str, Any]]) -> Iterator[str]:
    """The answers for a person: verdict first."""
    for a in answers:
        yield f"{a['verdict'].upper():<8} {a['route']} -> {a['dials']}"
        yield f"         Host {a['host']} ({a['host_is']}), from {a['from'] or 'an unknown pod'}"
        if "status" in a:
            way = {True: "mutual TLS", False: "plain text", None: "not delivered"}[a["mtls"]]
            flags = " " + ",".join(a["flags"]) if a["flags"] else ""
            yield f"         {a['status'] or 'no HTTP answer'}{flags}, cluster {a['cluster'] or '-'}, {way}"
        yield f"         {a['because']}"
        if "fix" in a:
            after = a["after"]
            yield f"         fix: {a['fix']}"
            yield f"         proof: with Host {after['host']}: {after['status']}, cluster {after['cluster']}, {'mutual TLS' if after['mtls'] else 'plain text'}"
        yield f"         {a['source']}"
        yield ""
    count = {v: sum(1 for a in answers if a["verdict"] == v) for v in ("arrives", "breaks", "latent", "unknown")}  # fmt: skip
    yield ", ".join(f"{n} {v}" for v, n in count.items() if n) or "no route"
