"""Kubernetes objects and what kubectl prints of them.

Objects of every kind keep their decoded manifest in ``raw``; the kinds that causes ask for have a class of their
own, so that a cause can declare what it reads. Tables (``kubectl get``) and ``kubectl describe`` yield the same
classes with what they show.
"""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop.model.record import Record


def mapping(value: Any, *path: str) -> dict[str, Any]:
    """The mapping at ``path`` below ``value``; empty where there is none. Manifests of strangers have any shape."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def listing(value: Any, *path: str) -> list[Any]:
    """The list at ``path`` below ``value``; empty where there is none."""
    parent = mapping(value, *path[:-1])
    found = parent.get(path[-1]) if path else value
    return found if isinstance(found, list) else []


def mappings(value: Any, *path: str) -> list[dict[str, Any]]:
    """The mappings in the list at ``path`` below ``value``."""
    return [item for item in listing(value, *path) if isinstance(item, dict)]


class KubeObject(Record, frozen=True, kw_only=True):
    """A manifest. ``flat`` marks one whose indentation was lost and was rebuilt from the schema."""

    kind: str
    name: str = ""
    namespace: str = ""
    api_version: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    raw: dict[str, Any] = msgspec.field(default_factory=dict)
    flat: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        value = self.raw.get("spec")
        return value if isinstance(value, dict) else {}

    @property
    def annotations(self) -> dict[str, Any]:
        meta = self.raw.get("metadata")
        value = meta.get("annotations") if isinstance(meta, dict) else None
        return value if isinstance(value, dict) else {}

    @property
    def ref(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}".rstrip()

    def __hash__(self) -> int:
        return hash((self.kind, self.namespace, self.name, self.source))


class Absent(Record, frozen=True, kw_only=True):
    """What kubectl did not find: an object by name, or with an empty ``name`` any of the kind (in ``namespace``) whose
    labels fit ``selector``."""

    kind: str
    name: str = ""
    namespace: str = ""
    selector: tuple[tuple[str, str], ...] = ()


class Pod(KubeObject, frozen=True, kw_only=True):
    """A pod. ``ready`` is (ready, total) containers; None where not shown."""

    ip: str = ""
    node: str = ""
    ready: tuple[int, int] | None = None
    phase: str = ""
    host_network: bool | None = None
    uid: str = ""

    __hash__ = KubeObject.__hash__


class ServicePort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a Service. ``target`` is a number, a name, or None where the evidence does not show it."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target: int | str | None = None
    node_port: int | None = None
    app_protocol: str = ""


class Service(KubeObject, frozen=True, kw_only=True):
    """A Service. ``cluster_ip`` is ``None`` as text for a headless one, empty where not shown; ``external`` holds the
    addresses or names of its load balancer."""

    cluster_ip: str = ""
    external: tuple[str, ...] = ()
    type: str = ""
    ports: tuple[ServicePort, ...] = ()
    selector: tuple[tuple[str, str], ...] | None = None

    __hash__ = KubeObject.__hash__

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"


class Endpoints(KubeObject, frozen=True, kw_only=True):
    """The endpoints of a Service (Endpoints, EndpointSlice, table). ``ready``/``not_ready`` hold ``ip:port``."""

    service: str = ""
    ready: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()

    __hash__ = KubeObject.__hash__


class Event(Record, frozen=True, kw_only=True):
    """An event. ``count`` is how often it was seen."""

    type: str = ""
    reason: str = ""
    namespace: str = ""
    object: str = ""
    component: str = ""
    message: str = ""
    count: int = 1


class ProbeFailure(Record, frozen=True, kw_only=True):
    """A failed kubelet probe. ``error`` is ``timeout``, ``refused``, ``reset``, ``unreachable``, ``status`` or
    ``other``; ``local`` is the address that the kubelet dialled from where the message shows it."""

    probe: str
    pod: str = ""
    ip: str = ""
    port: int | None = None
    path: str = ""
    error: str
    status: int | None = None
    local: str = ""
    text: str = ""


class ContainerProcess(Record, frozen=True, kw_only=True):
    """A process seen in its cgroup (``systemd-cgls``, ``crictl``): process to container to pod."""

    pid: int
    command: str
    container: str = ""
    pod_uid: str = ""


class NetworkPolicy(KubeObject, frozen=True, kw_only=True):
    """A NetworkPolicy."""

    __hash__ = KubeObject.__hash__


class CiliumNetworkPolicy(KubeObject, frozen=True, kw_only=True):
    """A CiliumNetworkPolicy."""

    __hash__ = KubeObject.__hash__


class CiliumClusterwideNetworkPolicy(KubeObject, frozen=True, kw_only=True):
    """A CiliumClusterwideNetworkPolicy."""

    __hash__ = KubeObject.__hash__


POLICIES = (NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy)
"""The kinds that decide who may talk to whom below HTTP."""


class ConfigMap(KubeObject, frozen=True, kw_only=True):
    """A ConfigMap."""

    __hash__ = KubeObject.__hash__


class Namespace(KubeObject, frozen=True, kw_only=True):
    """A Namespace."""

    __hash__ = KubeObject.__hash__


class Node(KubeObject, frozen=True, kw_only=True):
    """A Node."""

    __hash__ = KubeObject.__hash__

    @property
    def internal_ips(self) -> tuple[str, ...]:
        """Its addresses of type InternalIP; an address whose type was not printed counts where it is the only one."""
        addresses = mappings(self.raw, "status", "addresses")
        alone = len(addresses) == 1 and "type" not in addresses[0]
        return tuple(str(a.get("address")) for a in addresses if a.get("type") == "InternalIP" or alone)


class Ingress(KubeObject, frozen=True, kw_only=True):
    """An Ingress."""

    __hash__ = KubeObject.__hash__


class Gateway(KubeObject, frozen=True, kw_only=True):
    """An Istio Gateway or a Gateway API Gateway."""

    __hash__ = KubeObject.__hash__


class HTTPRoute(KubeObject, frozen=True, kw_only=True):
    """An HTTPRoute."""

    __hash__ = KubeObject.__hash__


class VirtualService(KubeObject, frozen=True, kw_only=True):
    """A VirtualService."""

    __hash__ = KubeObject.__hash__


class DestinationRule(KubeObject, frozen=True, kw_only=True):
    """A DestinationRule."""

    __hash__ = KubeObject.__hash__


class ServiceEntry(KubeObject, frozen=True, kw_only=True):
    """A ServiceEntry."""

    __hash__ = KubeObject.__hash__


class Sidecar(KubeObject, frozen=True, kw_only=True):
    """A Sidecar."""

    __hash__ = KubeObject.__hash__


class PeerAuthentication(KubeObject, frozen=True, kw_only=True):
    """A PeerAuthentication."""

    __hash__ = KubeObject.__hash__


class AuthorizationPolicy(KubeObject, frozen=True, kw_only=True):
    """An AuthorizationPolicy."""

    __hash__ = KubeObject.__hash__


class Secret(KubeObject, frozen=True, kw_only=True):
    """A Secret; its data is never kept."""

    __hash__ = KubeObject.__hash__


class Workload(KubeObject, frozen=True, kw_only=True):
    """A Deployment, DaemonSet, StatefulSet, ReplicaSet, Job or CronJob."""

    __hash__ = KubeObject.__hash__


#: Kubernetes kind to the record class that its manifests become; any other kind is a plain KubeObject.
CLASS_OF_KIND: dict[str, type[KubeObject]] = {
    "Pod": Pod,
    "Service": Service,
    "Endpoints": Endpoints,
    "EndpointSlice": Endpoints,
    "NetworkPolicy": NetworkPolicy,
    "CiliumNetworkPolicy": CiliumNetworkPolicy,
    "CiliumClusterwideNetworkPolicy": CiliumClusterwideNetworkPolicy,
    "ConfigMap": ConfigMap,
    "Namespace": Namespace,
    "Node": Node,
    "Ingress": Ingress,
    "Gateway": Gateway,
    "HTTPRoute": HTTPRoute,
    "VirtualService": VirtualService,
    "DestinationRule": DestinationRule,
    "ServiceEntry": ServiceEntry,
    "Sidecar": Sidecar,
    "PeerAuthentication": PeerAuthentication,
    "AuthorizationPolicy": AuthorizationPolicy,
    "Secret": Secret,
    "GRPCRoute": HTTPRoute,
    "CiliumLocalRedirectPolicy": KubeObject,
    "Deployment": Workload,
    "DaemonSet": Workload,
    "StatefulSet": Workload,
    "ReplicaSet": Workload,
    "Job": Workload,
    "CronJob": Workload,
}
