"""Random topologies of the kinds fib, rpf, mtu, nft, v6 and nat, from a seed.

Addresses, tables and options are drawn from small pools on purpose: what matters happens where routes, rules and
packets collide.
"""

from __future__ import annotations

from deadhop.lab.verify.drawing import Drawing
from deadhop.lab.verify.generate_nft import nft_lines
from deadhop.lab.verify.generate_packets import draw_packets
from deadhop.lab.verify.generate_routes import draw_routes4, draw_routes6, draw_rules
from deadhop.lab.verify.router import neighbour_mac
from deadhop.lab.verify.topology import Port, Topology

KINDS = ("fib", "rpf", "mtu", "nft", "v6", "nat")
NAT_TARGETS4 = ("10.0.0.99", "10.1.0.99", "10.2.0.99", "10.9.8.99")
NAT_TARGETS6 = ("fd00::99", "fd00:1::99", "fd09:8:0:1::99")


def generate(seed: int, kind: str | None = None) -> Topology:
    """The topology of a seed; without a kind, seeds take the kinds in turn."""
    draw = Drawing(seed, kind or KINDS[seed % len(KINDS)])
    _ports(draw)
    _sysctls(draw)
    if draw.four:
        draw_routes4(draw)
        draw_rules(draw, 4)
    if draw.six:
        draw_routes6(draw)
        draw_rules(draw, 6)
    if draw.kind in ("nft", "nat"):
        draw.topology.nft = nft_lines(draw.random, draw.names, six=draw.six, nat=draw.kind == "nat")
    draw_packets(draw)
    _neighbours(draw)
    return draw.topology


def _ports(draw: Drawing) -> None:
    pick = draw.random
    for index, name in enumerate(draw.names):
        mtu = pick.choice((1500, 1500, 1500, 9000, 1400))
        if draw.kind == "mtu":
            mtu = pick.choice((1500, 9000, 1400, 1280, 1000, 1492, 900))
        port = Port(name=name, mtu=mtu, up=not draw.chance(0.03), carrier=not draw.chance(0.05))
        if draw.four and not (draw.kind == "rpf" and draw.chance(0.3)):
            length = pick.choice((24, 24, 24, 32, 25))
            broadcast = f" broadcast 10.{index}.0.255" if length == 24 and draw.chance(0.6) else ""
            extra = " noprefixroute" if draw.chance(0.1) else ""
            port.addresses.append(f"10.{index}.0.1/{length}{broadcast}{extra}")
            draw.own(f"10.{index}.0.1")
            if draw.chance(0.2):
                port.addresses.append(f"10.{index}.5.1/25")
                draw.own(f"10.{index}.5.1")
            if draw.chance(0.1):
                port.addresses.append(f"10.{index}.0.2/24")
                draw.own(f"10.{index}.0.2")
        if draw.six and not draw.chance(0.15):
            middle = f":{index}" if index else ""
            port.addresses.append(f"fd00{middle}::1/{pick.choice((64, 64, 64, 128))} nodad")
            draw.own(f"fd00{middle}::1")
        draw.topology.ports.append(port)
    if draw.four and draw.chance(0.4):
        draw.topology.loopback.append("10.255.0.1/32")
        draw.own("10.255.0.1")
    if draw.four and draw.kind == "rpf" and draw.chance(0.2):
        draw.topology.ports[0].addresses.append("169.254.1.1/32")


def _sysctls(draw: Drawing) -> None:
    pick, out = draw.random, draw.topology.sysctls
    scopes = ["all", *draw.names]
    if draw.kind == "rpf" or draw.chance(0.15):
        for scope in ("default", *scopes):
            if draw.chance(0.5):
                out.append((f"net.ipv4.conf.{scope}.rp_filter", str(pick.choice((0, 1, 2, 1, 2)))))
    for scope in scopes:
        for key, probability in (
            ("accept_local", 0.08), ("src_valid_mark", 0.12), ("route_localnet", 0.08), ("log_martians", 0.05),
        ):  # fmt: skip
            if draw.chance(probability):
                out.append((f"net.ipv4.conf.{scope}.{key}", "1"))
        if draw.chance(0.15):
            out.append((f"net.ipv4.conf.{scope}.send_redirects", "0"))
    for name in draw.names:
        if draw.chance(0.07):
            out.append((f"net.ipv4.conf.{name}.forwarding", "0"))
        if draw.chance(0.1):
            out.append((f"net.ipv4.conf.{name}.ignore_routes_with_linkdown", "1"))
        if draw.six and draw.chance(0.1):
            out.append((f"net.ipv6.conf.{name}.ignore_routes_with_linkdown", "1"))
        if draw.six and draw.chance(0.08):
            out.append((f"net.ipv6.conf.{name}.forwarding", "0"))
        if draw.six and draw.chance(0.05):
            out.append((f"net.ipv6.conf.{name}.force_forwarding", "1"))
        if draw.six and draw.chance(0.03):
            out.append((f"net.ipv6.conf.{name}.disable_ipv6", "1"))
        if draw.six and draw.kind == "v6" and draw.chance(0.1):
            out.append((f"net.ipv6.conf.{name}.mtu", str(pick.choice((1280, 1400)))))
    if draw.six and draw.chance(0.15):
        out.append(("net.ipv6.conf.all.forwarding", "0"))
    if draw.chance(0.08):
        out.append(("net.ipv4.ip_forward", "0"))
    for key, value, probability in (
        ("net.ipv4.ip_forward_use_pmtu", "1", 0.2), ("net.ipv4.fib_multipath_hash_policy", "1", 0.3),
        ("net.ipv6.fib_multipath_hash_policy", "1", 0.2), ("net.ipv4.icmp_errors_use_inbound_ifaddr", "1", 0.15),
        ("net.ipv4.fwmark_reflect", "1", 0.15), ("net.ipv6.fwmark_reflect", "1", 0.15),
        ("net.ipv4.conf.all.bc_forwarding", "1", 0.03),
    ):  # fmt: skip
        if draw.chance(probability):
            out.append((key, value))


def _neighbours(draw: Drawing) -> None:
    """Permanent neighbours for every address that may be a next hop, on every device."""
    four = {f"10.{name[1:]}.0.{last}" for name in draw.names for last in range(4, 9)} if draw.four else set()
    six = {f"fe80::{last}" for last in range(4, 9)} if draw.six else set()
    for name in draw.names if draw.six else ():
        six |= {f"fd00{f':{name[1:]}' if name != 'd0' else ''}::{last}" for last in range(4, 9)}
    four.update(draw.own4)
    six.update(draw.own6)
    for flow in draw.topology.flows:
        (six if ":" in flow.src else four).update((flow.src, flow.dst))
    four |= set(NAT_TARGETS4) if draw.kind == "nat" else set()
    six |= set(NAT_TARGETS6) if draw.kind == "nat" and draw.six else set()
    for address in sorted(four) + sorted(six):
        if address in ("0.0.0.0", "::", "255.255.255.255") or address.startswith(("ff", "22", "23")):
            continue
        for name in draw.names:
            draw.topology.neighbours.append(
                f"neigh replace {address} lladdr {neighbour_mac(address)} dev {name} nud permanent"
            )
