"""A topology: namespaces, links, services and steps, as a lab builds and plays them and as a snapshot reads them.

Addresses, routes, rules and neighbours are written in the words in which ``ip`` lists them, so that the file says what
a listing would. A device is ``NAMESPACE/DEVICE`` wherever a link names it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MARK = "topology/1"


class Change(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a fault or a fix does in one namespace, in this order. ``ip``, ``tc`` and ``nft`` lines are those tools'
    own arguments; ``files`` are contents by path; ``run`` are shell lines."""

    files: dict[str, str] = {}
    sysctls: dict[str, str | int] = {}
    ip: list[str] = []
    tc: list[str] = []
    nft: str = ""
    run: list[str] = []


class NamespaceSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One network namespace. ``addresses`` maps a device to ``ADDRESS/LENGTH``; ``iptables`` maps a backend
    (``legacy``, ``nft``, ``legacy6``, ``nft6``) to a text for its restore command; ``files`` exist for the
    namespace's processes only."""

    role: Literal["node", "pod", "host", "router", "server"] = "host"
    node: str = ""
    labels: dict[str, str] = {}
    addresses: dict[str, list[str]] = {}
    routes: list[str] = []
    rules: list[str] = []
    neighbours: list[str] = []
    nexthops: list[str] = []
    sysctls: dict[str, str | int] = {}
    nft: str = ""
    iptables: dict[Literal["legacy", "nft", "legacy6", "nft6"], str] = {}
    tc: list[str] = []
    files: dict[str, str] = {}


class LinkSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One device, or a veth pair. ``mtu`` is in bytes (0: the kernel's default); ``over`` names the lower device of a
    vlan, macvlan or vxlan; ``ports`` those of a bridge; ``options`` further words of ``ip link add``."""

    kind: Literal[
        "veth", "bridge", "vxlan", "macvlan", "vlan", "dummy", "tun", "tap", "vrf", "ipip", "wireguard"
    ]
    dev: str
    peer: str = ""
    mtu: int = 0
    peer_mtu: int = 0
    mac: str = ""
    peer_mac: str = ""
    arp: bool = True
    up: bool = True
    over: str = ""
    id: int = 0
    local: str = ""
    remote: str = ""
    port: int = 4789
    mode: str = "bridge"
    ports: list[str] = []
    options: str = ""


class Service(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"in_": "in"}):
    """A server in a namespace. ``listen`` is ``ADDRESS:PORT``. ``pmtudisc`` is the socket's IP_MTU_DISCOVER mode.

    ``dns`` answers SRV questions, those whose name holds ``big`` with ``records`` records; ``http`` answers 200;
    ``udp-echo`` sends back ``size`` bytes (0: what came); ``command`` runs ``command`` and is ready when a line of its
    output matches ``ready``.
    """

    in_: str
    kind: Literal["dns", "http", "udp-echo", "command"]
    listen: str = ""
    pmtudisc: Literal["want", "dont", "do", "probe", "interface", "omit"] = "want"
    records: int = 46
    size: int = 0
    command: str = ""
    ready: str = ""


class Udp(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Datagrams of ``size`` bytes of payload to ``to`` (``ADDRESS:PORT``), each of which an echo answers: ``count``
    from each of ``flows`` source ports."""

    to: str
    size: int = 16
    count: int = 1
    flows: int = 1
    pmtudisc: Literal["want", "dont", "do", "probe", "interface", "omit"] = "dont"
    source: str = ""


class Http(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A GET on a connection of its own, from address ``source``; ``size`` bytes are sent as a body."""

    url: str
    source: str = ""
    size: int = 0


#: A number, exact (``2``, ``+2``) or bounded (``>0``, ``>=2``, ``<12``, ``<=3``).
Amount = int | Annotated[str, msgspec.Meta(pattern=r"^ *(>=|>|<=|<|[+-])? *[0-9]+ *$")]


class Expect(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a step must show. ``answered`` counts datagrams that came back; ``status`` is 0 for no answer.
    ``counters`` and ``drops`` are by namespace: how much a counter moves, and which reasons the kernel gives. ``cause`` is what a diagnosis of the collected evidence finds first."""

    exit: int | None = None
    output: str = ""
    answered: Amount | None = None
    status: int | None = None
    errno: str = ""
    counters: dict[str, dict[str, Amount]] = {}
    drops: dict[str, list[str]] = {}
    cause: str = ""


class Step(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"in_": "in"}):
    """One step: exactly one of ``run``, ``udp``, ``http``, ``fault``, ``fix``, ``capture`` and ``collect``.

    ``capture`` starts a packet capture in namespaces; ``collect`` ends it and writes evidence under its name.
    """

    say: str = ""
    in_: str = ""
    run: str = ""
    udp: Udp | None = None
    http: Http | None = None
    fault: dict[str, Change] = {}
    fix: dict[str, Change] = {}
    capture: list[str] = []
    collect: str = ""
    expect: Expect = msgspec.field(default_factory=Expect)


class Topology(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A topology file. ``needs`` are the programs without which it cannot be played. With ``guest``, the kernel
    modules that it needs, it is played by a kernel of its own in a virtual machine, whose own settings ``machine``
    sets: those that no namespace has."""

    deadhop: Literal["topology/1"]
    name: str
    title: str
    namespaces: dict[str, NamespaceSpec]
    about: str = ""
    needs: list[str] = []
    guest: list[str] = []
    machine: dict[str, str | int] = {}
    links: list[LinkSpec] = []
    services: list[Service] = []
    steps: list[Step] = []


#: What a namespace of a lab starts from: the kernel's compiled defaults (net/ipv4/devinet.c ipv4_devconf,
#: Documentation/networking/ip-sysctl). A new namespace copies the host's values, which may be anything
#: (net.core.devconf_inherit_init_net), so a lab writes these first.
CONF_DEFAULTS: dict[str, str] = {
    "accept_local": "0", "accept_redirects": "1", "accept_source_route": "1", "arp_announce": "0", "arp_filter": "0",
    "arp_ignore": "0", "forwarding": "0", "log_martians": "0", "proxy_arp": "0", "route_localnet": "0",
    "rp_filter": "0", "secure_redirects": "1", "send_redirects": "1", "shared_media": "1", "src_valid_mark": "0",
}  # fmt: skip
GLOBAL_DEFAULTS: dict[str, str] = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.ip_forward_use_pmtu": "0",
    "net.ipv4.ip_no_pmtu_disc": "0",
    "net.ipv4.ip_nonlocal_bind": "0",
    "net.ipv4.fib_multipath_hash_policy": "0",
    "net.ipv4.fwmark_reflect": "0",
    "net.ipv4.tcp_mtu_probing": "0",
    "net.ipv4.icmp_errors_use_inbound_ifaddr": "0",
    "net.ipv4.icmp_ratelimit": "1000",
    "net.ipv4.icmp_ratemask": "6168",
}
