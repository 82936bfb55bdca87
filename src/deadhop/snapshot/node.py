"""A node's namespace from what a transcript happened to show, with every gap that had to be filled named.

A listing of the main table says nothing of the local table, and nobody prints three hundred sysctls. What the
kernel makes itself from what is known (local routes of known addresses) is added; what is taken for granted is
listed in ``assumed``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from deadhop.model.net import Address, Link, Listing, NextHop, Route, Sysctl
from deadhop.model.netns import NetNamespace, assemble
from deadhop.model.record import Record

#: Values of a per-device IPv4 setting that a walk asks for and nobody lists; the kernel's defaults for a router.
PER_DEVICE: Mapping[str, str] = {
    "forwarding": "1",
    "rp_filter": "0",
    "accept_local": "0",
    "route_localnet": "0",
    "src_valid_mark": "0",
    "send_redirects": "1",
    "log_martians": "0",
    "disable_policy": "0",
    "accept_redirects": "1",
    "shared_media": "1",
    "proxy_arp": "0",
    "bc_forwarding": "0",
    "ignore_routes_with_linkdown": "0",
}
GLOBAL: Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_forward_use_pmtu": "0",
    "net.ipv4.ip_no_pmtu_disc": "0",
    "net.ipv4.ip_early_demux": "1",
    "net.ipv4.fib_multipath_hash_policy": "0",
    "net.ipv4.icmp_errors_use_inbound_ifaddr": "0",
}


def host(state: Iterable[Record], routes: Sequence[Route], name: str = "the node") -> NetNamespace:
    """The namespace of a host from its links, addresses and sysctls, with ``routes`` as its main table."""
    kept = [r for r in state if isinstance(r, (Link, Address, Sysctl))]
    links = {r.ifname for r in kept if isinstance(r, Link)}
    mentioned = {leg.dev for route in routes for leg in route.legs if leg.dev} | {
        r.ifname for r in kept if isinstance(r, Address)
    }
    assumed: list[str] = []
    extra: list[Record] = []
    missing = sorted(mentioned - links)
    for number, dev in enumerate(missing):
        extra.append(
            Link(
                ifname=dev,
                ifindex=100_000 + number,
                flags=("BROADCAST", "UP", "LOWER_UP"),
                mtu=1500,
                link_type="ether",
            )
        )
    if missing:
        assumed.append(f"{', '.join(missing)}: up, MTU 1500")
    extra += [local_route(a) for a in kept if isinstance(a, Address) and a.family == 4]
    known = {r.key for r in kept if isinstance(r, Sysctl)}
    for dev in ("all", "default", *sorted(links | mentioned)):
        path = dev.replace(".", "/")
        extra += [
            Sysctl(key=key, value=value)
            for setting, value in PER_DEVICE.items()
            if (key := f"net.ipv4.conf.{path}.{setting}") not in known
        ]
    extra += [Sysctl(key=key, value=value) for key, value in GLOBAL.items() if key not in known]
    assumed.append("sysctls that nobody printed have the kernel's defaults of a router")
    extra += [
        Listing(what=what)
        for what in ("links", "addresses", "routes4", "neighbours", "conntrack", "nexthops")
    ]
    ns = assemble([*kept, *routes, *extra], name=name).assuming_defaults()
    return ns.replace(assumed=(*assumed, *ns.assumed))


def local_route(address: Address) -> Route:
    """The route in table local that the kernel makes for an address (fib_add_ifaddr)."""
    return Route(
        source=address.source, family=4, dst=address.local, type="local", table="local", scope="host", prefsrc=address.local,
        legs=(NextHop(dev=address.ifname),),
    )  # fmt: skip


def covers(route: Route, address: str) -> bool:
    """Whether an IPv4 route's destination covers ``address``."""
    if route.dst == "default":
        return True
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(route.dst, strict=False)
    except ValueError:
        return False


def best(routes: Iterable[Route], address: str) -> Route | None:
    """The route of the longest prefix that covers ``address``."""
    fitting = [r for r in routes if r.family == 4 and covers(r, address)]
    return max(
        fitting,
        key=lambda r: (
            ipaddress.ip_network(r.dst, strict=False).prefixlen if r.dst != "default" else -1,
            -(r.metric or 0),
        ),
        default=None,
    )
