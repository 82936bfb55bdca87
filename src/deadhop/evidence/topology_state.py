"""What a topology says about one of its namespaces, as the records that a listing of the real one would give.

The kernel's own part is added as the kernel adds it: local, broadcast and connected routes of each address
(net/ipv4/fib_frontend.c fib_add_ifaddr), the device of a gateway, the three built-in rules, devices' defaults. Rule sets
stay text, as they are written: only nft itself can say what they are in JSON, so a walk through them is unknown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import msgspec

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, Lines
from deadhop.evidence.formats.ip_neigh import FORMAT as NEIGH
from deadhop.evidence.formats.ip_route import FORMAT as ROUTE
from deadhop.evidence.formats.nft_text import FORMAT as NFT
from deadhop.evidence.namespace import text
from deadhop.model.encapsulation import encapsulation
from deadhop.model.net import Address, Link, Listing, NextHop, Route, Rule, Sysctl
from deadhop.model.netns import default_rules
from deadhop.model.record import Record, Source
from deadhop.model.topology import CONF_DEFAULTS, GLOBAL_DEFAULTS, LinkSpec, NamespaceSpec, Topology

_SAVES = {
    "legacy": text.iptables_legacy_save, "nft": text.iptables_save,
    "legacy6": text.ip6tables_legacy_save, "nft6": text.ip6tables_save,
}  # fmt: skip


def state(topology: Topology, name: str, file: str) -> list[Record]:
    """The records of namespace ``name``, each with the place of the namespace in the file."""
    spec = topology.namespaces[name]
    found: list[Record] = []
    links = list(_links(topology, name))
    found += links
    addresses = list(_addresses(spec))
    found += addresses
    up = {link.ifname for link in links if link.up}
    connected = [route for address in addresses if address.ifname in up for route in _own_routes(address)]
    found += connected
    found += [_resolved(route, connected) for route in _parsed(spec.routes, Route, file)]
    rules = [r for r in _parsed(spec.rules, Rule, file) if isinstance(r, Rule)]
    found += [*default_rules(4), *default_rules(6), *rules]
    found += _parsed(spec.neighbours, Record, file, neighbours=True)
    found += _sysctls(spec, [link.ifname for link in links])
    if spec.nft:
        found += _lines(NFT.read, spec.nft.splitlines(), file)
    for backend, saved in spec.iptables.items():
        found += _SAVES[backend](saved.encode(), file)
    found += [
        Listing(what=what)
        for what in ("links", "addresses", "routes4", "rules4", "rules6", "neighbours", "conntrack")
    ]
    found += [] if spec.nexthops else [Listing(what="nexthops")]
    if not spec.nft:
        found += [Listing(what=what) for what in ("nft", "iptables", "iptables-legacy")]
    source = Source(file, path=f"#namespaces/{name}")
    return [msgspec.structs.replace(record, source=source) for record in found]


def _links(topology: Topology, name: str) -> Iterator[Link]:
    yield Link(
        ifname="lo", ifindex=1, mtu=65536, flags=("LOOPBACK", "UP", "LOWER_UP"), link_type="loopback",
        address="00:00:00:00:00:00", operstate="UNKNOWN",
    )  # fmt: skip
    masters = {
        f"{link.dev.partition('/')[0]}/{port}": link.dev.partition("/")[2]
        for link in topology.links
        for port in link.ports
    }
    mtus: dict[str, int] = {}
    indexes = _indexes(topology)
    spaces = list(topology.namespaces)
    for link in topology.links:
        for end, mtu, mac in (
            (link.dev, link.mtu, link.mac),
            (link.peer, link.peer_mtu or link.mtu, link.peer_mac),
        ):
            where, _, dev = end.partition("/")
            if where != name:
                continue
            other = link.peer if end == link.dev else link.dev
            lower = other if link.peer else link.over if "/" in link.over else ""
            away = lower and lower.partition("/")[0] != name
            mtus[dev] = mtu or _default_mtu(link, mtus)
            yield Link(
                ifname=dev,
                ifindex=indexes[end],
                mtu=mtus[dev],
                flags=_flags(link),
                operstate="UP" if link.up else "DOWN",
                link_type="none" if link.kind == "tun" else "ether",
                address=mac or None,
                kind="tun" if link.kind == "tap" else link.kind,
                master=masters.get(end),
                link=(str(indexes[lower]) if away else lower.partition("/")[2] or link.over) or None,
                link_netnsid=spaces.index(lower.partition("/")[0]) if away else None,
                info=_info(link),
            )


def _indexes(topology: Topology) -> dict[str, int]:
    """Each device's ifindex: the kernel numbers those of a namespace in the order in which they are made."""
    found: dict[str, int] = {}
    made: dict[str, int] = {}
    for link in topology.links:
        for end in (link.dev, link.peer):
            if end:
                where = end.partition("/")[0]
                made[where] = made.get(where, 1) + 1
                found[end] = made[where]
    return found


def _info(link: LinkSpec) -> dict[str, Any] | None:
    """What ``ip -d link`` shows of a device's own options."""
    if link.kind == "vxlan":
        return {"id": link.id, "local": link.local, "remote": link.remote, "port": link.port}
    if link.kind == "ipip":
        return {"local": link.local, "remote": link.remote}
    return {"mode": link.mode} if link.kind == "macvlan" else {"id": link.id} if link.kind == "vlan" else None


def _flags(link: LinkSpec) -> tuple[str, ...]:
    flags = ("BROADCAST", "MULTICAST") if link.kind not in ("tun", "ipip", "wireguard") else ("POINTOPOINT",)
    return (*flags, *(() if link.arp else ("NOARP",)), *(("UP", "LOWER_UP") if link.up else ()))


def _default_mtu(link: LinkSpec, known: dict[str, int]) -> int:
    """A tunnel takes its headers off the MTU of the device that it is made over, and takes 1500 without one."""
    lower = known.get(link.over, 1500)
    row = encapsulation("", link.kind) if link.kind in ("vxlan", "ipip", "wireguard") else None
    if link.kind == "wireguard":
        return 1420  # drivers/net/wireguard/device.c wg_setup: room for either underlay
    return lower - row.over_v4 if row and link.over else lower


def _addresses(spec: NamespaceSpec) -> Iterator[Address]:
    yield Address(ifname="lo", local="127.0.0.1", prefixlen=8, family=4, scope="host")
    yield Address(ifname="lo", local="::1", prefixlen=128, family=6, scope="host")
    for dev, all_ in spec.addresses.items():
        for written in all_:
            address = ipaddress.ip_interface(written)
            yield Address(
                ifname=dev,
                local=str(address.ip),
                prefixlen=address.network.prefixlen,
                family=address.version,
                scope="link" if address.is_link_local and address.version == 6 else "global",
            )


def _own_routes(address: Address) -> Iterator[Route]:
    """What the kernel adds for an address of a device that is up."""
    network = ipaddress.ip_interface(f"{address.local}/{address.prefixlen}").network
    legs = (NextHop(dev=address.ifname),)
    four = address.family == 4
    yield Route(
        family=address.family, dst=address.local, type="local", table="local", legs=legs, protocol="kernel",
        scope="host" if four else None, prefsrc=address.local if four else None,
    )  # fmt: skip
    loopback = address.ifname == "lo"
    if four and address.prefixlen < 31:
        yield Route(
            family=4, dst=str(network.broadcast_address), type="broadcast", table="local", legs=legs,
            protocol="kernel", scope="link", prefsrc=address.local,
        )  # fmt: skip
    if four and loopback:
        yield Route(
            family=4, dst=str(network), type="local", table="local", legs=legs, protocol="kernel", scope="host",
            prefsrc=address.local,
        )  # fmt: skip
    elif network.num_addresses > 1:
        yield Route(
            family=address.family, dst=str(network), legs=legs, protocol="kernel",
            scope="link" if four else None, prefsrc=address.local if four else None,
            metric=None if four else 256,
        )  # fmt: skip


def _lines(read: object, rows: list[str], file: str) -> list[Record]:
    lines, context, at = Lines(file, rows), Context(file), 0
    found: list[Record] = []
    while at < len(rows):
        after, records = read(lines, at, context)  # type: ignore[operator]
        found += records
        at = max(after, at + 1)
    return found


def _parsed(rows: list[str], kind: type[Record], file: str, neighbours: bool = False) -> list[Record]:
    reader = NEIGH.read if neighbours else ROUTE.read
    made = [
        record for row in rows for record in _lines(reader, [row + " PERMANENT" if neighbours else row], file)
    ]
    return [record for record in made if isinstance(record, kind) and not isinstance(record, Listing)]


def _resolved(record: Record, connected: list[Route]) -> Record:
    """The route with the device of its gateway, as the kernel finds it (fib_check_nh)."""
    if not isinstance(record, Route):
        return record
    legs = []
    for leg in record.legs:
        if leg.gateway and not leg.dev and is_ip(leg.gateway):
            gateway = ipaddress.ip_address(leg.gateway)
            holds = [
                r
                for r in connected
                if r.table == "main" and "/" in r.dst and gateway in ipaddress.ip_network(r.dst)
            ]
            best = max(holds, key=lambda r: ipaddress.ip_network(r.dst).prefixlen, default=None)
            leg = msgspec.structs.replace(leg, dev=best.legs[0].dev if best else None)
        legs.append(leg)
    gatewayed = any(leg.gateway for leg in legs)
    scope = record.scope or (None if record.family == 6 or gatewayed or record.type != "unicast" else "link")
    return msgspec.structs.replace(record, legs=tuple(legs), scope=scope, protocol=record.protocol or "boot")


def _sysctls(spec: NamespaceSpec, devices: list[str]) -> list[Sysctl]:
    values = dict(GLOBAL_DEFAULTS)
    for dev in ("all", "default", *devices):
        place = dev.replace(".", "/")
        values |= {f"net.ipv4.conf.{place}.{key}": value for key, value in CONF_DEFAULTS.items()}
        values |= {f"net.ipv6.conf.{place}.forwarding": "0", f"net.ipv6.conf.{place}.disable_ipv6": "0"}
    for key, value in spec.sysctls.items():
        version = key.split(".")[1]
        if key in ("net.ipv4.ip_forward", f"net.{version}.conf.all.forwarding"):
            every = [k for k in values if k.startswith(f"net.{version}.conf.") and k.endswith(".forwarding")]
            values |= dict.fromkeys(
                [*every, *(["net.ipv4.ip_forward"] if version == "ipv4" else [])], str(value)
            )
        values[key] = str(value)
    return [Sysctl(key=key, value=value) for key, value in values.items()]
