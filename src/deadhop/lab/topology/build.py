"""A topology to devices, addresses, routes and rules, in the order in which the kernel accepts them."""

from __future__ import annotations

import os

from deadhop.lab.topology.made import Lab, LabError
from deadhop.model.topology import CONF_DEFAULTS, GLOBAL_DEFAULTS, Change, LinkSpec, NamespaceSpec, Topology

_RESTORE = {
    "legacy": "iptables-legacy-restore",
    "nft": "iptables-nft-restore",
    "legacy6": "ip6tables-legacy-restore",
    "nft6": "ip6tables-nft-restore",
}


def build(lab: Lab, topology: Topology) -> None:
    """Makes everything but the services. Raises :class:`LabError`; the lab is then closed by its holder."""
    for key, value in topology.machine.items():
        lab.machine_sysctl(key, value)
    for name, spec in topology.namespaces.items():
        lab.add(name)
        _defaults(lab, name)
        for path, text in spec.files.items():
            lab.write(name, path, text)
    for link in topology.links:
        _link(lab, link)
    for link in topology.links:
        _up(lab, link)
    for name, spec in topology.namespaces.items():
        _state(lab, name, spec)
    _settle(lab, list(topology.namespaces))


def change(lab: Lab, name: str, wanted: Change) -> None:
    """A fault or a fix, for real. Raises :class:`LabError`."""
    for path, text in wanted.files.items():
        lab.write(name, path, text)
    for key, value in wanted.sysctls.items():
        lab.sysctl(name, key, value)
    lab.ip(name, wanted.ip)
    _tc(lab, name, wanted.tc)
    if wanted.nft:
        lab.must(name, ["nft", "-f", "-"], wanted.nft)
    for command in wanted.run:
        lab.must(name, command)


def _defaults(lab: Lab, name: str) -> None:
    """The kernel's own defaults instead of the values that the host has by now (devconf_inherit_init_net)."""
    for key, value in GLOBAL_DEFAULTS.items():
        lab.sysctl(name, key, value)
    for where in ("all", "default", "lo"):
        for key, value in CONF_DEFAULTS.items():
            lab.sysctl(name, f"net.ipv4.conf.{where}.{key}", value)
    with lab.inside(name):
        for where in ("all", "default"):  # duplicate address detection takes a second per address
            for key in ("accept_dad", "dad_transmits", "router_solicitations"):
                path = f"/proc/sys/net/ipv6/conf/{where}/{key}"
                if os.path.exists(path):
                    with open(path, "w") as setting:
                        setting.write("0")


def _link(lab: Lab, link: LinkSpec) -> None:
    name, _, dev = link.dev.partition("/")
    words = [f"link add name {dev}"]
    if link.kind == "macvlan" and "/" in link.over:
        lower, _, card = link.over.partition("/")
        words = [f"link add link {card} name {dev} netns {lab.full(name)}"]
        name = lower
    if link.mac:
        words.append(f"address {link.mac}")
    if link.mtu:
        words.append(f"mtu {link.mtu}")
    if link.over and "/" not in link.over and link.kind in ("vlan", "macvlan"):
        words.insert(0, words.pop(0).replace("link add", f"link add link {link.over}"))
    if link.kind in ("tun", "tap"):
        lab.ip(name, [f"tuntap add dev {dev} mode {link.kind} {link.options}".strip()])
        if link.mtu:
            lab.ip(name, [f"link set dev {dev} mtu {link.mtu}"])
        return
    words.append(f"type {link.kind}")
    if link.kind == "veth":
        other, _, peer = link.peer.partition("/")
        words.append(f"peer name {peer}")
        mtu = link.peer_mtu or link.mtu
        words += [f"mtu {mtu}"] if mtu else []
        words += [f"address {link.peer_mac}"] if link.peer_mac else []
        words.append(f"netns {lab.full(other)}")
    elif link.kind == "vxlan":
        words.append(f"id {link.id} dstport {link.port}")
        words += [f"local {link.local}"] if link.local else []
        words += [f"remote {link.remote}"] if link.remote else []
        words += [f"dev {link.over}"] if link.over else []
    elif link.kind == "macvlan":
        words.append(f"mode {link.mode}")
    elif link.kind == "vlan":
        words.append(f"id {link.id}")
    elif link.kind == "vrf":
        words.append(f"table {link.id}")
    elif link.kind == "ipip":
        words.append(f"local {link.local} remote {link.remote}")
    lab.ip(name, [" ".join([*words, link.options]).strip()])
    lab.ip(name, [f"link set dev {port} master {dev}" for port in link.ports])


def _up(lab: Lab, link: LinkSpec) -> None:
    arp = "" if link.arp else " arp off"
    if link.up:
        name, _, dev = link.dev.partition("/")
        lab.ip(name, [f"link set dev {dev}{arp} up"])
        if link.peer:
            name, _, dev = link.peer.partition("/")
            lab.ip(name, [f"link set dev {dev}{arp} up"])


def _state(lab: Lab, name: str, spec: NamespaceSpec) -> None:
    lab.ip(name, [f"addr add {a} dev {dev}" for dev, all_ in spec.addresses.items() for a in all_])
    for key, value in spec.sysctls.items():
        lab.sysctl(name, key, value)
    lab.ip(name, [f"nexthop add {line}" for line in spec.nexthops])
    lab.ip(name, [_route(line) for line in spec.routes])
    lab.ip(name, [_rule(line) for line in spec.rules])
    lab.ip(name, [f"neigh replace {line}" for line in spec.neighbours])
    if spec.nft:
        lab.must(name, ["nft", "-f", "-"], spec.nft)
    for backend, text in spec.iptables.items():
        lab.must(name, [_RESTORE[backend]], text)
    _tc(lab, name, spec.tc)


def _route(line: str) -> str:
    return f"route add {line}"


def _rule(line: str) -> str:
    """``100: from all lookup 5`` in the words of ``ip rule add``."""
    priority, _, rest = line.partition(":")
    if not priority.strip().isdigit():
        raise LabError(f"rule {line!r}: a rule begins with its priority, as ip rule lists it")
    six = "-6 " if ":" in rest else ""
    return f"{six}rule add {rest.strip()} priority {priority.strip()}"


def _tc(lab: Lab, name: str, lines: list[str]) -> None:
    if lines:
        lab.must(name, ["tc", "-batch", "-"], "\n".join(lines) + "\n")


def _settle(lab: Lab, names: list[str]) -> None:
    """IPv6 addresses get their local routes from a work queue: asks until two listings are equal."""
    for name in names:
        before = ""
        while (now := lab.must(name, ["ip", "-6", "route", "show", "table", "all"])) != before:
            before = now
