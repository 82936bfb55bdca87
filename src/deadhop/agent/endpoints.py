"""Endpoints: the network namespaces that the agent enforces policy on, and the addresses it knows elsewhere.

``NAME=netns:PATH,label…`` is a pod of this node: its addresses are read inside the namespace, its device on the
node is the other end of its veth pair. ``NAME=ip:ADDRESS[+ADDRESS…],label…`` is a peer whose labels ``toEndpoints``
may select; a label ``reserved:host`` (or another reserved identity) makes it that entity. NAME is ``namespace/pod``.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from deadhop.fqdn.cache import canonical_ip
from deadhop.hops.policy.cilium import ENTITIES
from deadhop.hops.policy.peers import Peer

_NAME = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?\Z")
RESERVED = "reserved:"


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of an endpoint. ``netns`` is a path, or ``addresses`` are given."""

    namespace: str
    pod: str
    labels: dict[str, str]
    netns: str = ""
    addresses: tuple[str, ...] = ()
    entity: str = ""

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.pod}"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint with its addresses. ``device`` is the node's device towards it, empty for one that is elsewhere."""

    spec: EndpointSpec
    addresses: tuple[str, ...]
    device: str = ""
    id: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def local(self) -> bool:
        return bool(self.device)

    def peer(self, ip: str = "") -> Peer:
        """The endpoint as policy sees it."""
        spec = self.spec
        if spec.entity:
            return Peer(name=self.name, ip=ip, entity=spec.entity)
        return Peer(name=self.name, namespace=spec.namespace, labels=spec.labels, ip=ip)

    @property
    def security_labels(self) -> tuple[str, ...]:
        """The labels as flows show them, with their source."""
        spec = self.spec
        if spec.entity:
            return (f"{RESERVED}{spec.entity}",)
        own = [f"k8s:{key}={value}" for key, value in spec.labels.items()]
        return tuple(sorted([*own, f"k8s:io.kubernetes.pod.namespace={spec.namespace}"]))


def parse(text: str) -> EndpointSpec:
    """Read one ``--endpoint``. Raises ``ValueError`` that says what is wrong."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise ValueError("it has the form NAME=netns:PATH,label=value or NAME=ip:ADDRESS,label=value")
    namespace, slash, pod = name.partition("/")
    if not slash:
        namespace, pod = "default", name
    if not _NAME.match(namespace) or not _NAME.match(pod):
        raise ValueError(f"{name!r} is not a pod's name, or namespace/name")
    place, *given = rest.split(",")
    kind, colon, value = place.partition(":")
    if not colon or not value or kind not in ("netns", "ip"):
        raise ValueError(f"{place!r} is neither netns:PATH nor ip:ADDRESS")
    labels: dict[str, str] = {}
    entity = ""
    for label in given:
        key, _, content = label.partition("=")
        if not key:
            raise ValueError("a label is empty")
        if key.startswith(RESERVED):
            entity = key.removeprefix(RESERVED)
            if entity not in ENTITIES or kind == "netns":
                raise ValueError(f"{label!r} is no reserved identity that a peer can have")
            continue
        for source in ("k8s:", "any:"):
            key = key.removeprefix(source)
        labels[key] = content
    addresses: tuple[str, ...] = ()
    if kind == "ip":
        try:
            addresses = tuple(canonical_ip(part) for part in value.split("+"))
        except ValueError as error:
            raise ValueError(str(error)) from None
    return EndpointSpec(
        namespace=namespace,
        pod=pod,
        labels=labels,
        netns=value if kind == "netns" else "",
        addresses=addresses,
        entity=entity,
    )


def resolve(spec: EndpointSpec) -> Endpoint:
    """Find the addresses and the device of a namespace. Raises ``ValueError`` where it is not reached through here."""
    if not spec.netns:
        return Endpoint(spec=spec, addresses=spec.addresses)
    from pyroute2 import IPRoute, NetNS
    from pyroute2.netlink.exceptions import NetlinkError

    path = spec.netns if "/" in spec.netns else f"/run/netns/{spec.netns}"
    if not Path(path).exists():
        raise ValueError(f"{spec.name}: there is no namespace at {path}")
    try:
        with NetNS(path, flags=0) as inside:
            addresses = tuple(
                canonical_ip(found.get_attr("IFA_ADDRESS"))
                for found in inside.get_addr()
                if found["scope"] == 0
            )
            peers = {link.get_attr("IFLA_LINK") for link in inside.get_links() if link.get_attr("IFLA_LINK")}
            inner = {link["index"] for link in inside.get_links()}
    except (OSError, NetlinkError) as error:
        raise ValueError(f"{spec.name}: cannot look into {path}: {error}") from error
    if not addresses:
        raise ValueError(f"{spec.name}: the namespace at {path} has no address")
    with IPRoute() as here:
        links = [link for index in peers for link in here.get_links() if link["index"] == index]
        device = next(
            (str(link.get_attr("IFLA_IFNAME")) for link in links if link.get_attr("IFLA_LINK") in inner), ""
        )
    if not device:
        raise ValueError(
            f"{spec.name}: the namespace at {path} has no veth whose other end is in this namespace"
        )
    return Endpoint(spec=spec, addresses=addresses, device=device)
