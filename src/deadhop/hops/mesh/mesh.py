"""The mesh compiled once from its objects: frozen parts, indexes for fast walks, and the problems met on the way.

A :class:`Mesh` never changes; :meth:`Mesh.changed` makes another one with objects added, replaced or removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deadhop.hops.mesh.authz import AuthorizationPolicies, compile_authorization_policy
from deadhop.hops.mesh.config import MeshConfig, compile_config, istiod_environment
from deadhop.hops.mesh.decode import address, dig, labels, meta_of, rows, selector_matches, table, text
from deadhop.hops.mesh.destinationrule import DestinationRules, compile_destination_rule
from deadhop.hops.mesh.jwt import RequestPolicies, compile_request_authentication
from deadhop.hops.mesh.mtls_server import PeerPolicies, compile_peer_authentication
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.scope import Scope, Sidecars, compile_sidecar
from deadhop.hops.mesh.virtualservice import compile_virtual_service, with_delegates
from deadhop.hops.mesh.workload import TLS_MODE_LABEL, Workload, compile_workload
from deadhop.hops.service.aliases import with_aliases
from deadhop.hops.service.compile import (
    compile_service,
    compile_service_entry,
    slice_endpoints,
    subset_endpoints,
)
from deadhop.hops.service.registry import Endpoint, MeshService, Resolution, ServicePort

Document = Mapping[str, Any]


def flatten(docs: Iterable[object]) -> Iterable[Document]:
    """The objects, with ``List`` documents opened; what is no mapping is passed over."""
    for doc in docs:
        if not isinstance(doc, Mapping):
            continue
        kind = text(doc.get("kind"))
        if kind.endswith("List") and isinstance(doc.get("items"), list):
            inner = kind.removesuffix("List")
            for item in rows(doc["items"]):
                yield item if "kind" in item or not inner else {**item, "kind": inner}
        else:
            yield doc


class Mesh:
    """Everything the objects say about who reaches whom and how. Build with :meth:`from_objects`."""

    def __init__(self, docs: Iterable[object], cluster_domain: str = "cluster.local") -> None:
        self.problems: list[str] = []
        self.cluster_domain = cluster_domain
        unique: dict[tuple[str, str, str], Document] = {}
        for doc in flatten(docs):
            meta = meta_of(doc)
            if meta.kind and meta.name:
                unique[meta.kind, meta.namespace, meta.name] = doc
            else:
                self.problems.append(f"an object of kind {meta.kind or '?'} has no name or no kind")
        self.documents: tuple[Document, ...] = tuple(unique.values())
        self._by_kind: dict[str, list[Document]] = {}
        for (kind, _, _), doc in unique.items():
            self._by_kind.setdefault(kind, []).append(doc)
        self.config = self._configure()
        root = self.config.root_namespace
        self.namespaces = {
            meta_of(d).name: labels(dig(d, "metadata", "labels")) for d in self.of_kind("Namespace")
        }
        self.pods: dict[str, Workload] = {}
        self.pod_by_ip: dict[str, Workload] = {}
        self.host_ports: dict[tuple[str, int], Workload] = {}
        for doc in self.of_kind("Pod"):
            pod = compile_workload(doc, meta_of(doc), self.config.http10)
            self.pods[pod.key] = pod
            if pod.phase in ("Succeeded", "Failed"):
                continue
            for ip in map(address, pod.ips):
                if pod.host_network:
                    self.host_ports.update({(ip, number): pod for _, number in pod.ports})
                else:
                    self.pod_by_ip[ip] = pod
        self.services: list[MeshService] = self._register()
        self.peer = PeerPolicies(map(compile_peer_authentication, self.of_kind("PeerAuthentication")), root)
        self.authz = AuthorizationPolicies(
            map(compile_authorization_policy, self.of_kind("AuthorizationPolicy")), root
        )
        self.tokens = RequestPolicies(
            map(compile_request_authentication, self.of_kind("RequestAuthentication")), root
        )
        self.sidecars = Sidecars(map(compile_sidecar, self.of_kind("Sidecar")), root)
        domain, config = cluster_domain, self.config
        self.rules = DestinationRules(
            (
                compile_destination_rule(d, domain, config.destination_rule_export)
                for d in self.of_kind("DestinationRule")
            ),
            root,
        )
        self.virtual_services = with_delegates(
            compile_virtual_service(d, domain, config.virtual_service_export)
            for d in self.of_kind("VirtualService")
        )
        self.cache: dict[Any, Any] = {}
        self._index()

    @classmethod
    def from_objects(cls, docs: Iterable[object], *, cluster_domain: str = "cluster.local") -> Mesh:
        """Compile decoded Kubernetes and Istio documents. Never raises on odd shapes; see :attr:`problems`.

        Of several documents of one kind, namespace and name the last counts.
        """
        return cls(docs, cluster_domain)

    def changed(
        self,
        *,
        put: Iterable[Document] = (),
        remove: Iterable[tuple[str, str]] = (),
    ) -> Mesh:
        """Another mesh: ``put`` adds objects or replaces those of the same kind, namespace and name;
        ``remove`` drops ``(kind, "namespace/name")``."""
        new = list(flatten(put))
        gone = {(m.kind, m.key) for m in map(meta_of, new)} | set(remove)
        kept = [d for d in self.documents if ((m := meta_of(d)).kind, m.key) not in gone]
        return Mesh([*kept, *new], self.cluster_domain)

    def of_kind(self, kind: str) -> list[Document]:
        """The objects of a kind, as they were decoded."""
        return self._by_kind.get(kind, [])

    def _configure(self) -> MeshConfig:
        maps = [d for d in self.of_kind("ConfigMap") if meta_of(d).name == "istio"]
        maps.sort(key=lambda d: meta_of(d).namespace != "istio-system")
        env = next(
            (istiod_environment(d) for d in self.of_kind("Deployment") if meta_of(d).name == "istiod"), {}
        )
        config, problem = compile_config(maps[0] if maps else None, env, self.cluster_domain)
        if problem:
            self.problems.append(problem)
        return config

    def _register(self) -> list[MeshService]:
        domain, export = self.cluster_domain, self.config.service_export
        pod_labels = {k: p.labels for k, p in self.pods.items()}
        sliced: dict[str, list[Endpoint]] = {}
        for doc in self.of_kind("EndpointSlice"):
            owner = text(dig(doc, "metadata", "labels", "kubernetes.io/service-name"))
            sliced.setdefault(f"{meta_of(doc).namespace}/{owner}", []).extend(
                slice_endpoints(doc, pod_labels)
            )
        listed = {meta_of(d).key: subset_endpoints(d, pod_labels) for d in self.of_kind("Endpoints")}
        said = bool(sliced or listed)
        services = []
        for doc in self.of_kind("Service"):
            meta = meta_of(doc)
            endpoints = sliced.get(meta.key) or listed.get(meta.key) or []
            service = compile_service(doc, meta, endpoints, domain, export)
            if not said and service.selector:
                service = compile_service(doc, meta, self._from_pods(service), domain, export)
            services.append(service)
        for doc in self.of_kind("ServiceEntry"):
            meta = meta_of(doc)
            wanted = labels(dig(doc, "spec", "workloadSelector", "labels"))
            services += compile_service_entry(doc, meta, self._selected(doc, wanted), domain, export)
        return with_aliases(sorted(services, key=lambda s: s.meta.order))

    def _from_pods(self, service: MeshService) -> list[Endpoint]:
        out = []
        for pod in self.pods.values():
            if (
                pod.namespace != service.namespace
                or not selector_matches(service.selector, pod.labels)
                or not pod.ips
            ):
                continue
            ports = {p.name: n for p in service.ports if (n := target_port(p, pod)) is not None}
            out.append(Endpoint(address(pod.ips[0]), ports, pod.ready, pod.key, pod.labels))
        return out

    def _selected(self, doc: Document, wanted: Mapping[str, str]) -> list[Endpoint]:
        if not wanted:
            return []
        namespace = meta_of(doc).namespace
        ports = {text(p.get("name")): p for p in rows(dig(doc, "spec", "ports"))}
        numbers = {n: p.get("targetPort") or p.get("number") for n, p in ports.items()}
        clean = {n: v for n, v in numbers.items() if isinstance(v, int)}
        out = [
            Endpoint(address(pod.ips[0]), clean, pod.ready, pod.key, pod.labels)
            for pod in self.pods.values()
            if pod.namespace == namespace and pod.ips and selector_matches(wanted, pod.labels)
        ]
        for entry in self.of_kind("WorkloadEntry"):
            own = labels(dig(entry, "spec", "labels"))
            if meta_of(entry).namespace == namespace and selector_matches(wanted, own):
                mapped = {n: v for n, v in table(dig(entry, "spec", "ports")).items() if isinstance(v, int)}
                out.append(
                    Endpoint(address(text(dig(entry, "spec", "address"))), {**clean, **mapped}, True, "", own)
                )
        return out

    def _index(self) -> None:
        self.by_host: dict[str, list[MeshService]] = {}
        self.by_port: dict[int, list[tuple[MeshService, ServicePort]]] = {}
        self.by_vip: dict[str, MeshService] = {}
        self.by_address: dict[tuple[str, int], list[tuple[MeshService, ServicePort]]] = {}
        self.with_blocks: list[MeshService] = []
        self.by_pod: dict[str, list[MeshService]] = {}
        for service in self.services:
            self.by_host.setdefault(service.host, []).append(service)
            if service.resolution is Resolution.ALIAS:
                continue
            if service.kubernetes:
                for vip in (*service.vips, *service.external_addresses):
                    self.by_vip.setdefault(vip, service)
            if service.blocks:
                self.with_blocks.append(service)
            for endpoint in service.endpoints:
                if endpoint.pod:
                    members = self.by_pod.setdefault(endpoint.pod, [])
                    if not members or members[-1] is not service:
                        members.append(service)
            for port in service.ports:
                family = port.protocol.family
                if family is Family.UDP:
                    continue
                self.by_port.setdefault(port.number, []).append((service, port))
                if family is Family.HTTP:
                    continue
                own: Iterable[str] = service.vips
                if service.headless and not service.vips:
                    own = [e.address for e in service.endpoints if e.ready]
                for ip in own:
                    self.by_address.setdefault((ip, port.number), []).append((service, port))

    def scope_of(self, workload: Workload) -> Scope:
        """What this workload's proxy sees."""
        key = (
            "scope",
            workload.namespace,
            tuple(sorted(workload.labels.items())) if self._selective(workload) else (),
        )
        if key not in self.cache:
            self.cache[key] = self.sidecars.scope(
                workload.namespace, workload.labels, self.config.outbound_mode
            )
        found: Scope = self.cache[key]
        return found

    def _selective(self, workload: Workload) -> bool:
        return workload.namespace in self.sidecars.selecting

    def pod_of(self, ip: str, port: int) -> Workload | None:
        """The running pod with this address; in the host's network, which pods share, the one that declares the port."""
        return self.pod_by_ip.get(ip) or self.host_ports.get((ip, port))

    def endpoint_tls(self, endpoint: Endpoint) -> bool:
        """Does the endpoint's label say that its sidecar takes mutual TLS?"""
        return endpoint.labels.get(TLS_MODE_LABEL) == "istio"


def target_port(port: ServicePort, pod: Workload) -> int | None:
    """The container port behind a Service port on one pod; None where no container port has that name."""
    return port.target if isinstance(port.target, int) else pod.port_named(port.target)
