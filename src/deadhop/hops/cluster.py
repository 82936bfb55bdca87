"""The objects of a cluster, compiled once for many connections: mesh, policies, cluster DNS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deadhop.hops.mesh.api import Mesh, Proxies
from deadhop.hops.mesh.decode import meta_of, table
from deadhop.hops.naming.clusterdns import cluster_dns
from deadhop.hops.naming.lookup import Resolved, look_up
from deadhop.hops.naming.podconf import as_configured, pod_conf
from deadhop.hops.policy.peers import Peer
from deadhop.hops.resolver import Profile
from deadhop.hops.service.registry import MeshService
from deadhop.model.mesh import AppFact
from deadhop.model.observed.kube import POLICIES, KubeObject


class Cluster:
    """The objects of a cluster, compiled once. ``facts`` is what is known of applications beyond the objects,
    ``proxies`` what proxies really run, which decides before what the objects imply."""

    def __init__(
        self,
        documents: Iterable[Mapping[str, Any]],
        policies: Iterable[KubeObject] = (),
        facts: Iterable[AppFact] = (),
        envoy: str | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self.proxies = proxies or {}
        self.mesh = Mesh.from_objects(documents)
        self.policies = tuple(policies)
        self.dns = cluster_dns(self.mesh)
        self._specs = {meta_of(d).key: table(d.get("spec")) for d in self.mesh.of_kind("Pod")}
        self.facts = tuple(facts)
        self.envoy = envoy
        self._by_ip = {ip: pod for pod in self.mesh.pods.values() for ip in pod.ips}

    @classmethod
    def of(cls, objects: Iterable[KubeObject], proxies: Proxies | None = None) -> Cluster:
        """The cluster of an evidence's objects; those of which only a part was seen are left out."""
        whole = [o for o in objects if o.raw.get("kind")]
        return cls([o.raw for o in whole], [o for o in whole if isinstance(o, POLICIES)], proxies=proxies)

    def peer(self, who: str) -> Peer:
        """The end named ``namespace/pod`` or an address, as policy sees it."""
        pod = self.mesh.pods.get(who) or self._by_ip.get(who)
        if pod is None or pod.host_network:
            return Peer(
                name=who, ip=pod.ips[0] if pod and pod.ips else who, entity="host" if pod else "world"
            )
        return Peer(
            name=pod.key, namespace=pod.namespace, labels=dict(pod.labels), namespace_labels=self.mesh.namespaces.get(pod.namespace),
            ip=pod.ips[0] if pod.ips else "", ports=dict(pod.ports),
        )  # fmt: skip

    def look_up(self, client: str, name: str, profile: Profile) -> Resolved | None:
        """The lookup as the pod does it; None where the evidence has no Corefile or not the pod."""
        pod = self.mesh.pods.get(client) or self._by_ip.get(client)
        spec = self._specs.get(pod.key) if pod else None
        if self.dns is None or pod is None or spec is None:
            return None
        profile = as_configured(profile, spec)
        conf = pod_conf(spec, pod.namespace, self.dns.server, self.dns.domain)
        servers = [self.peer(address) for address, _ in self.dns.backends]
        found = look_up(self.dns, conf, profile, name, self.peer(client), servers, self.policies)
        unseen = self._unseen(name) if found.error and not found.blamed else ""
        if unseen:
            text = f"no object of the namespace {unseen} is in the evidence, so {name} may exist there"
            return Resolved(unknown=text, steps=found.steps)
        return found

    def _unseen(self, name: str) -> str:
        """The namespace that ``SERVICE.NAMESPACE`` names, where the evidence holds nothing of it."""
        words = name.rstrip(".").lower().removesuffix(f".svc.{self.dns.domain if self.dns else ''}")
        labels = words.removesuffix(".svc").split(".")
        seen = {*self.mesh.namespaces, *(s.namespace for s in self.mesh.services)}
        return labels[1] if len(labels) == 2 and labels[1] not in seen else ""

    def service(self, name: str, namespace: str) -> MeshService | None:
        """The Service or entry that a name means for a client in ``namespace`` (the search list of cluster DNS)."""
        name = name.rstrip(".").lower()
        domain = self.mesh.cluster_domain
        for candidate in (
            name,
            f"{name}.{namespace}.svc.{domain}",
            f"{name}.svc.{domain}",
            f"{name}.{domain}",
        ):
            found = self.mesh.by_host.get(candidate)
            if found:
                return found[0]
        for services in self.mesh.by_host.values():
            if name in services[0].aliases:
                return services[0]
        return None
